"""Answers to the two most frequent requests: for attributes, and for content of objects.

They do what `cfsctl.fuse.operations` does with them, with fewer steps, and leave to it whatever is not usual.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from cfsctl.fuse.protocol import (
    GETXATTR_IN,
    GETXATTR_OUT,
    GONE,
    IN_HEADER,
    OUT_HEADER,
    READ_IN,
    FuseProtocolError,
    parse_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.fuse.operations import Operations

    Quick = Callable[[bytes, int, int], bool]
    """Takes a request, its number and its node; returns False if something else has to answer."""

_MAX_ASKED: Final = 1024
"""Requests that are kept decoded."""

_BODY: Final = IN_HEADER.size


def attribute_sender(device: int, operations: Operations) -> Quick:
    """Return what answers with the value of an attribute.

    An overlay asks for three attributes of each file, so this is most of what looking at a tree takes.
    """
    write, find_known, find = os.write, operations.known_xattrs.get, operations.find_xattrs
    asked = _Asked()

    def send(request: bytes, unique: int, node: int) -> bool:
        room, name = asked[request[_BODY:]]
        shown = find_known(node) or find(node)
        if name is None or shown is None:
            return False
        reply = _format(shown.get(name), room, unique)
        if reply is None:
            return False
        try:
            write(device, reply)
        except OSError as error:
            return error.errno in GONE
        return True

    return send


class _Asked(dict[bytes, "tuple[int, bytes | None]"]):
    """Room and name in what follows the header of a request for an attribute; few of them differ."""

    def __missing__(self, body: bytes) -> tuple[int, bytes | None]:
        """Decode a request; the name is None if there is something wrong with it."""
        try:
            name = parse_name(body[GETXATTR_IN.size :])
        except FuseProtocolError:
            return 0, None
        if len(self) >= _MAX_ASKED:
            self.clear()
        (room,) = GETXATTR_IN.unpack_from(body)
        self[body] = room, name
        return room, name


def _format(
    value: bytes | None,
    room: int,
    unique: int,
    pack: Callable[[int, int, int], bytes] = OUT_HEADER.pack,
    head_size: int = OUT_HEADER.size,
) -> bytes | None:
    """Return the answer with a value for which the caller has some room; None if that is not enough."""
    if value is None:
        return pack(head_size, -errno.ENODATA, unique)
    size = len(value)
    if not room:
        return pack(head_size + GETXATTR_OUT.size, 0, unique) + GETXATTR_OUT.pack(size)
    return pack(head_size + size, 0, unique) + value if size <= room else None


def content_sender(device: int, operations: Operations) -> Quick:
    """Return what answers requests to read from objects."""

    def send(request: bytes, unique: int, node: int) -> bool:
        try:
            _, offset, size = READ_IN.unpack_from(request, _BODY)
            length = operations.read_stored(node, offset, size)
        except Exception:  # noqa: BLE001 - the usual way reports it
            return False
        if length is None:
            return False
        reply = operations.reply
        OUT_HEADER.pack_into(reply, 0, OUT_HEADER.size + length, 0, unique)
        try:
            os.write(device, reply[: OUT_HEADER.size + length])
        except OSError as error:
            return error.errno in GONE
        return True

    return send
