"""Parts: one byte that says how the rest is compressed, and then tables, a payload and a program.

    (a(uuu) aa(ayay) ay ay)    modes (uid gid mode, big-endian), lists of attributes, payload, program

The part is compared with its digest before anything else, then decompressed within limits into memory or a
file without a name, from which the payload is read by ranges.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from cfsctl import gvariant
from cfsctl.compression import (
    Compression,
    CompressionError,
    TooMuchOutputError,
    TrailingError,
    TruncatedError,
    iter_decoded,
)
from cfsctl.errors import ReceivedDigestError
from cfsctl.ostree.delta.format import (
    MAX_PART_PLAIN_BYTES,
    MAX_TABLE_BYTES,
    DeltaError,
    fail,
)
from cfsctl.ostree.delta.framing import read_member_ends
from cfsctl.ostree.objects import OstreeObjectError, Xattrs, format_xattrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.ostree.delta.superblock import Part
    from cfsctl.ostree.delta.views import ByteView, Scratch

_MODE: Final = struct.Struct(">III")

_PLAIN: Final = 0x00
_XZ: Final = ord("x")


class PartContent(NamedTuple):
    """A part, decompressed.

    Attributes:
        modes: (uid, gid, mode) of files.
        xattrs: Lists of extended attributes of files.
        payload: Bytes that the program refers to.
        program: The operations.
    """

    modes: Sequence[tuple[int, int, int]]
    xattrs: Sequence[Xattrs]
    payload: ByteView
    program: bytes


def check_digest(view: ByteView, expected: bytes, what: str) -> None:
    """Check that bytes have the SHA-256 that they should have.

    Raises:
        ReceivedDigestError: They have another one.
    """
    digest = hashlib.sha256()
    for piece in view.iter_pieces():
        digest.update(piece)
    if digest.digest() != expected:
        raise ReceivedDigestError(what, expected=expected.hex(), actual=digest.hexdigest())


def open_part(
    view: ByteView, part: Part, scratch: Scratch, plain_limit: int = MAX_PART_PLAIN_BYTES
) -> PartContent:
    """Return the content of a part.

    Args:
        view: The part as stored.
        part: What the superblock says of it.
        scratch: Takes the part where it has to be decompressed; to be closed by the caller, later.
        plain_limit: Bytes that it may have then.

    Raises:
        ReceivedDigestError: It is another part.
        DeltaError: It is broken, or has more bytes than it may.
    """
    check_digest(view, part.checksum, "part as stored")
    if not view.size:
        fail("part", "at least one byte", "none")
    compression = view.read(0, 1)[0]
    body = view.window(1, view.size)
    if compression == _XZ:
        _decompress(body, plain_limit, scratch)
        body = scratch.view()
    elif compression != _PLAIN:
        fail("part", "compression 0x00 (none) or 0x78 (xz)", f"{compression:#04x}")
    return _parse(body)


def _decompress(body: ByteView, limit: int, scratch: Scratch) -> None:
    try:
        for plain in iter_decoded(body.iter_pieces(), Compression.XZ, limit, is_single=True):
            scratch.write(plain)
    except TooMuchOutputError:
        fail("part", f"at most {limit} bytes when decompressed", "more")
    except TruncatedError:
        fail("part", "the end of the compressed data", f"the end of the part after {scratch.size} bytes")
    except TrailingError:
        fail("part", "nothing after the compressed data", "more bytes")
    except CompressionError as error:
        raise DeltaError(f"part: {error}") from error


def _parse(view: ByteView) -> PartContent:
    (modes_end, xattrs_end, payload_end), table = read_member_ends(view, 3, "part")
    return PartContent(
        _parse_modes(_read_table(view, 0, modes_end, "modes")),
        _parse_xattrs(_read_table(view, modes_end, xattrs_end, "xattrs")),
        view.window(xattrs_end, payload_end),
        _read_table(view, payload_end, table, "program"),
    )


def _read_table(view: ByteView, start: int, end: int, field: str) -> bytes:
    if end - start > MAX_TABLE_BYTES:
        fail(field, f"at most {MAX_TABLE_BYTES} bytes", end - start)
    return view.read(start, end - start)


def _parse_modes(data: bytes) -> list[tuple[int, int, int]]:
    if len(data) % _MODE.size:
        fail("modes", f"entries of {_MODE.size} bytes", f"{len(data)} bytes")
    return cast("list[tuple[int, int, int]]", list(_MODE.iter_unpack(data)))


def _parse_xattrs(data: bytes) -> list[Xattrs]:
    try:
        lists = cast(
            "list[list[tuple[bytes, bytes]]]", gvariant.decode("aa(ayay)", data, max_values=1_000_000)
        )
        for pairs in lists:
            format_xattrs(pairs)  # Refuses names and values that no file may have.
    except gvariant.GVariantError as error:
        raise DeltaError(f"xattrs: {error}", offset=error.offset, field="xattrs") from error
    except OstreeObjectError as error:
        raise DeltaError(str(error), field="xattrs") from error
    return [tuple(pairs) for pairs in lists]
