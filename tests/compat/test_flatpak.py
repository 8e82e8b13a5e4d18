"""Repositories of the real flatpak: signed, with a summary index, subsummaries and static deltas."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.nginx import run_nginx
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.programs import CFSCTL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.compat

METADATA = """\
[Application]
name={name}
runtime=org.example.Platform/x86_64/1
sdk=org.example.Sdk/x86_64/1
command=run
"""
ONE, TWO = "app/org.example.One/x86_64/stable", "app/org.example.Two/x86_64/stable"


class Remote(NamedTuple):
    """What flatpak has made.

    Attributes:
        path: The repository.
        url: The same, served.
        key: The key that it is signed by.
        old: The commit of `ONE` before the last.
    """

    path: Path
    url: str
    key: Path
    old: str


class _Flatpak:
    """Builds apps and exports them, signed."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.repository = work / "repo"
        home = work / "gnupg"
        home.mkdir(mode=0o700)
        self._environ = {**os.environ, "HOME": str(work), "GNUPGHOME": str(home)}
        self.run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "test@example.org", "ed25519")
        listing = self.run("gpg", "--list-keys", "--with-colons")
        key = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
        self.run("gpg", "--export", "--output", str(work / "key.gpg"), key)
        self.signing = [f"--gpg-sign={key}", f"--gpg-homedir={home}"]

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.work, env=self._environ, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode and "build-export" in command:
            pytest.skip(f"flatpak cannot build here: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def export(self, name: str, version: int) -> None:
        """Build a version of an app; one in ten of its files is another one than before."""
        build = self.work / "build"
        shutil.rmtree(build, ignore_errors=True)
        (build / "files" / "bin").mkdir(parents=True)
        (build / "files" / "share").mkdir()
        (build / "export").mkdir()
        (build / "metadata").write_text(METADATA.format(name=name))
        (build / "files" / "bin" / "run").write_text(f"#!/bin/sh\necho {version}\n")
        for number in range(30):
            random = Random(f"{name} {number} {version if number % 10 == 0 else 0}")
            (build / "files" / "share" / str(number)).write_bytes(random.randbytes(700 * number))
        self.run("flatpak", "build-export", *self.signing, str(self.repository), str(build), "stable")


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    require_ostree()
    for program in ("flatpak", "gpg"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    work = tmp_path_factory.mktemp("flatpak")
    flatpak = _Flatpak(work)
    flatpak.export("org.example.One", 1)
    flatpak.export("org.example.Two", 1)
    old = run_ostree(flatpak.repository, "rev-parse", ONE).strip()
    flatpak.export("org.example.One", 2)
    update = ["flatpak", "build-update-repo", "--generate-static-deltas", *flatpak.signing]
    flatpak.run(*update, str(flatpak.repository))
    (work / "nginx").mkdir()
    with run_nginx(flatpak.repository, work / "nginx") as nginx:
        yield Remote(flatpak.repository, nginx.url, work / "key.gpg", old)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    subprocess.run([CFSCTL, "init", "--insecure", tmp_path / "store"], check=True, capture_output=True)
    return tmp_path / "store"


def cfsctl(store: Path, *arguments: str | Path, status: int = 0) -> str:
    environ = {**os.environ, "HOME": str(store.parent)}
    command = [CFSCTL, "--repo", store, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environ)
    assert done.returncode == status, done.stderr
    return done.stdout


def pull(store: Path, remote: Remote, *arguments: str) -> list[dict[str, Any]]:
    trust = ("--gpg-key", remote.key, "--verify-summary")
    text = cfsctl(store, "ostree", "pull", "--json", *trust, remote.url, *arguments)
    commits: list[dict[str, Any]] = json.loads(text)["commits"]
    return commits


def head(remote: Remote, ref: str) -> str:
    return run_ostree(remote.path, "rev-parse", ref).strip()


def check_export(store: Path, ref: str, commit: str) -> None:
    """Hand a commit to the real client, which reads every byte of it."""
    target = store.parent / "exported"
    target.mkdir()
    run_ostree(target, "init", "--mode=bare-user")
    cfsctl(store, "ostree", "export", commit, target, "--reference", ref)
    run_ostree(target, "fsck", "--quiet")
    assert run_ostree(target, "rev-parse", ref).strip() == commit


@pytest.mark.parametrize("options", [(), ("--subset=x86_64",)], ids=["summary", "subsummary"])
def test_refs_are_listed(options: tuple[str, ...], store: Path, remote: Remote) -> None:
    expected = {ref: head(remote, ref) for ref in run_ostree(remote.path, "refs").split()}
    document = json.loads(cfsctl(store, "ostree", "list-refs", "--json", *options, remote.url))
    assert {one["name"]: one["commit"] for one in document["refs"]} == expected
    assert {ONE, TWO} <= expected.keys()


@pytest.mark.parametrize(
    "options", [(), ("--no-delta",), ("--subset=x86_64",)], ids=["delta", "objects", "subset"]
)
def test_signed_commit_is_pulled_whole(options: tuple[str, ...], store: Path, remote: Remote) -> None:
    (pulled,) = pull(store, remote, *options, ONE)
    assert (pulled["commit"], pulled["tag"]) == (head(remote, ONE), ONE)
    assert pulled["signatures"]
    assert bool(pulled["delta_parts"]) == ("--no-delta" not in options)
    check_export(store, ONE, pulled["commit"])


def test_update_takes_the_delta_between_versions(store: Path, remote: Remote) -> None:
    pull(store, remote, "--no-delta", remote.old)
    (pulled,) = pull(store, remote, ONE)
    assert pulled["delta_parts"] == 1
    assert pulled["received_bytes"] < 300_000
    check_export(store, ONE, pulled["commit"])


def test_part_of_an_app_and_then_the_rest(store: Path, remote: Remote) -> None:
    (part,) = pull(store, remote, "--subpath=/files/bin", ONE)
    assert part["partial"]
    assert part["files_fetched"] == 1
    (whole,) = pull(store, remote, ONE)
    assert not whole["partial"]
    check_export(store, ONE, whole["commit"])


def test_mirror_of_everything(store: Path, remote: Remote) -> None:
    expected = {ref: head(remote, ref) for ref in run_ostree(remote.path, "refs").split()}
    assert {one["tag"]: one["commit"] for one in pull(store, remote, "--mirror")} == expected
    cfsctl(store, "fsck", "--deep")


def test_without_the_key_nothing_is_taken(store: Path, remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = _Flatpak(tmp_path / "other")
    trust = ("--gpg-key", other.work / "key.gpg")
    cfsctl(store, "ostree", "pull", *trust, remote.url, ONE, status=14)
    assert cfsctl(store, "ostree", "images") == "No ostree commits found\n"
