"""Commands that run at the same time on one repository, as programs of their own."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from cfsctl.ostree.store.refs import find_tag
from cfsctl.repository import Repository
from cfsctl.repository.check.fsck import check_repository
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.programs import CFSCTL, cfsctl
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.ostree_repository import Tree

ROUNDS = 3
TIMEOUT_S = 300


def tree(name: str) -> Tree:
    shared = {f"shared{number}": f"shared {number}".encode() * 30 for number in range(60)}
    own = {f"{name}{number}": f"{name} {number}".encode() * 30 for number in range(60)}
    return {"usr": {**shared, **own}}


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    fake = FakeOstreeRepository()
    for name in ("one", "two"):
        fake.commit(tree(name), name)
    fake.write(tmp_path / "remote")
    return tmp_path / "remote"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_repository(tmp_path / "store").close()
    return tmp_path / "store"


class Programs:
    """Programs that have been started together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started: list[tuple[tuple[str, ...], subprocess.Popen[str]]] = []

    def start(self, *arguments: str) -> None:
        program = subprocess.Popen(
            [str(CFSCTL), "--repo", str(self._path), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append((arguments, program))

    def wait(self) -> list[str]:
        """Return what each printed; all must have succeeded."""
        outputs = [program.communicate(timeout=TIMEOUT_S) for _, program in self._started]
        for (arguments, program), (_, err) in zip(self._started, outputs, strict=True):
            assert program.returncode == 0, f"{arguments}: {err}"
        return [out for out, _ in outputs]


def check(path: Path, *tags: str) -> None:
    with Repository.open(str(path)) as repository:
        assert check_repository(repository, deep=True).findings == []
        assert all(find_tag(repository, tag) for tag in tags)


def test_two_pulls(path: Path, remote: Path) -> None:
    programs = Programs(path)
    for name in ("one", "two", "one"):
        programs.start("ostree", "pull-local", str(remote), name)
    outputs = programs.wait()
    assert outputs[0].splitlines()[:3] == outputs[2].splitlines()[:3]
    check(path, "one", "two")
    cfsctl("--repo", path, "gc")
    check(path, "one", "two")


def test_pull_beside_collections(path: Path, remote: Path) -> None:
    """What a pull has stored and not named yet is garbage to anybody who does not wait for it."""
    for _ in range(ROUNDS):
        programs = Programs(path)
        programs.start("gc")
        programs.start("ostree", "pull-local", str(remote), "one")
        programs.start("gc")
        programs.start("ostree", "pull-local", str(remote), "two")
        programs.start("gc", "--dry-run")
        programs.wait()
        check(path, "one", "two")
        cfsctl("--repo", path, "ostree", "untag", "one")


def test_create_image_beside_collections(path: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "usr").mkdir(parents=True)
        for number in range(100):
            (tmp_path / name / "usr" / f"file{number}").write_bytes(f"{name} {number // 2}".encode() * 30)
    for round_number in range(ROUNDS):
        programs = Programs(path)
        for name in ("a", "b", "a"):
            programs.start("gc")
            programs.start("create-image", str(tmp_path / name), f"{name}{round_number}")
        outputs = programs.wait()
        assert outputs[1] == outputs[5] != outputs[3]
        check(path)
        # The next round stores everything again.
        for name in ("a", "b"):
            os.unlink(path / "images" / "refs" / f"{name}{round_number}")
