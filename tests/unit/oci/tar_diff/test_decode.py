"""Patches of layers: every operation, however the bytes come, and what is refused."""

from __future__ import annotations

import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.compression import CompressionError
from cfsctl.oci.tar_diff.decode import OpenedFile, TarDiffDecoder, TarDiffError

RANDOM = random.Random(3)
FILES = {b"usr/a": bytes(range(256)) * 1000, b"usr/empty": b""}


class Files:
    """The files that patches start from."""

    def open(self, path: bytes, /) -> OpenedFile:
        if path not in FILES:
            raise TarDiffError(f"Source file not found: {path!r}")
        return OpenedFile(FILES[path])


def number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def op(kind: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return bytes((kind,)) + number(value)
    return bytes((kind,)) + number(len(value)) + value


def pack(*ops: bytes, magic: bytes = b"tardf2\n\0") -> bytes:
    return magic + zstandard.ZstdCompressor().compress(b"".join(ops))


def apply(patch: bytes, step: int = 1 << 16) -> bytes:
    decoder = TarDiffDecoder(Files())
    found = bytearray()
    for start in range(0, len(patch), step):
        for piece in decoder.decode(patch[start : start + step]):
            found += piece
    decoder.finish()
    return bytes(found)


def frame(data: bytes, prefix: bytes) -> bytes:
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=dictionary).compress(data)


OPEN = op(1, b"usr/a")
SOURCE = FILES[b"usr/a"]


@pytest.mark.parametrize("step", [1, 7, 1 << 16])
def test_all_operations(step: int) -> None:
    noise = RANDOM.randbytes(100_001)
    patch = pack(
        op(0, b"data"),
        OPEN,
        op(2, 70_000),
        op(4, 5),
        op(3, noise),
        op(2, 3),
        op(5, frame(SOURCE[100:5000] + b"new", SOURCE) + b"passed over"),
        op(0, b""),
    )
    added = bytes((a + b) & 0xFF for a, b in zip(noise, SOURCE[5:], strict=False))
    after = SOURCE[5 + len(noise) :][:3]
    assert apply(patch, step) == b"data" + SOURCE[:70_000] + added + after + SOURCE[100:5000] + b"new"


@pytest.mark.parametrize(
    ("patch", "match"),
    [
        (pack(magic=b"tardf3\n\0"), "Invalid tar-diff header"),
        (b"tardf", "Invalid tar-diff header"),
        (pack(op(5, b"x"), magic=b"tardf1\n\0"), "ZstdDict op requires a tardf2 delta"),
        (pack(op(6, 0)), "Unexpected tar-diff op 6"),
        (pack(op(1, b"x")), "Source file not found"),
        (pack(op(2, 1)), "No current file set"),
        (pack(op(3, b"x")), "No current file set"),
        (pack(op(1, b"x" * 4097)), "Filename size 4097 exceeds limit"),
        (pack(op(3, (100 << 20) + 1)), "AddData size 104857601 exceeds limit"),
        (pack(OPEN, op(2, 256_001)), "Short read from data source: expected 256001, got 256000"),
        (pack(OPEN, op(4, 1 << 63), op(2, 1)), "expected 1, got 0"),
        (pack(OPEN, op(4, 255_999), op(3, b"xx")), "expected 2, got 1"),
        (pack(b"\0" + b"\xff" * 10 + b"\1"), "uvarint overflow"),
        (pack(b"\0" + b"\xff" * 9 + b"\2"), "uvarint overflow"),
        (pack(b"\0\5ab"), "unexpected end in operation 0"),
        (pack(OPEN, op(5, b"noise")), "frame of operation 5"),
        (pack(OPEN, op(5, b"")), "frame of operation 5: unexpected end"),
    ],
)
def test_what_is_refused(patch: bytes, match: str) -> None:
    for step in (1, 1 << 16):
        with pytest.raises(TarDiffError, match=match):
            apply(patch, step)


def test_a_copy_of_nothing_is_nothing() -> None:
    assert apply(pack(op(1, b"usr/empty"), op(2, 0))) == b""


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(1, 50))
def test_any_operations_are_run_or_refused(parts: list[bytes], step: int) -> None:
    patch = pack(OPEN, *parts)
    try:
        apply(patch, step)
    except (TarDiffError, CompressionError):
        return
