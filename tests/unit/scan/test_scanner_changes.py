"""Trees that change while they are scanned: an error that names the place, and nothing stored wrongly.

The mischief happens inside a system call of the scan, at the moment the comment names.
"""

from __future__ import annotations

import heapq
import os
import stat
import time
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.scan import ChangedError, scan_directory
from tests.support.repositories import make_repository
from tests.support.scans import describe_directory, describe_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cfsctl.scan import ObjectSink
    from cfsctl.tree.model import FileSystem

SIZES = {"inline": 10, "short": 5000, "long": 100_000, "huge": (1 << 20) + 1}
CASES = [
    (kind, stored) for kind in SIZES for stored in (False, True) if not stored or kind in {"short", "huge"}
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with files of every kind of reading."""
    root = tmp_path / "tree"
    (root / "sub" / "below").mkdir(parents=True)
    for name, size in SIZES.items():
        (root / "sub" / name).write_bytes(os.urandom(size))
    (root / "sub" / "link").symlink_to("target")
    # Far enough in the past for the clock that stamps files to have moved on.
    time.sleep(0.02)
    return root


def _scan(root: Path, store: ObjectSink | None = None) -> FileSystem:
    return scan_directory(os.fspath(root), algorithm=Algorithm.SHA512, store=store, workers=0)


def _hook(
    monkeypatch: pytest.MonkeyPatch, function: str, mischief: Callable[[], None], *, name: str | None = None
) -> None:
    """Do something once, just before a call: the first one, or the first that is about a name."""
    real = getattr(os, function)
    done: list[bool] = []

    def hooked(target: object, *args: object, **options: object) -> object:
        is_it = name is None or (isinstance(target, bytes) and target.endswith(name.encode()))
        if is_it and not done:
            done.append(True)
            mischief()
        return real(target, *args, **options)

    monkeypatch.setattr(os, function, hooked)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _rewrite(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.write(bytes(10))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


def _to_symlink(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _remove(path: Path) -> None:
    path.unlink()


def _chmod(path: Path) -> None:
    path.chmod(0o600)


CHANGES = (_grow, _shrink, _rewrite, _replace, _to_symlink, _to_fifo, _to_directory, _remove, _chmod)
CHANGES_OF_OPEN_FILES = (_grow, _shrink, _rewrite, _chmod)


@pytest.mark.parametrize(("kind", "stored"), CASES)
@pytest.mark.parametrize("change", CHANGES)
def test_change_between_listing_and_opening(
    tree: Path, monkeypatch: pytest.MonkeyPatch, kind: str, change: Callable[[Path], None], *, stored: bool
) -> None:
    path = tree / "sub" / kind
    _hook(monkeypatch, "open", lambda: change(path), name=kind)
    with make_repository(tree.parent / "repo") as repository:
        with pytest.raises(ChangedError) as caught:
            _scan(tree, repository.objects if stored else None)
        assert str(caught.value).startswith(f"{path}: changed while it was scanned: ")
        assert caught.value.hint


@pytest.mark.parametrize(("kind", "stored"), CASES)
@pytest.mark.parametrize("change", CHANGES_OF_OPEN_FILES)
def test_change_between_reading_and_the_last_look(
    tree: Path, monkeypatch: pytest.MonkeyPatch, kind: str, change: Callable[[Path], None], *, stored: bool
) -> None:
    path = tree / "sub" / kind
    inode = path.stat().st_ino
    real = os.fstat

    def change_at_the_end(fd: int) -> os.stat_result:
        status = real(fd)
        is_end = stat.S_ISREG(status.st_mode) and status.st_ino == inode
        if is_end and (os.lseek(fd, 0, os.SEEK_CUR) or kind in {"short", "long", "huge"}):
            if not changed:
                changed.append(True)
                change(path)
            return real(fd)
        return status

    changed: list[bool] = []
    monkeypatch.setattr(os, "fstat", change_at_the_end)
    with make_repository(tree.parent / "repo") as repository:
        with pytest.raises(ChangedError, match=kind):
            _scan(tree, repository.objects if stored else None)
        assert changed
    # What was read is in the store under its own name or not at all.
    found = {file.read_bytes() for file in (tree.parent / "repo" / "objects").glob("*/*")}
    assert found <= {(tree / "sub" / name).read_bytes() for name in SIZES if name != kind}


def _to_other_directory(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.mkdir()
    (path / "planted").write_bytes(bytes(100))


def _directory_to_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("/etc")


def _directory_to_fifo(path: Path) -> None:
    path.rename(path.with_name("moved"))
    os.mkfifo(path)


@pytest.mark.parametrize("change", [_directory_to_link, _directory_to_fifo])
def test_directory_is_replaced_before_it_is_opened(
    tree: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    path = tree / "sub" / "below"
    _hook(monkeypatch, "open", lambda: change(path), name="below")
    with pytest.raises(ChangedError, match=f"{path}: changed"):
        _scan(tree)


@pytest.mark.parametrize("change", [_to_other_directory, _directory_to_link, _directory_to_fifo])
def test_directory_is_replaced_before_its_large_files_are_read(
    tree: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    path = tree / "sub"
    real = heapq.heappop

    def change_before(heap: list[tuple[int, int]]) -> tuple[int, int]:
        if path.is_dir() and not (tree / "moved").exists():
            change(path)
        return real(heap)

    monkeypatch.setattr(heapq, "heappop", change_before)
    with pytest.raises(ChangedError, match=f"{path}: changed while it was scanned"):
        _scan(tree)
    assert (tree / "moved").exists()


def test_symlink_is_replaced_while_it_is_read(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tree / "sub" / "link"

    def replace() -> None:
        path.unlink()
        path.symlink_to("another")

    _hook(monkeypatch, "listxattr", replace, name="link")
    with pytest.raises(ChangedError, match=r"link: changed while it was scanned: \w+"):
        _scan(tree)


def test_attribute_is_removed_while_it_is_read(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tree / "sub" / "short"
    try:
        os.setxattr(path, "user.x", b"1")
    except OSError:
        pytest.skip("the temporary directory's file system has no user attributes")
    _hook(monkeypatch, "getxattr", lambda: os.removexattr(path, "user.x"))
    with pytest.raises(ChangedError, match="short"):
        _scan(tree)


def test_entry_that_appears_while_listing_is_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[Path] = []

    def add() -> None:
        added.append(tree / "new")
        added[-1].write_bytes(bytes(200))

    _hook(monkeypatch, "scandir", add)
    found = describe_tree(_scan(tree))
    assert found == describe_directory(tree, Algorithm.SHA512)
    assert b"new" in found


def test_directory_that_never_stands_still_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def restless(fd: int) -> object:
        (tree / f"new{time.monotonic_ns()}").touch()
        time.sleep(0.02)
        return real(fd)

    monkeypatch.setattr(os, "scandir", restless)
    with pytest.raises(ChangedError, match="its entries keep changing"):
        _scan(tree)


def test_other_names_must_show_the_same_state(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tree / "sub" / "below" / "again"
    os.link(tree / "sub" / "short", path)
    time.sleep(0.02)
    _hook(monkeypatch, "open", lambda: _chmod(path), name="below")
    with pytest.raises(ChangedError, match=f"{path}: changed while it was scanned: its hard links"):
        _scan(tree)


def test_entry_that_vanishes_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hook(monkeypatch, "readlink", (tree / "sub" / "link").unlink, name="link")
    with pytest.raises(ChangedError, match="link: changed"):
        _scan(tree)
