"""The loop that reads requests from a FUSE device and writes replies."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Final

from cfsctl.fuse.protocol import GONE, IN_HEADER, MIN_READ_BUFFER, OUT_HEADER, Opcode
from cfsctl.fuse.quick import attribute_sender, content_sender
from cfsctl.logs import get_logger

if TYPE_CHECKING:
    from cfsctl.fuse.operations import Operations

_LOG = get_logger(__name__)

_BUFFER_BYTES: Final = MIN_READ_BUFFER
"""Requests have few bytes; larger buffers take longer to get and give back."""

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
    quick = {
        int(Opcode.GETXATTR): attribute_sender(device, operations),
        int(Opcode.READ): content_sender(device, operations),
    }
    find_quick = quick.get
    read, unpack = os.read, IN_HEADER.unpack_from
    while True:
        try:
            request = read(device, _BUFFER_BYTES)
            _, opcode, unique, node, uid, _, _ = unpack(request)
        except OSError as error:
            if error.errno in _TRY_AGAIN:
                continue
            if error.errno == errno.ENODEV:
                return
            raise
        except struct.error:
            raise OSError(errno.EPROTO, "a FUSE request without a header") from None
        send = find_quick(opcode)
        if (send is None or not send(request, unique, node)) and opcode not in _NO_REPLY:
            _answer(device, operations, request, (opcode, unique, node, uid))


def _answer(device: int, operations: Operations, request: bytes, header: tuple[int, int, int, int]) -> None:
    opcode, unique, node, uid = header
    result: bytes | memoryview | int
    try:
        result = operations.answer(opcode, node, request[IN_HEADER.size :], uid)
    except Exception:  # noqa: BLE001 - a fault of ours must not take the whole mount away
        _LOG.exception("internal error: request %d about %d", opcode, node)
        result = -errno.EIO
    _reply(device, unique, result)


def _reply(device: int, unique: int, result: bytes | memoryview | int) -> None:
    try:
        if isinstance(result, int):
            os.write(device, OUT_HEADER.pack(OUT_HEADER.size, result, unique))
        elif isinstance(result, bytes):
            os.write(device, OUT_HEADER.pack(OUT_HEADER.size + len(result), 0, unique) + result)
        else:
            os.writev(device, [OUT_HEADER.pack(OUT_HEADER.size + len(result), 0, unique), result])
    except OSError as error:
        if error.errno in GONE:
            return
        if isinstance(result, int):
            raise
        _LOG.error("the kernel refuses a reply: %s", error.strerror)
        _reply(device, unique, -errno.EIO)
