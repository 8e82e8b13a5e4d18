"""Keys that are in the keyrings more than once, as the real `gpg` writes them, beside what `ostree` says."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cfsctl import gvariant
from cfsctl.gvariant import Variant
from cfsctl.ostree.trust.from_keys import trust_keys
from cfsctl.ostree.trust.policy import verify
from cfsctl.ostree.trust.remotes import load_remote
from cfsctl.ostree.trust.verdict import SignatureError
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.programs import CFSCTL, require
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.ostree.trust.policy import TrustPolicy

pytestmark = pytest.mark.compat

PAST, LATER = "20200101T000000!", "20200301T000000!"


class Site(NamedTuple):
    """A repository with a commit on a branch for each key, and exports of the keys at several times.

    Attributes:
        repo: The repository.
        commits: Commit by branch.
        keys: Directory of exports, each binary and, with ``.asc``, armoured.
    """

    repo: Path
    commits: dict[str, str]
    keys: Path


class Gpg:
    """The real one, with a home of its own."""

    def __init__(self, home: Path, keys: Path) -> None:
        self.home = home
        self.keys = keys
        home.mkdir(mode=0o700)
        keys.mkdir()

    def run(self, *arguments: str | Path, time: str | None = None) -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--yes", "--pinentry-mode", "loopback"]
        command += ["--passphrase", ""] + (["--faked-system-time", time] if time else [])
        return subprocess.run(
            [*command, *map(str, arguments)], check=True, capture_output=True, timeout=60
        ).stdout

    def export(self, name: str, file: str, *options: str) -> None:
        (self.keys / file).write_bytes(self.run(*options, "--export", f"{name}@x"))
        (self.keys / f"{file}.asc").write_bytes(self.run(*options, "--armor", "--export", f"{name}@x"))

    def fingerprints(self, name: str) -> list[str]:
        lines = self.run("--with-colons", "--list-keys", f"{name}@x").decode().split("\n")
        return [line.split(":")[9] for line in lines if line.startswith("fpr:")]

    def revocation(self, name: str) -> bytes:
        path = self.home / "openpgp-revocs.d" / f"{self.fingerprints(name)[0]}.rev"
        text = path.read_text().replace(":-----BEGIN", "-----BEGIN")
        return text[text.index("-----BEGIN") :].encode()

    def sign(self, repo: Path, commit: str, key: str, *, time: str | None = None) -> None:
        stem = repo / "objects" / commit[:2] / commit[2:]
        data = self.run("--detach-sign", "-u", key, "-o", "-", f"{stem}.commit", time=time)
        meta = gvariant.encode("a{sv}", [("ostree.gpgsigs", Variant("aay", [data]))])
        stem.with_name(f"{stem.name}.commitmeta").write_bytes(meta)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_ostree()
    require("gpg", "gnupg")
    require("gpgv")
    work = tmp_path_factory.mktemp("keyrings")
    repo = work / "repo"
    gpg = Gpg(work / "home", work / "keys")
    (work / "tree").mkdir()
    run_ostree(repo, "init", "--mode=archive")
    commits = {}
    for name in ("gone", "stale", "sub", "lost"):
        (work / "tree/name").write_text(name)
        commits[name] = run_ostree(repo, "commit", f"--branch={name}", f"--tree=dir={work / 'tree'}").strip()
    gpg.run("--quick-generate-key", "other <other@x>", "ed25519", "sign", "never")
    gpg.export("other", "other")
    # Revoked after the first export.
    gpg.run("--quick-generate-key", "gone <gone@x>", "ed25519", "sign", "never")
    gpg.sign(repo, commits["gone"], "gone@x")
    gpg.export("gone", "gone-old")
    (gpg.keys / "gone-certificate.asc").write_bytes(gpg.revocation("gone"))
    gpg.run("--import", gpg.keys / "gone-certificate.asc")
    gpg.export("gone", "gone-new")
    # Expired at the first export, prolonged at the second.
    gpg.run("--quick-generate-key", "stale <stale@x>", "ed25519", "sign", "2020-02-01", time=PAST)
    gpg.sign(repo, commits["stale"], "stale@x", time=PAST)
    gpg.export("stale", "stale-old")
    gpg.run("--quick-set-expire", gpg.fingerprints("stale")[0], "0")
    gpg.export("stale", "stale-new")
    # A subkey that came later.
    gpg.run("--quick-generate-key", "sub <sub@x>", "ed25519", "cert", "never", time=PAST)
    gpg.export("sub", "sub-old")
    gpg.run("--quick-add-key", gpg.fingerprints("sub")[0], "ed25519", "sign", "never", time=LATER)
    gpg.sign(repo, commits["sub"], gpg.fingerprints("sub")[1] + "!")
    gpg.export("sub", "sub-new")
    # A subkey that was revoked later.
    gpg.run("--quick-generate-key", "lost <lost@x>", "ed25519", "cert", "never", time=PAST)
    gpg.run("--quick-add-key", gpg.fingerprints("lost")[0], "ed25519", "sign", "never", time=PAST)
    gpg.sign(repo, commits["lost"], gpg.fingerprints("lost")[1] + "!")
    gpg.export("lost", "lost-old")
    command = [
        "gpg",
        "--homedir",
        str(gpg.home),
        "--no-tty",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ]
    script = b"key 1\nrevkey\ny\n0\n\ny\nsave\n"
    subprocess.run(
        [*command, "--command-fd", "0", "--edit-key", "lost@x"],
        input=script,
        check=True,
        capture_output=True,
        timeout=60,
    )
    gpg.export("lost", "lost-new")
    yield Site(repo, commits, gpg.keys)
    subprocess.run(["gpgconf", "--homedir", str(gpg.home), "--kill", "all"], check=False, timeout=120)


COPIES = {
    "gone": (("gone-old", "gone-new"), False),
    "gone-certificate": (("gone-old", "gone-certificate.asc"), False),
    "stale": (("stale-old", "stale-new"), True),
    "sub": (("sub-old", "sub-new"), True),
    "lost": (("lost-old", "lost-new"), False),
}
"""Two copies of a key, and whether its signature counts."""


def is_trusted(site: Site, name: str, policy: TrustPolicy) -> bool:
    commit = site.commits[name]
    stem = site.repo / "objects" / commit[:2] / commit[2:]
    data, meta = (stem.with_name(f"{stem.name}.{kind}").read_bytes() for kind in ("commit", "commitmeta"))
    try:
        verify("it", data, meta, policy, policy.commits)
    except SignatureError:
        return False
    return True


def armoured(path: Path) -> Path:
    return path if path.suffix == ".asc" else path.with_name(f"{path.name}.asc")


@pytest.mark.parametrize("is_reversed", [False, True], ids=["old-first", "new-first"])
@pytest.mark.parametrize("case", sorted(COPIES))
def test_two_copies_count_as_one(site: Site, tmp_path: Path, case: str, *, is_reversed: bool) -> None:
    names, is_right = COPIES[case]
    name = case.partition("-")[0]
    files = [site.keys / file for file in (reversed(names) if is_reversed else names)]
    together = {
        "binary": b"".join(file.read_bytes() for file in files),
        "armoured": b"".join(armoured(file).read_bytes() for file in files),
        "mixed": files[0].read_bytes() + armoured(files[1]).read_bytes(),
        "with-others": files[0].read_bytes() + (site.keys / "other").read_bytes() + files[1].read_bytes(),
        "with-text": b"# keys\n" + b"\n# and\n".join(armoured(file).read_bytes() for file in files),
    }
    if case == "gone-certificate":
        together.pop("binary")  # armour with packets behind it is "mixed"
    for form, data in together.items():
        (tmp_path / form).write_bytes(data)
        assert is_trusted(site, name, trust_keys(gpg_keyrings=[str(tmp_path / form)])) is is_right, form
    paths = [str(file) for file in files]
    assert is_trusted(site, name, trust_keys(gpg_keyrings=paths)) is is_right
    remotes = make_remotes(tmp_path, site, files)
    for remote in ("files", "directory", "beside", "both"):
        assert is_trusted(site, name, load_remote(remote, str(remotes)).policy) is is_right, remote


def make_remotes(tmp_path: Path, site: Site, files: list[Path]) -> Path:
    """Write remotes that have the keys in each place where they may be."""
    remotes, directory = tmp_path / "remotes", tmp_path / "directory"
    remotes.mkdir()
    directory.mkdir()
    for number, file in enumerate(files):
        shutil.copy(file, directory / f"{number}0-keys")
    url = f"url=file://{site.repo}"
    text = f"""
[remote "files"]\n{url}\ngpgkeypath={files[0]};{armoured(files[1])}
[remote "directory"]\n{url}\ngpgkeypath={directory}
[remote "beside"]\n{url}
[remote "both"]\n{url}\ngpgkeypath={files[1]}
"""
    (remotes / "all.conf").write_text(text)
    (remotes / "beside.trustedkeys.gpg").write_bytes(b"".join(file.read_bytes() for file in files))
    shutil.copy(files[0], remotes / "both.trustedkeys.gpg")
    return remotes


@pytest.mark.parametrize("is_reversed", [False, True], ids=["old-first", "new-first"])
@pytest.mark.parametrize("case", ["gone", "stale", "sub", "lost"])
def test_ostree_says_the_same(site: Site, tmp_path: Path, case: str, *, is_reversed: bool) -> None:
    names, is_right = COPIES[case]
    paths = ";".join(str(site.keys / file) for file in (reversed(names) if is_reversed else names))
    other = tmp_path / "other"
    run_ostree(other, "init", "--mode=bare-user")
    run_ostree(other, "remote", "add", f"--set=gpgkeypath={paths}", "r", f"file://{site.repo}")
    command = ["ostree", f"--repo={other}", "pull", "--commit-metadata-only", "r", case]
    theirs = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (theirs.returncode == 0) is is_right, theirs.stderr
    make_repository(tmp_path / "store").close()
    arguments = ["--repo", str(tmp_path / "store"), "ostree", "pull", "--remotes", str(other), "r", case]
    ours = subprocess.run([str(CFSCTL), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ours.returncode == (0 if is_right else 14), ours.stderr
