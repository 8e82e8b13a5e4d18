"""Files that appear whole or not at all, and readers that never block."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from cfsctl.linux import files
from cfsctl.linux.files import (
    AnonymousFile,
    FileFactory,
    fsync_directory,
    open_regular,
    random_name,
    read_all,
    replace_symlink,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def dirfd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture(params=[False, True], ids=["unnamed", "named"])
def named(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_linked_file_has_content_and_exact_mode(dirfd: int, tmp_path: Path, *, named: bool) -> None:
    before = os.umask(0o077)
    try:
        with AnonymousFile(dirfd, 0o644, named=named) as file:
            write_all(file.fd, b"content")
            assert file.is_named == named
            file.link(dirfd, "final")
    finally:
        os.umask(before)
    assert os.listdir(tmp_path) == ["final"]
    assert (tmp_path / "final").read_bytes() == b"content"
    assert stat.S_IMODE(os.stat(tmp_path / "final").st_mode) == 0o644


def test_linking_into_another_directory(dirfd: int, tmp_path: Path, *, named: bool) -> None:
    (tmp_path / "sub").mkdir()
    with AnonymousFile(dirfd, named=named) as file:
        file.link(dirfd, "sub/final")
    assert os.listdir(tmp_path) == ["sub"]
    assert os.listdir(tmp_path / "sub") == ["final"]


def test_unlinked_file_leaves_nothing(dirfd: int, tmp_path: Path, *, named: bool) -> None:
    with AnonymousFile(dirfd, named=named) as file:
        write_all(file.fd, b"content")
        names = os.listdir(tmp_path)
    assert len(names) == (1 if named else 0)
    assert all(name.startswith(".tmp-object-") for name in names)
    assert os.listdir(tmp_path) == []
    assert file.fd == -1
    file.close()


def test_taken_name_changes_nothing(dirfd: int, tmp_path: Path, *, named: bool) -> None:
    (tmp_path / "final").write_bytes(b"old")
    with AnonymousFile(dirfd, named=named) as file:
        write_all(file.fd, b"new")
        with pytest.raises(FileExistsError):
            file.link(dirfd, "final")
    assert os.listdir(tmp_path) == ["final"]
    assert (tmp_path / "final").read_bytes() == b"old"


def test_named_file_is_linked_where_rename_has_no_flags(
    dirfd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "no flags here")

    monkeypatch.setattr(files, "renameat2", refuse)
    (tmp_path / "taken").touch()
    with AnonymousFile(dirfd, named=True) as file:
        with pytest.raises(FileExistsError):
            file.link(dirfd, "taken")
        file.link(dirfd, "final")
    assert sorted(os.listdir(tmp_path)) == ["final", "taken"]


def test_replacing_takes_the_place_of_a_file(dirfd: int, tmp_path: Path, *, named: bool) -> None:
    (tmp_path / "final").write_bytes(b"old")
    with AnonymousFile(dirfd, 0o600, named=named) as file:
        write_all(file.fd, b"new")
        file.replace(dirfd, "final")
    assert os.listdir(tmp_path) == ["final"]
    assert (tmp_path / "final").read_bytes() == b"new"


def test_failed_replacing_cleans_up(dirfd: int, tmp_path: Path, *, named: bool) -> None:
    (tmp_path / "final").mkdir()
    with AnonymousFile(dirfd, named=named) as file, pytest.raises(IsADirectoryError):
        file.replace(dirfd, "final")
    assert os.listdir(tmp_path) == ["final"]


def test_read_only_descriptor_is_the_same_file(dirfd: int, *, named: bool) -> None:
    with AnonymousFile(dirfd, named=named) as file:
        write_all(file.fd, b"content")
        inode = os.fstat(file.fd).st_ino
        file.make_read_only()
        assert os.fstat(file.fd).st_ino == inode
        assert os.pread(file.fd, 10, 0) == b"content"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(file.fd, b"x")
        file.link(dirfd, "final")


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL])
def test_file_system_without_unnamed_files(
    dirfd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.open

    def without_tmpfile(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(number, os.strerror(number), path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", without_tmpfile)
    with AnonymousFile(dirfd) as file:
        assert file.is_named
        file.link(dirfd, "final")
    assert os.listdir(tmp_path) == ["final"]


def test_random_names_use_letters_and_digits() -> None:
    name = random_name(".tmp-object-")
    assert len(name) == len(".tmp-object-") + 12
    assert name.removeprefix(".tmp-object-").isalnum()
    assert name != random_name(".tmp-object-")


def test_symlink_is_made_and_replaced(dirfd: int, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("one", "sub/two"):
        for text in ("../first", b"second\xff"):
            replace_symlink(dirfd, name, text)
            assert os.readlink(os.fsencode(tmp_path / name)) == os.fsencode(text)
    (tmp_path / "file").touch()
    replace_symlink(dirfd, "file", "x")
    assert sorted(os.listdir(tmp_path)) == ["file", "one", "sub"]
    assert os.listdir(tmp_path / "sub") == ["two"]


@pytest.mark.parametrize(
    ("name", "error"),
    [("directory", IsADirectoryError), ("missing/x", FileNotFoundError), ("a" * 256, OSError)],
)
def test_failed_symlink_leaves_no_temporary(
    dirfd: int, tmp_path: Path, name: str, error: type[OSError]
) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(error):
        replace_symlink(dirfd, name, "text")
    assert os.listdir(tmp_path) == ["directory"]


def test_interrupt_between_symlink_and_rename_leaves_no_temporary(
    dirfd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_symlink(dirfd, "name", "text")
    assert os.listdir(tmp_path) == []


def test_everything_is_written_through_short_writes() -> None:
    read_end, write_end = os.pipe()
    data = os.urandom(300_000)
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        os.set_blocking(write_end, True)
        write_all(write_end, memoryview(data))
        os._exit(0)
    os.close(write_end)
    try:
        assert read_all(read_end, len(data)) == data
    finally:
        os.close(read_end)
        os.waitpid(pid, 0)


def test_short_writes_are_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    got = bytearray()

    def write_some(_: int, data: bytes | memoryview) -> int:
        got.extend(data[:7])
        return len(data[:7])

    monkeypatch.setattr(os, "write", write_some)
    for data in (b"", b"short", b"exactly", bytes(range(100)), bytearray(range(50))):
        got.clear()
        write_all(-1, data)
        assert got == data


@pytest.mark.parametrize("size", [0, 1, 100])
def test_reading_stops_at_the_limit(dirfd: int, tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    fd = open_regular(dirfd, "file")
    try:
        assert read_all(fd, size) == bytes(size)
        os.lseek(fd, 0, os.SEEK_SET)
        if size:
            with pytest.raises(OSError, match=f"more than {size - 1} bytes") as caught:
                read_all(fd, size - 1)
            assert caught.value.errno == errno.EFBIG
            assert caught.value.filename == os.fspath(tmp_path / "file")
    finally:
        os.close(fd)


def test_only_regular_files_are_opened(dirfd: int, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(tmp_path / "socket"))
    os.close(open_regular(dirfd, "target"))
    before = sorted(os.listdir("/proc/self/fd"))
    for name, number in (
        ("directory", errno.EISDIR),
        ("link", errno.ELOOP),
        ("fifo", errno.EINVAL),
        ("socket", errno.EINVAL),
        ("missing", errno.ENOENT),
    ):
        with pytest.raises(OSError, match=name) as caught:
            open_regular(dirfd, name)
        assert caught.value.errno == number
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_directory_opened_as_a_path_can_be_synced(dirfd: int) -> None:
    fsync_directory(dirfd)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_factory_gives_every_file_its_mode(dirfd: int, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        factory = FileFactory(dirfd, 0o644)
        for number in range(3):
            factory.create(b"content %d" % number, dirfd, f"file{number}")
    finally:
        os.umask(before)
    for number in range(3):
        path = tmp_path / f"file{number}"
        assert path.read_bytes() == b"content %d" % number
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert len(os.listdir(tmp_path)) == 3


def test_factory_without_unnamed_files(dirfd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_open_unnamed", lambda _dirfd, _mode: None)
    factory = FileFactory(dirfd, 0o644)
    for number in range(3):
        factory.create(b"content", dirfd, f"file{number}")
    assert sorted(os.listdir(tmp_path)) == ["file0", "file1", "file2"]


def test_factory_leaves_a_file_that_has_the_name(dirfd: int, tmp_path: Path) -> None:
    factory = FileFactory(dirfd, 0o644)
    factory.create(b"first", dirfd, "name")
    for _ in range(2):
        with pytest.raises(FileExistsError):
            factory.create(b"second", dirfd, "name")
    assert os.listdir(tmp_path) == ["name"]
    assert (tmp_path / "name").read_bytes() == b"first"


def test_factory_that_cannot_write_leaves_nothing(
    dirfd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = FileFactory(dirfd, 0o644)
    factory.create(b"first", dirfd, "first")

    def fail(_fd: int, _data: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write_sparse", fail)
    held = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space left"):
        factory.create(b"second", dirfd, "second")
    assert os.listdir(tmp_path) == ["first"]
    assert len(os.listdir("/proc/self/fd")) == held
