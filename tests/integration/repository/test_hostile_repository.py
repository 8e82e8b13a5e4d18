"""Repositories of somebody else, whose owner puts things where others are expected, also meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import CfsError
from cfsctl.ostree.sources.local_refs import list_branches
from cfsctl.ostree.sources.local_repository import LocalRepository, NotAnOstreeRepositoryError
from cfsctl.repository import Repository
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.check.objects import CheckFailedError
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.repair.repair import repair_repository
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Callable

_IN_OPEN = 0x20
_IN_NONBLOCK = 0o4000
_NAME = "b" * 126


def _check(repository: Repository) -> None:
    check_repository(repository, deep=True, workers=0)


def _store(repository: Repository) -> None:
    stored = repository.objects.ensure_bytes(b"content" * 100)
    repository.sync()
    repository.save_marks([stored.object_id])


def _link(place: str, target: str) -> Callable[[Path], None]:
    def spoil(repository: Path) -> None:
        (repository / place).parent.mkdir(parents=True, exist_ok=True)
        (repository / place).symlink_to(target)

    return spoil


def _node(place: str) -> Callable[[Path], None]:
    def spoil(repository: Path) -> None:
        (repository / place).parent.mkdir(parents=True, exist_ok=True)
        (repository / place).unlink(missing_ok=True)
        (repository / place).hardlink_to(repository.parent / "device")

    return spoil


PLACES = {
    "image": _link("images/" + "a" * 128, "../../device"),
    "absolute image": _link("images/" + "a" * 128, "/dev/null"),
    "stream": _link("streams/x", "../../device"),
    "image ref": _link("images/refs/r", "../../../device"),
    "stream ref": _link("streams/refs/r", "../../../device"),
    "linked object": _link(f"objects/aa/{_NAME}", "../../../device"),
    "object": _node(f"objects/aa/{_NAME}"),
    "metadata": _node("meta.json"),
    "marks": _node(".cfsctl-verified"),
    "scan cache": _node(".cfsctl-scan-cache"),
    "image memory": _node(".cfsctl-image-memory"),
    "leftover": _node(".tmp-object-abcdefghijkl"),
    "quarantine": _node(f".cfsctl-quarantine/{_NAME}"),
}


@pytest.mark.privileged
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("place", PLACES.keys())
def test_no_device_is_opened(tmp_path: Path, place: str) -> None:
    """Opening alone could arm a watchdog or rewind a tape."""
    device = tmp_path / "device"
    os.mknod(device, 0o20600, os.makedev(1, 3))
    repository = tmp_path / "r"
    make_repository(repository).close()
    PLACES[place](repository)
    libc = ctypes.CDLL(None)
    events = libc.inotify_init1(_IN_NONBLOCK)
    libc.inotify_add_watch(events, os.fsencode(device), _IN_OPEN)
    try:
        for work in (_check, repair_repository, collect_garbage, _store):
            with contextlib.suppress(CfsError, OSError), Repository.open(os.fspath(repository)) as opened:
                work(opened)
            with pytest.raises(BlockingIOError):
                os.read(events, 4096)
    finally:
        os.close(events)


def test_repair_removes_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner swaps a directory for a link as soon as what was in it is in quarantine."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "passwd").write_text("precious")
    with make_repository(tmp_path / "r") as repository:
        directory = Path(repository.path) / "objects" / "ab"
        directory.mkdir(parents=True)
        (directory / "passwd").write_text("x")
        link = os.link
        swapped: list[Path] = []

        def link_and_swap(*arguments: object, **options: object) -> None:
            link(*arguments, **options)  # type: ignore[arg-type]  # as they were given
            if not swapped:
                swapped.append(directory.rename(tmp_path / "away"))
                directory.symlink_to(victim)

        monkeypatch.setattr(os, "link", link_and_swap)
        with pytest.raises(CheckFailedError, match="objects/ab"):  # the link, when it looks again
            repair_repository(repository, workers=0)
    assert swapped
    assert (victim / "passwd").read_text() == "precious"
    assert not (tmp_path / "away" / "passwd").exists()


def _make_ostree(path: Path) -> Path:
    for name in ("objects", "refs/heads", "tmp", "state"):
        (path / name).mkdir(parents=True)
    (path / "config").write_text("[core]\nrepo_version=1\nmode=archive-z2\n")
    return path


def test_nothing_is_written_through_a_link_to_objects(tmp_path: Path) -> None:
    ostree = _make_ostree(tmp_path / "o")
    (tmp_path / "elsewhere").mkdir()
    (ostree / "objects").rmdir()
    (ostree / "objects").symlink_to(tmp_path / "elsewhere")
    LocalRepository(os.fspath(ostree)).close()
    with pytest.raises(NotAnOstreeRepositoryError, match="objects"):
        LocalRepository(os.fspath(ostree), is_written=True)


def test_files_that_begin_with_a_dot_are_no_branches(tmp_path: Path) -> None:
    ostree = _make_ostree(tmp_path / "o")
    heads = ostree / "refs" / "heads"
    (heads / "a").mkdir()
    (heads / "a" / ".latest_rsync").touch()
    (heads / ".nfs0001").write_text("x")
    (heads / ".hidden").mkdir()
    (heads / ".hidden" / "branch").write_text("x")
    (heads / "a" / "one").write_text("1" * 64 + "\n")
    for number in range(10_001):
        (heads / f"b{number}").write_text("2" * 64 + "\n")
    repository = LocalRepository(os.fspath(ostree))
    try:
        branches = list_branches(repository)
    finally:
        repository.close()
    assert len(branches) == 10_002
    assert branches["a/one"].hex() == "1" * 64
