"""splitdirfdstream, both ways and however it comes."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.dirfdstream import (
    DirfdStreamError,
    FileReference,
    StreamDecoder,
    encode_inline,
    encode_reference,
)
from cfsctl.dirfdstream.format import MAX_INLINE_BYTES, MAX_NAME_BYTES


def decode(data: bytes, step: int) -> list[bytes | FileReference]:
    """Return the pieces; inline ones that follow each other as one."""
    decoder = StreamDecoder()
    found: list[bytes | FileReference] = []
    for start in range(0, len(data), step):
        for piece in decoder.feed(data[start : start + step]):
            if isinstance(piece, FileReference):
                found.append(piece)
            elif found and isinstance(found[-1], bytes):
                found[-1] += bytes(piece)
            else:
                found.append(bytes(piece))
    decoder.finish()
    return found


references = st.builds(
    FileReference, st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=300)
)


@given(st.lists(st.binary(min_size=1) | references), st.integers(1, 40))
def test_round_trip(pieces: list[bytes | FileReference], step: int) -> None:
    data = b""
    expected: list[bytes | FileReference] = []
    for piece in pieces:
        if isinstance(piece, FileReference):
            data += encode_reference(*piece)
            expected.append(piece)
        else:
            data += b"".join(map(bytes, encode_inline(piece)))
            if expected and isinstance(expected[-1], bytes):
                expected[-1] += piece
            else:
                expected.append(piece)
    assert decode(data, step) == expected


def test_the_bytes_themselves() -> None:
    assert b"".join(map(bytes, encode_inline(b"ab"))) == b"\0\2\0\0\0ab"
    assert encode_reference(5, 1, b"x/y") == b"\2" + struct.pack("<QII", 5, 1, 3) + b"x/y"
    assert decode(b"\1\3\0\0\0abc\0\0\0\0\0", 1) == [b"abc"]


@pytest.mark.parametrize(
    "data",
    [
        b"g",
        b"\3",
        b"\0",
        b"\0\1\0\0\0",
        struct.pack("<BI", 0, MAX_INLINE_BYTES + 1),
        struct.pack("<BQII", 2, 1, 0, 0),
        struct.pack("<BQII", 2, 1, 0, MAX_NAME_BYTES + 1),
        struct.pack("<BQII", 2, 1 << 63, 0, 1) + b"x",
        struct.pack("<BQII", 2, 1, 0, 3) + b"xy",
    ],
)
def test_streams_that_are_not_valid(data: bytes) -> None:
    for step in (1, len(data)):
        with pytest.raises(DirfdStreamError):
            decode(data, step)


@given(st.binary(), st.integers(1, 20))
def test_whatever_comes_there_is_one_error(data: bytes, step: int) -> None:
    with contextlib.suppress(DirfdStreamError):
        decode(data, step)
