"""System calls through ctypes: results, errors, and the fallback of openat2."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cfsctl.linux import syscalls
from cfsctl.linux.syscalls import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    link_fd,
    openat2,
    renameat2,
    syncfs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def dirfd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_importing_does_not_load_ctypes() -> None:
    program = "import cfsctl.linux.files, cfsctl.linux.ioctls, sys; print('ctypes' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program]) == b"False\n"


def test_syncfs_of_a_closed_descriptor_is_an_error(dirfd: int) -> None:
    syncfs(dirfd)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        syncfs(12345)
    assert caught.value.errno == errno.EBADF


def test_rename_without_replacing(dirfd: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    with pytest.raises(FileExistsError) as caught:
        renameat2(dirfd, "a", dirfd, "b", RENAME_NOREPLACE)
    assert caught.value.filename == "b"
    renameat2(dirfd, "a", dirfd, "b", RENAME_EXCHANGE)
    assert (tmp_path / "a").read_bytes() == b"b"
    renameat2(dirfd, "a", dirfd, b"c\xff", RENAME_NOREPLACE)
    assert sorted(os.listdir(os.fsencode(tmp_path))) == [b"b", b"c\xff"]


def test_anonymous_file_gets_a_name(dirfd: int, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    try:
        link_fd(fd, dirfd, "name")
        with pytest.raises(FileExistsError):
            link_fd(fd, dirfd, "name")
        with pytest.raises(FileNotFoundError):
            link_fd(fd, dirfd, "missing/name")
    finally:
        os.close(fd)
    assert os.listdir(tmp_path) == ["name"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory `in` with links of all kinds, and a file outside of it."""
    (tmp_path / "outside").write_bytes(b"outside")
    root = tmp_path / "in"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "file").write_bytes(b"file")
    (root / "sub" / "file").write_bytes(b"sub/file")
    for name, target in {
        "to-file": "sub/file",
        "sub/up": "../file",
        "sub/deep/far": "../../to-file",
        "to-sub": "sub",
        "absolute": os.fspath(root / "file"),
        "escape": "../outside",
        "sub/escape": "../../outside",
        "there-and-back": "../in/file",
        "loop": "loop",
        "dangling": "missing",
        "to-here": ".",
        "empty-parts": "sub//deep/../file",
    }.items():
        (root / name).symlink_to(target)
    return root


CASES = [
    ("file", b"file"),
    ("sub/file", b"sub/file"),
    ("./sub/../file", b"file"),
    ("sub//deep/../file", b"sub/file"),
    ("to-file", b"sub/file"),
    ("sub/up", b"file"),
    ("to-sub/up", b"file"),
    ("to-sub/../file", b"file"),
    ("sub/deep/far", b"sub/file"),
    ("to-here/to-here/file", b"file"),
    ("empty-parts", b"sub/file"),
    ("absolute", errno.EXDEV),
    ("escape", errno.EXDEV),
    ("sub/escape", errno.EXDEV),
    ("there-and-back", errno.EXDEV),
    ("..", errno.EXDEV),
    ("../in/file", errno.EXDEV),
    ("sub/../../outside", errno.EXDEV),
    ("/etc/passwd", errno.EXDEV),
    ("loop", errno.ELOOP),
    ("dangling", errno.ENOENT),
    ("missing", errno.ENOENT),
    ("missing/../file", errno.ENOENT),
    ("file/", errno.ENOTDIR),
    ("file/x", errno.ENOTDIR),
    ("to-file/", errno.ENOTDIR),
    ("", errno.ENOENT),
]


def _outcome(root: Path, path: str, resolve: int) -> bytes | int:
    dirfd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        fd = openat2(dirfd, path, os.O_RDONLY, resolve=resolve)
    except OSError as error:
        return error.errno or 0
    finally:
        os.close(dirfd)
    with os.fdopen(fd, "rb") as stream:
        assert not os.get_inheritable(stream.fileno())
        return stream.read()


@pytest.fixture(params=["kernel", "fallback"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "fallback":

        def refuse(*_: object, **__: object) -> int:
            raise OSError(errno.ENOSYS, "not here")

        monkeypatch.setattr(syscalls, "syscall", refuse)
    return str(request.param)


@pytest.mark.parametrize(("path", "expected"), CASES)
@pytest.mark.usefixtures("implementation")
def test_open_beneath(tree: Path, path: str, expected: bytes | int) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    assert _outcome(tree, path, RESOLVE_BENEATH) == expected
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("path", "expected"), [("sub/file", b"sub/file"), ("to-file", errno.ELOOP), ("to-sub/file", errno.ELOOP)]
)
@pytest.mark.usefixtures("implementation")
def test_open_beneath_without_links(tree: Path, path: str, expected: bytes | int) -> None:
    assert _outcome(tree, path, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS) == expected


@pytest.mark.usefixtures("implementation")
def test_directories_and_new_files_beneath(tree: Path) -> None:
    dirfd = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    try:
        for path in (".", "sub/", "to-sub/", "sub/.."):
            os.close(openat2(dirfd, path, os.O_RDONLY | os.O_DIRECTORY))
        os.close(openat2(dirfd, "sub/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with pytest.raises(FileExistsError):
            openat2(dirfd, "to-file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with pytest.raises(OSError, match="to-file") as caught:
            openat2(dirfd, "to-file", os.O_RDONLY | os.O_NOFOLLOW)
        assert caught.value.errno == errno.ELOOP
        with pytest.raises(ValueError, match="null byte"):
            openat2(dirfd, "a\0b", os.O_RDONLY)
    finally:
        os.close(dirfd)
    assert (tree / "sub" / "new").stat().st_mode & 0o777 == 0o600
