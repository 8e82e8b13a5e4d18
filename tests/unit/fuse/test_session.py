"""The loop of the server, with a socket instead of the device."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from cfsctl.erofs.format import FormatVersion
from cfsctl.fuse.names import View
from cfsctl.fuse.protocol import Opcode
from cfsctl.fuse.session import serve
from tests.unit.fuse.test_operations import CONTENT, look_up, make

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.fuse.operations import Operations

HEADER = struct.Struct("=IIQQIII4x")
READ = struct.Struct("=QQI20x")
NAMES = (b"inline", b"empty", b"stored", b"hole", b"link", b"dir")


def ask(operations: Operations, requests: list[tuple[int, int, bytes]]) -> list[bytes | int]:
    """Return the server's answers: results, or error numbers below 0."""
    answers: list[bytes | int] = []
    for unique, (opcode, node, body) in enumerate(requests):
        kernel, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with kernel, device:
            kernel.send(HEADER.pack(HEADER.size + len(body), opcode, unique, node, 0, 0, 1) + body)
            kernel.shutdown(socket.SHUT_WR)
            with pytest.raises(OSError, match="without a header"):
                serve(device.fileno(), operations)
            device.shutdown(socket.SHUT_WR)
            reply = kernel.recv(1 << 20)
            assert not kernel.recv(1)
        length, error, answered = struct.unpack_from("=IiQ", reply)
        assert (length, answered) == (len(reply), unique)
        answers.append(error or reply[16:])
    return answers


def usual(operations: Operations, requests: list[tuple[int, int, bytes]]) -> list[bytes | int]:
    """Return what the operations answer without the loop."""
    # Copied at once: replies of content are all in the same place.
    return [copied(operations.answer(opcode, node, body, 0)) for opcode, node, body in requests]


def copied(reply: bytes | memoryview | int) -> bytes | int:
    return reply if isinstance(reply, int) else bytes(reply)


@pytest.mark.parametrize("version", FormatVersion)
@pytest.mark.parametrize("view", View)
def test_attributes_are_answered_as_usual(tmp_path: Path, view: View, version: FormatVersion) -> None:
    operations, _ = make(tmp_path, view, version=version)
    nodes = [1, *(look_up(operations, name) for name in NAMES), 1 << 40, 7]
    names = (b"user.a", b"user.overlay.metacopy", b"user.overlay.redirect", b"user.nothing", b"")
    asked = [struct.pack("=I4x", room) + name + b"\0" for room in (0, 3, 5, 36, 200) for name in names]
    asked += [b"", bytes(4), bytes(8), struct.pack("=I4x", 9) + b"user.a", struct.pack("=I4x", 9) + b"a\0b\0"]
    requests = [(int(Opcode.GETXATTR), node, body) for node, body in itertools.product(nodes, asked)]
    answers = ask(operations, requests)
    other, _ = make(tmp_path, view, version=version)
    assert answers == usual(other, requests)
    assert {-errno.ENODATA, -errno.ERANGE, -errno.EINVAL, b"value"} <= set(answers)


def test_what_an_overlay_is_told_of_large_files(tmp_path: Path) -> None:
    operations, _ = make(tmp_path, View.OVERLAY)
    stored = look_up(operations, b"stored")
    bodies = [struct.pack("=I4x", 200) + b"user.overlay." + name for name in (b"metacopy\0", b"redirect\0")]
    assert ask(operations, [(Opcode.GETXATTR, stored, body) for body in bodies]) == [
        b"\0\x24\0\1" + b"\xab" * 32,
        b"/ab/" + b"ab" * 31,
    ]


def test_content_is_answered_as_usual(tmp_path: Path) -> None:
    operations, opener = make(tmp_path)
    nodes = [*(look_up(operations, name) for name in NAMES), 1 << 40, 1]
    bodies = [READ.pack(0, offset, size) for offset in (0, 5, 20_000, 1 << 50) for size in (1, 4096, 1 << 20)]
    requests = [(int(Opcode.READ), node, body) for node, body in itertools.product(nodes, bodies)]
    answers = ask(operations, requests)
    other, _ = make(tmp_path)
    assert answers == usual(other, requests)
    assert CONTENT in answers
    assert len(opener.opened) == 1
    operations.close()
    other.close()


def test_content_that_cannot_be_opened(tmp_path: Path) -> None:
    operations, _ = make(tmp_path)
    os.unlink(tmp_path / "content")
    assert ask(operations, [(Opcode.READ, look_up(operations, b"stored"), READ.pack(0, 0, 10))]) == [
        -errno.EIO
    ]


def test_forgotten_inodes_are_not_answered_and_unknown_requests_are(tmp_path: Path) -> None:
    operations, _ = make(tmp_path)
    kernel, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, device:
        for unique, opcode in enumerate((Opcode.FORGET, Opcode.BATCH_FORGET, 4000)):
            kernel.send(HEADER.pack(HEADER.size + 16, opcode, unique, 1, 0, 0, 1) + bytes(16))
        kernel.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match="without a header"):
            serve(device.fileno(), operations)
        assert kernel.recv(100) == struct.pack("=IiQ", 16, -errno.ENOSYS, 2)
