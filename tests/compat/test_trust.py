"""Commits and summaries that the real `gpg` signed, good and bad, from a directory and from nginx."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest

from cfsctl import gvariant
from cfsctl.gvariant import Value, Variant
from tests.support.nginx import Nginx, run_nginx
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.programs import CFSCTL, require
from tests.support.repositories import make_repository, view

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.compat


class Site(NamedTuple):
    """A repository with a commit on ``main``, signed in some way on each other branch; and the keys.

    Attributes:
        path: The repository.
        home: Of gpg.
        keys: Public keys by name, binary.
    """

    path: Path
    home: Path
    keys: Path


def gpg(home: Path, *arguments: str | Path) -> bytes:
    command = [
        "gpg",
        "--homedir",
        str(home),
        "--batch",
        "--yes",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ]
    done = subprocess.run([*command, *map(str, arguments)], check=True, capture_output=True, timeout=60)
    return done.stdout


def sign(site: Site, commit: str, key: str, *options: str) -> None:
    """Put one more signature into a commit's detached metadata, as `ostree gpg-sign` does."""
    stem = site.path / "objects" / commit[:2] / commit[2:]
    signature = gpg(site.home, *options, "--detach-sign", "-u", f"{key}@x", "-o", "-", f"{stem}.commit")
    file = stem.with_name(f"{stem.name}.commitmeta")
    old = gvariant.decode("a{sv}", file.read_bytes()) if file.exists() else []
    blobs: list[Value] = []
    for _, variant in cast("list[tuple[str, Variant]]", old):
        blobs += cast("list[Value]", variant.value)
    new = Variant("aay", [*blobs, signature])
    file.write_bytes(gvariant.encode("a{sv}", [("ostree.gpgsigs", new)]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_ostree()
    require("gpg", "gnupg")
    require("gpgv")
    work = tmp_path_factory.mktemp("trust")
    site = Site(work / "repo", work / "home", work / "keys")
    site.keys.mkdir()
    site.home.mkdir(mode=0o700)
    tree = work / "tree"
    tree.mkdir()
    run_ostree(site.path, "init", "--mode=archive")
    commits = {}
    for name in ("main", "none", "wrong", "two", "swapped", "late", "old", "revoked", "sha1", "junk"):
        (tree / "name").write_text(name)
        commits[name] = run_ostree(site.path, "commit", f"--branch={name}", f"--tree=dir={tree}").strip()
    past = "20200101T000000!"
    for name, options in {
        "good": (),
        "other": (),
        "gone": (),
        "stale": ("--faked-system-time", past),
        "lasting": ("--faked-system-time", past),
    }.items():
        expiry = "2020-02-01" if name == "stale" else "never"
        gpg(site.home, *options, "--quick-generate-key", f"{name} <{name}@x>", "ed25519", "sign", expiry)
    sign(site, commits["main"], "good")
    sign(site, commits["wrong"], "other")
    sign(site, commits["two"], "other")
    sign(site, commits["two"], "good")
    sign(site, commits["old"], "stale", "--faked-system-time", "20200110T000000!")
    sign(site, commits["late"], "lasting", "--faked-system-time", past, "--default-sig-expire", "1d")
    sign(site, commits["revoked"], "gone")
    sign(site, commits["sha1"], "good", "--digest-algo", "SHA1")
    objects = site.path / "objects"
    stems = {name: objects / commit[:2] / commit[2:] for name, commit in commits.items()}
    shutil.copy(f"{stems['main']}.commitmeta", f"{stems['swapped']}.commitmeta")
    stems["junk"].with_name(f"{stems['junk'].name}.commitmeta").write_bytes(b"junk")
    revocation = next((site.home / "openpgp-revocs.d").glob(f"{fingerprint(site, 'gone')}.rev"))
    text = revocation.read_text().replace(":-----BEGIN", "-----BEGIN")
    revocation.write_text(text[text.index("-----BEGIN") :])
    gpg(site.home, "--import", revocation)
    for name in ("good", "other", "gone", "stale", "lasting"):
        (site.keys / name).write_bytes(gpg(site.home, "--export", f"{name}@x"))
    (site.keys / "good.asc").write_bytes(gpg(site.home, "--armor", "--export", "good@x"))
    run_ostree(site.path, "summary", "-u")
    gpg(site.home, "--detach-sign", "-u", "good@x", "-o", work / "summary.gpg", site.path / "summary")
    write_summary_signature(site, (work / "summary.gpg").read_bytes())
    yield site
    subprocess.run(["gpgconf", "--homedir", str(site.home), "--kill", "all"], check=False, timeout=120)


def write_summary_signature(site: Site, signature: bytes) -> None:
    data = gvariant.encode("a{sv}", [("ostree.gpgsigs", Variant("aay", [signature]))])
    (site.path / "summary.sig").write_bytes(data)


def fingerprint(site: Site, name: str) -> str:
    lines = gpg(site.home, "--with-colons", "--list-keys", f"{name}@x").decode().splitlines()
    return next(line.split(":")[9] for line in lines if line.startswith("fpr:"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_repository(tmp_path / "store").close()
    return tmp_path / "store"


def run(store: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [CFSCTL, "--repo", store, "ostree", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def tags(store: Path) -> list[str]:
    return [name for name in view(store) if name.startswith("streams/refs/ostree/")]


GOOD = {"main": "good", "two": "good", "two-other": "other", "wrong": "other", "main-armoured": "good.asc"}


@pytest.mark.parametrize("case", sorted(GOOD))
def test_signed_by_a_key_that_counts(site: Site, store: Path, case: str) -> None:
    key = site.keys / GOOD[case]
    branch = case.partition("-")[0]
    done = run(store, "pull-local", site.path, branch, "--gpg-key", key)
    assert done.returncode == 0, done.stderr
    name = GOOD[case].partition(".")[0]
    line = f"signed  gpg key {fingerprint(site, name)} ({name} <{name}@x>)\n"
    assert line in done.stdout
    assert line in run(store, "inspect", branch).stdout
    assert line in run(store, "verify", branch, "--gpg-key", key).stdout
    refused = run(store, "verify", branch, "--gpg-key", site.keys / "gone")
    assert refused.returncode == 14


BAD = {
    "none": ("good", "found no signature"),
    "wrong": ("good", "signature 1 is by a key that is not in the keyring"),
    "swapped": ("good", "signature 1 is not over these bytes"),
    "late": ("lasting", "signature 1 has expired"),
    "old": ("stale", "signature 1 is by a key that has expired"),
    "revoked": ("gone", "signature 1 is by a key that was revoked"),
    "sha1": ("good", "signature 1 uses a hash that can be forged"),
    "junk": ("good", "expected detached signatures, found "),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_refused(site: Site, store: Path, case: str) -> None:
    key, text = BAD[case]
    done = run(store, "pull-local", site.path, case, "--gpg-key", site.keys / key)
    assert done.returncode == 14, done.stderr
    assert text in done.stderr
    assert tags(store) == []
    assert not [name for name in view(store) if name.startswith("streams/ostree-commit-")]


def test_what_is_stored_unverified_is_verified_later(site: Site, store: Path) -> None:
    run(store, "pull-local", site.path, "main")
    assert "signed" not in run(store, "inspect", "main").stdout
    assert run(store, "pull-local", site.path, "main", "--gpg-key", site.keys / "other").returncode == 14
    assert run(store, "pull-local", site.path, "main", "--gpg-key", site.keys / "good").returncode == 0
    assert "signed  gpg key " in run(store, "inspect", "main").stdout
    assert run(store, "pull-local", site.path, "none").returncode == 0
    assert run(store, "pull-local", site.path, "none", "--gpg-key", site.keys / "good").returncode == 14


@pytest.fixture
def nginx(site: Site, tmp_path: Path) -> Iterator[tuple[Nginx, Path]]:
    """The repository, copied so that a test may change it."""
    root, work = tmp_path / "served", tmp_path / "nginx"
    shutil.copytree(site.path, root, symlinks=True)
    work.mkdir()
    with run_nginx(root, work) as server:
        yield server, root


@pytest.mark.parametrize("damage", ["none", "no-summary", "no-signature", "changed", "other-key", "unlisted"])
def test_summary(site: Site, store: Path, nginx: tuple[Nginx, Path], damage: str) -> None:
    server, root = nginx
    key = site.keys / ("other" if damage == "other-key" else "good")
    branch = "wrong" if damage == "other-key" else "main"
    if damage == "no-summary":
        (root / "summary").unlink()
    elif damage == "no-signature":
        (root / "summary.sig").unlink()
    elif damage == "changed":
        data = bytearray((root / "summary").read_bytes())
        data[-20] ^= 1
        (root / "summary").write_bytes(data)
    elif damage == "unlisted":
        (root / "refs/heads/new").write_bytes((root / "refs/heads/main").read_bytes())
        branch = "new"
    done = run(store, "pull", server.url, branch, "--gpg-key", key, "--verify-summary")
    if damage == "none":
        assert done.returncode == 0, done.stderr
        assert "signed  gpg key" in done.stdout
        return
    assert done.returncode == (17 if damage == "unlisted" else 14), done.stderr
    assert "summary" in done.stderr
    assert tags(store) == []
    assert not [path for _, _, path in server.read_requests() if path.startswith(("/objects", "/refs"))]


def test_a_summary_of_yesterday(
    site: Site, store: Path, nginx: tuple[Nginx, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is signed by the right key, and hides what came after it."""
    server, root = nginx
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    demand = ("--gpg-key", site.keys / "good", "--verify-summary")
    old = {name: (root / name).read_bytes() for name in ("summary", "summary.sig")}
    time.sleep(1.1)  # the summary has whole seconds
    run_ostree(root, "summary", "-u")
    gpg(site.home, "--detach-sign", "-u", "good@x", "-o", tmp_path / "signature", root / "summary")
    write_summary_signature(site._replace(path=root), (tmp_path / "signature").read_bytes())
    assert run(store, "pull", server.url, "main", *demand).returncode == 0
    for name, data in old.items():
        (root / name).write_bytes(data)
    refused = run(store, "pull", server.url, "two", *demand)
    assert refused.returncode == 14
    assert "or later, found one of " in refused.stderr
    assert tags(store) == ["streams/refs/ostree/main"]
    allowed = run(store, "pull", server.url, "two", *demand, "--allow-downgrade")
    assert allowed.returncode == 0, allowed.stderr


@pytest.mark.parametrize("keyring", ["good", "other", None])
def test_a_configured_remote(
    site: Site, store: Path, nginx: tuple[Nginx, Path], tmp_path: Path, keyring: str | None
) -> None:
    remotes = tmp_path / "remotes.d"
    remotes.mkdir()
    (remotes / "x.conf").write_text(f'[remote "x"]\nurl={nginx[0].url}\ngpg-verify-summary=true\n')
    if keyring is not None:
        shutil.copy(site.keys / keyring, remotes / "x.trustedkeys.gpg")
    done = run(store, "pull", "x", "main", "--remotes", remotes)
    assert done.returncode == (0 if keyring == "good" else 14), done.stderr
    assert bool(tags(store)) == (keyring == "good")
    verified = run(store, "verify", "main", "--remote", "x", "--remotes", remotes)
    assert verified.returncode == {"good": 0, "other": 17, None: 14}[keyring]


@pytest.mark.parametrize("needs_summary", [False, True])
def test_a_configured_remote_on_this_machine(
    site: Site, store: Path, tmp_path: Path, *, needs_summary: bool
) -> None:
    remotes = tmp_path / "remotes.d"
    remotes.mkdir()
    demand = f"gpg-verify-summary={str(needs_summary).lower()}"
    (remotes / "x.conf").write_text(f'[remote "x"]\nurl=file://{site.path}\n{demand}\n')
    shutil.copy(site.keys / "good", remotes / "x.trustedkeys.gpg")
    done = run(store, "pull", "x", "main", "--remotes", remotes)
    assert done.returncode == 0, done.stderr
    assert "signed  gpg key" in done.stdout
    assert run(store, "pull", "x", "wrong", "--remotes", remotes).returncode == 14
    (remotes / "y.conf").write_text(f'[remote "y"]\nurl=file://{tmp_path / "other"}\n{demand}\n')
    shutil.copy(site.keys / "good", remotes / "y.trustedkeys.gpg")
    shutil.copytree(site.path, tmp_path / "other", symlinks=True)
    (tmp_path / "other/summary.sig").unlink()
    done = run(store, "pull", "y", "main", "--remotes", remotes)
    assert done.returncode == (14 if needs_summary else 0), done.stderr
    listed = run(store, "list-refs", f"file://{site.path}")
    assert "│ main " in listed.stdout, listed.stderr
    assert run(store, "pull", f"file://{site.path}", "two").returncode == 0


def test_nothing_of_a_tree_is_fetched_before_the_signature(
    site: Site, store: Path, nginx: tuple[Nginx, Path]
) -> None:
    assert run(store, "pull", nginx[0].url, "none", "--gpg-key", site.keys / "good").returncode == 14
    paths = [path for _, _, path in nginx[0].read_requests() if path.startswith("/objects")]
    assert sorted(path.rpartition(".")[2] for path in paths) == ["commit", "commitmeta"]


def test_collection(site: Site, store: Path) -> None:
    bound = ("--bind-ref=bound", "--add-metadata-string=ostree.collection-binding=org.x")
    commit = run_ostree(site.path, "commit", "--branch=bound", "--orphan", *bound, "--tree=ref=main").strip()
    for collection, status in (("org.x", 0), ("org.y", 14)):
        done = run(store, "pull-local", site.path, commit, "--collection-id", collection)
        assert done.returncode == status, done.stderr
    done = run(store, "pull-local", site.path, "main", "--collection-id", "org.x")
    assert done.returncode == 14
    assert "ostree.collection-binding: expected 'org.x', found none" in done.stderr
