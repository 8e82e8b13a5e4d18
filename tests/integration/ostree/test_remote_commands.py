"""`remote add`, `list`, `show` and `remove`: files that the ostree client reads the same way."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.programs import cfsctl, require, run_cfsctl
from tests.support.signatures import sign_detached

if TYPE_CHECKING:
    from pathlib import Path

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
OTHER = base64.b64encode(bytes(Ed25519PrivateKey.generate().public_key().public_bytes_raw())).decode()


@pytest.fixture
def remotes(tmp_path: Path) -> tuple[str, ...]:
    return ("--remotes", str(tmp_path / "etc" / "remotes.d"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a repository with a branch whose commit is signed."""
    fake = FakeOstreeRepository()
    commit = fake.commit({"usr": {"file": b"content" * 100}}, "main")
    fake.write(tmp_path / "source")
    path = tmp_path / "source" / "objects" / commit.hex()[:2] / f"{commit.hex()[2:]}.commit"
    path.with_suffix(".commitmeta").write_bytes(sign_detached(KEY, path.read_bytes()))
    return tmp_path / "source"


def test_a_remote_from_the_beginning_to_the_end(
    tmp_path: Path, remotes: tuple[str, ...], source: Path
) -> None:
    assert cfsctl("remote", "list", *remotes) == "No remotes configured\n"
    key = f"ed25519=inline:{PUBLIC}"
    cfsctl("remote", "add", *remotes, "main", f"file://{source}", "--verify-key", key)
    listed = json.loads(cfsctl("remote", "list", *remotes, "--json"))
    assert listed["remotes"] == [{"name": "main", "url": f"file://{source}"}]
    shown = cfsctl("remote", "show", *remotes, "main")
    assert "signatures of commits: ed25519\n" in shown
    assert f"accepted key: ed25519 {base64.b64decode(PUBLIC).hex()}" in shown
    cfsctl("init", "--insecure", tmp_path / "r")
    cfsctl("--repo", tmp_path / "r", "ostree", "pull", *remotes, "main", "main")
    # With another key, what it has is refused.
    cfsctl(
        "remote",
        "add",
        "--force",
        *remotes,
        "main",
        f"file://{source}",
        f"--verify-key=ed25519=inline:{OTHER}",
    )
    cfsctl("init", "--insecure", tmp_path / "other")
    done = run_cfsctl("--repo", tmp_path / "other", "ostree", "pull", *remotes, "main", "main")
    assert done.returncode == 14
    cfsctl("remote", "remove", *remotes, "main")
    assert os.listdir(remotes[1]) == []
    done = run_cfsctl("--repo", tmp_path / "other", "ostree", "pull", *remotes, "main", "main")
    assert done.returncode == 17


def test_names_that_are_taken(remotes: tuple[str, ...]) -> None:
    add = ("remote", "add", *remotes, "--no-gpg-verify", "one")
    cfsctl(*add, "https://example.com/first")
    done = run_cfsctl(*add, "https://example.com/second")
    assert done.returncode == 2
    assert "is configured in" in done.stderr
    cfsctl(*add, "https://example.com/second", "--if-not-exists")
    assert "first" in cfsctl("remote", "list", *remotes)
    cfsctl(*add, "https://example.com/second", "--force")
    assert "second" in cfsctl("remote", "list", *remotes)
    cfsctl("remote", "remove", *remotes, "one")
    assert run_cfsctl("remote", "remove", *remotes, "one").returncode == 17
    cfsctl("remote", "remove", *remotes, "one", "--if-exists")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["../x", "https://a"], "expected letters"),
        (["a b", "https://a"], "expected letters"),
        (["", "https://a"], "expected letters"),
        (['a"]', "https://a"], "expected letters"),
        (["a", "https://a\n[remote]"], "control characters"),
        (["a", "https://a", "--set", "x"], "KEY=VALUE"),
        (["a", "https://a", "--set", "x y=1"], "expected letters"),
        (["a", "https://a", "--collection-id", "c\nurl=x"], "control characters"),
        (["a", "https://a", "--gpg-key", "/dev/null"], "expected a regular file"),
        (["a", "https://a", "--verify-key", "ed25519=inline:short"], "key"),
        (["a", "https://a", "--verify-key", "rsa=inline:AAAA"], "rsa"),
        (["a", "https://a", "--set", "gpg-verify=maybe"], "expected true or false"),
        (["a", "https://a"], "expected OpenPGP keys"),
    ],
)
def test_what_cannot_be_used_changes_nothing(
    arguments: list[str], text: str, remotes: tuple[str, ...], tmp_path: Path
) -> None:
    if text == "expected OpenPGP keys" and os.path.isdir("/usr/share/ostree/trusted.gpg.d"):
        pytest.skip("this system has keys")
    with_keys = {"--gpg-key", "--verify-key", "gpg-verify=maybe"} & {*arguments}
    extra = [] if with_keys or text == "expected OpenPGP keys" else ["--no-gpg-verify"]
    done = run_cfsctl("remote", "add", *remotes, *extra, *arguments)
    assert done.returncode in {2, 14}, done.stderr
    assert text in done.stderr
    assert not any(files for _, _, files in os.walk(tmp_path))


def test_credentials_are_not_for_everybody(remotes: tuple[str, ...], tmp_path: Path) -> None:
    cfsctl("remote", "add", *remotes, "--no-gpg-verify", "one", "https://user:secret@example.com/repo")
    cfsctl("remote", "add", *remotes, "--no-gpg-verify", "two", "https://example.com/repo")
    directory = tmp_path / "etc" / "remotes.d"
    assert stat.S_IMODE((directory / "one.conf").stat().st_mode) == 0o600
    assert stat.S_IMODE((directory / "two.conf").stat().st_mode) == 0o644
    for command in (["list"], ["list", "--json"], ["show", "one"], ["show", "one", "--json"]):
        assert "secret" not in cfsctl("remote", command[0], *remotes, *command[1:])


def test_other_remotes_of_a_file_stay(remotes: tuple[str, ...], tmp_path: Path) -> None:
    directory = tmp_path / "etc" / "remotes.d"
    directory.mkdir(parents=True)
    text = '# ours\n[remote "a"]\nurl=https://a\ngpg-verify=false\n\n[remote "b"]\nurl=https://b\ngpg-verify=false\n'
    (directory / "both.conf").write_text(text)
    (directory / "a.trustedkeys.gpg").write_bytes(b"keys")
    cfsctl("remote", "remove", *remotes, "a")
    assert sorted(os.listdir(directory)) == ["both.conf"]
    assert (directory / "both.conf").read_text() == '# ours\n[remote "b"]\nurl=https://b\ngpg-verify=false\n'
    cfsctl("remote", "add", "--force", "--no-gpg-verify", *remotes, "b", "https://c")
    assert "https://c" in cfsctl("remote", "list", *remotes)
    assert "https://b" not in (directory / "both.conf").read_text()
    assert (directory / "both.conf").read_text().startswith("# ours\n")


def test_the_client_knows_the_same_remotes(tmp_path: Path, remotes: tuple[str, ...]) -> None:
    require_ostree()
    require("gpg", "gnupg")
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    subprocess.run(
        [*gpg, "--quick-generate-key", "me <me@x>", "ed25519", "sign", "never"], check=True, timeout=60
    )
    try:
        listed = subprocess.run(
            [*gpg, "--list-keys", "--with-colons"], check=True, capture_output=True, text=True, timeout=60
        ).stdout
        (fingerprint,) = [line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")]
        exported = subprocess.run([*gpg, "--export"], check=True, capture_output=True, timeout=60).stdout
        (tmp_path / "key.gpg").write_bytes(exported)
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "file").write_text("content")
        source = tmp_path / "source"
        source.mkdir()
        run_ostree(source, "init", "--mode=archive")
        sign = [f"--gpg-homedir={home}", f"--gpg-sign={fingerprint}"]
        run_ostree(source, "commit", "--branch=main", f"--tree=dir={tmp_path / 'tree'}", *sign)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, timeout=120)
    cfsctl("remote", "add", *remotes, "main", f"file://{source}", "--gpg-key", tmp_path / "key.gpg")
    client = tmp_path / "client"
    client.mkdir()
    run_ostree(client, "init", "--mode=bare-user")
    # The client reads the files of the system, or of a directory that a repository's configuration names.
    run_ostree(client, "config", "set", "core.add-remotes-config-dir", "false")
    (client / "config").write_text(
        (client / "config").read_text() + (tmp_path / "etc" / "remotes.d" / "main.conf").read_text()
    )
    (client / "main.trustedkeys.gpg").write_bytes(
        (tmp_path / "etc" / "remotes.d" / "main.trustedkeys.gpg").read_bytes()
    )
    run_ostree(client, "pull", "main", "main")
    cfsctl("init", "--insecure", tmp_path / "r")
    cfsctl("--repo", tmp_path / "r", "ostree", "pull", *remotes, "main", "main")
