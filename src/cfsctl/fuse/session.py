"""The loop that reads requests from a FUSE device and writes replies."""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Final

from cfsctl.fuse.protocol import IN_HEADER, MIN_READ_BUFFER, OUT_HEADER, READ_IN, Opcode

if TYPE_CHECKING:
    from cfsctl.fuse.operations import Operations

_LOG = logging.getLogger(__name__)

_BUFFER_BYTES: Final = max(MIN_READ_BUFFER, 1 << 16)
"""A request has few bytes, but one can be about thousands of inodes that the kernel has forgotten."""

_READ: Final = int(Opcode.READ)
_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV})
"""What a reply is answered with if whoever asked has been killed, or all is unmounted."""

_NO_REPLY: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET})

_TRY_AGAIN: Final = frozenset({errno.EINTR, errno.EAGAIN, errno.ENOENT})
"""ENOENT: the request was taken back in the meantime."""


def serve(device: int, operations: Operations) -> None:
    """Answer requests until the file system is unmounted.

    Args:
        device: The open FUSE device of one mount, borrowed.
        operations: What answers.

    Raises:
        OSError: The device cannot be read.
    """
    buffer = bytearray(_BUFFER_BYTES)
    view = memoryview(buffer)
    buffers = [buffer]
    read, unpack, answer, header_size = os.readv, IN_HEADER.unpack_from, operations.answer, IN_HEADER.size
    while True:
        try:
            length = read(device, buffers)
        except OSError as error:
            if error.errno in _TRY_AGAIN:
                continue
            if error.errno == errno.ENODEV:
                return
            raise
        if length < header_size:
            raise OSError(errno.EPROTO, "a FUSE request without a header")
        _, opcode, unique, node, uid, _, _ = unpack(buffer)
        if opcode == _READ and _read_opened(device, operations, view, unique, node):
            continue
        if opcode in _NO_REPLY:
            continue
        try:
            result = answer(opcode, node, bytes(view[header_size:length]), uid)
        except Exception:  # noqa: BLE001 - a fault of ours must not take the whole mount away
            _LOG.exception("internal error: request %d about %d", opcode, node)
            result = -errno.EIO
        _reply(device, unique, result)


def _read_opened(device: int, operations: Operations, request: memoryview, unique: int, node: int) -> bool:
    """Answer a request to read from an object that is open already; return whether it was one."""
    _, offset, size = READ_IN.unpack_from(request, IN_HEADER.size)
    try:
        length = operations.read_opened(node, offset, size)
    except OSError:
        return False
    if length is None:
        return False
    reply = operations.reply
    OUT_HEADER.pack_into(reply, 0, OUT_HEADER.size + length, 0, unique)
    try:
        os.write(device, reply[: OUT_HEADER.size + length])
    except OSError as error:
        if error.errno not in _GONE:
            raise
    return True


def _reply(device: int, unique: int, result: bytes | memoryview | int) -> None:
    try:
        if isinstance(result, int):
            os.write(device, OUT_HEADER.pack(OUT_HEADER.size, result, unique))
        elif isinstance(result, bytes):
            os.write(device, OUT_HEADER.pack(OUT_HEADER.size + len(result), 0, unique) + result)
        else:
            os.writev(device, [OUT_HEADER.pack(OUT_HEADER.size + len(result), 0, unique), result])
    except OSError as error:
        if error.errno in _GONE:
            return
        if isinstance(result, int):
            raise
        _LOG.error("the kernel refuses a reply: %s", error.strerror)
        _reply(device, unique, -errno.EIO)
