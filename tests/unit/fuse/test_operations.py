"""Answers to requests, without a kernel."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.fuse.files import ImageFiles
from cfsctl.fuse.names import View
from cfsctl.fuse.operations import Operations
from cfsctl.fuse.protocol import Opcode
from cfsctl.tree.model import Directory, ExternalFile, FileSystem, InlineFile, SparseFile, Symlink

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.fuse.files import Stored

CONTENT = bytes(range(256)) * 100
ALL_FLAGS = 0xFFFFFFFF


class FileOpener:
    """Opens one file, whatever is asked for."""

    def __init__(self, path: str, *, checks: bool = False) -> None:
        self.path = path
        self.checks = checks
        self.opened: list[ObjectID | None] = []

    def open(self, stored: Stored) -> int:
        self.opened.append(stored.object_id)
        return os.open(self.path, os.O_RDONLY)


def make(
    tmp_path: Path,
    view: View = View.PLAIN,
    *,
    checks: bool = False,
    flags: int = ALL_FLAGS,
    version: FormatVersion = FormatVersion.V1,
) -> tuple[Operations, FileOpener]:
    root = Directory(0o755)
    root.entries[b"inline"] = InlineFile(b"0123456789", 0o640, 5, 6, 7, 8, {b"user.a": b"value"})
    root.entries[b"empty"] = InlineFile(b"", 0o644)
    root.entries[b"stored"] = ExternalFile(ObjectID(b"\xab" * 32), len(CONTENT), 0o644)
    root.entries[b"hole"] = SparseFile(10_000, 0o644)
    root.entries[b"link"] = Symlink(b"target", 0o777)
    root.entries[b"dir"] = directory = Directory(0o700)
    for number in range(300):
        directory.entries[b"%03d" % number] = InlineFile(b"", 0o644)
    (tmp_path / "content").write_bytes(CONTENT)
    opener = FileOpener(str(tmp_path / "content"), checks=checks)
    files = ImageFiles(bytes(build_image(FileSystem(root), version)), Algorithm.SHA256, view)
    operations = Operations(files, opener, is_initial_user_namespace=True)
    assert isinstance(operations.answer(Opcode.INIT, 0, struct.pack("=4I", 7, 45, 1 << 17, flags), 0), bytes)
    return operations, opener


def look_up(operations: Operations, name: bytes, parent: int = 1) -> int:
    answer = operations.answer(Opcode.LOOKUP, parent, name + b"\0", 0)
    assert isinstance(answer, bytes)
    return int.from_bytes(answer[:8], "little")


def read(operations: Operations, node: int, offset: int, size: int) -> bytes:
    answer = operations.answer(Opcode.READ, node, struct.pack("=QQI20x", 0, offset, size), 0)
    assert not isinstance(answer, int)
    return bytes(answer)


def list_names(operations: Operations, opcode: int, node: int, room: int, head: int) -> list[bytes]:
    """Read a directory in replies of limited size, as the kernel does."""
    names: list[bytes] = []
    offset = 0
    while True:
        body = operations.answer(opcode, node, struct.pack("=QQI20x", 0, offset, room), 0)
        assert isinstance(body, bytes)
        assert len(body) <= room
        if not body:
            return names
        while body:
            _, offset, length, _ = struct.unpack_from("=QQII", body, head)
            names.append(body[head + 24 : head + 24 + length])
            body = body[head + 24 + (length + 7 & ~7) :]


def test_what_the_kernel_may_keep(tmp_path: Path) -> None:
    operations, _ = make(tmp_path)
    found = operations.answer(Opcode.LOOKUP, 1, b"inline\0", 0)
    missing = operations.answer(Opcode.LOOKUP, 1, b"nothing\0", 0)
    assert isinstance(found, bytes)
    assert isinstance(missing, bytes)
    assert struct.unpack_from("=QQQQ", found)[2:] == (1_000_000, 1_000_000)
    assert struct.unpack_from("=QQQ", missing) == (0, 0, 1_000_000)
    assert (len(found), len(missing)) == (128, 128)


def test_attributes(tmp_path: Path) -> None:
    operations, _ = make(tmp_path)
    node = look_up(operations, b"inline")
    answer = operations.answer(Opcode.GETATTR, node, bytes(16), 0)
    assert isinstance(answer, bytes)
    assert struct.unpack_from("=QQQqqqIIIIIIIIII", answer, 16) == (
        *(node, 10, 8, 7, 7, 7, 8, 8, 8),
        *(0o100640, 1, 5, 6, 0, 4096, 0),
    )


@pytest.mark.parametrize("room", [400, 4096, 1 << 17])
@pytest.mark.parametrize(("opcode", "head"), [(Opcode.READDIR, 0), (Opcode.READDIRPLUS, 128)])
def test_directories_in_replies_of_any_size(tmp_path: Path, opcode: int, head: int, room: int) -> None:
    operations, _ = make(tmp_path)
    node = look_up(operations, b"dir")
    names = list_names(operations, opcode, node, room, head)
    assert names == [b".", b"..", *(b"%03d" % number for number in range(300))]


def test_root_shows_no_stubs(tmp_path: Path) -> None:
    operations, _ = make(tmp_path)
    names = list_names(operations, Opcode.READDIRPLUS, 1, 4096, 128)
    assert names == [b".", b"..", b"dir", b"empty", b"hole", b"inline", b"link", b"stored"]


def test_content(tmp_path: Path) -> None:
    operations, opener = make(tmp_path)
    assert read(operations, look_up(operations, b"inline"), 3, 4) == b"3456"
    assert read(operations, look_up(operations, b"inline"), 8, 100) == b"89"
    assert read(operations, look_up(operations, b"empty"), 0, 100) == b""
    assert read(operations, look_up(operations, b"hole"), 9_990, 100) == bytes(10)
    assert read(operations, look_up(operations, b"hole"), 1 << 60, 100) == b""
    stored = look_up(operations, b"stored")
    assert read(operations, stored, 1000, 5000) == CONTENT[1000:6000]
    assert read(operations, stored, 0, 1 << 20) == CONTENT
    assert opener.opened == [ObjectID(b"\xab" * 32)]  # once
    assert operations.answer(Opcode.READLINK, look_up(operations, b"link"), b"", 0) == b"target"
    operations.close()


def test_files_need_not_be_opened_unless_that_is_when_they_are_checked(tmp_path: Path) -> None:
    operations, opener = make(tmp_path)
    stored = look_up(operations, b"stored")
    assert operations.answer(Opcode.OPEN, stored, bytes(8), 0) == -errno.ENOSYS
    assert operations.answer(Opcode.OPENDIR, 1, bytes(8), 0) == -errno.ENOSYS
    operations, opener = make(tmp_path, checks=True)
    for _ in range(2):
        assert operations.answer(Opcode.OPEN, stored, bytes(8), 0) == struct.pack("=QII", 0, 2, 0)
    assert len(opener.opened) == 2
    operations.close()


def test_old_kernel_that_opens_everything(tmp_path: Path) -> None:
    operations, _ = make(tmp_path, flags=0)
    stored = look_up(operations, b"stored")
    assert operations.answer(Opcode.OPEN, stored, bytes(8), 0) == struct.pack("=QII", 0, 2, 0)
    assert operations.answer(Opcode.OPENDIR, 1, bytes(8), 0) == struct.pack("=QII", 0, 2 | 8, 0)
    assert operations.answer(Opcode.RELEASE, stored, bytes(24), 0) == b""


def test_attributes_by_name(tmp_path: Path) -> None:
    operations, _ = make(tmp_path)
    node = look_up(operations, b"inline")

    def get(name: bytes, room: int) -> object:
        return operations.answer(Opcode.GETXATTR, node, struct.pack("=II", room, 0) + name + b"\0", 0)

    assert get(b"user.a", 0) == struct.pack("=II", 5, 0)
    assert get(b"user.a", 5) == b"value"
    assert get(b"user.a", 4) == -errno.ERANGE
    assert get(b"user.b", 100) == -errno.ENODATA
    assert operations.answer(Opcode.LISTXATTR, node, struct.pack("=II", 100, 0), 0) == b"user.a\0"
    assert operations.answer(Opcode.LISTXATTR, node, struct.pack("=II", 3, 0), 0) == -errno.ERANGE


def test_trusted_attributes_are_for_root(tmp_path: Path) -> None:
    root = Directory(0o755, xattrs={b"trusted.a": b"", b"user.b": b""})
    files = ImageFiles(bytes(build_image(FileSystem(root), FormatVersion.V2)), Algorithm.SHA256, View.PLAIN)
    opener = FileOpener(str(tmp_path))
    body = struct.pack("=II", 100, 0)
    seen = [
        Operations(files, opener, is_initial_user_namespace=is_initial).answer(Opcode.LISTXATTR, 1, body, uid)
        for is_initial, uid in [(True, 0), (True, 1000), (False, 0)]
    ]
    assert seen == [b"trusted.a\0user.b\0", b"user.b\0", b"user.b\0"]


def test_requests_that_make_no_sense(tmp_path: Path) -> None:
    operations, _ = make(tmp_path)
    inline = look_up(operations, b"inline")
    answers = {
        (Opcode.LOOKUP, inline, b"x\0"): -errno.ESTALE,
        (Opcode.LOOKUP, 1, b"x"): -errno.EINVAL,
        (Opcode.LOOKUP, 1, b"x" * 256 + b"\0"): -errno.ENAMETOOLONG,
        (Opcode.GETATTR, 1 << 60, b""): -errno.ESTALE,
        (Opcode.GETATTR, 0, b""): -errno.ESTALE,
        (Opcode.READ, 1, bytes(40)): -errno.ESTALE,
        (Opcode.READ, inline, b""): -errno.EINVAL,
        (Opcode.READLINK, inline, b""): -errno.ESTALE,
        (Opcode.LSEEK, inline, struct.pack("=QQI4x", 0, 0, 9)): -errno.EINVAL,
        (Opcode.IOCTL, inline, bytes(32)): -errno.ENOTTY,
        (99, inline, b""): -errno.ENOSYS,
    }
    for (opcode, node, body), expected in answers.items():
        assert operations.answer(opcode, node, body, 0) == expected, (opcode, node)


def test_content_that_cannot_be_opened_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operations, opener = make(tmp_path)
    opener.path = str(tmp_path / "missing")
    stored = look_up(operations, b"stored")
    for _ in range(3):
        assert operations.answer(Opcode.READ, stored, struct.pack("=QQI20x", 0, 0, 10), 0) == -errno.EIO
    assert len(caplog.records) == 1
    assert "missing: No such file or directory" in caplog.text


def test_many_objects_are_not_all_kept_open(tmp_path: Path) -> None:
    root = Directory(0o755)
    for number in range(300):
        object_id = ObjectID(number.to_bytes(2, "big") * 16)
        root.entries[b"%d" % number] = ExternalFile(object_id, 5, 0o644)
    (tmp_path / "content").write_bytes(b"hello")
    files = ImageFiles(bytes(build_image(FileSystem(root), FormatVersion.V1)), Algorithm.SHA256, View.PLAIN)
    operations = Operations(files, FileOpener(str(tmp_path / "content")), is_initial_user_namespace=True)
    before = len(os.listdir("/proc/self/fd"))
    for name in root.entries:
        assert read(operations, look_up(operations, name), 0, 10) == b"hello"
    assert len(os.listdir("/proc/self/fd")) - before <= 128
    operations.close()
    assert len(os.listdir("/proc/self/fd")) == before
