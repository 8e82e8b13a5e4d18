"""Decoders give back what went in, however it is cut, and refuse everything else."""

from __future__ import annotations

import gzip
import lzma
import random
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard

from cfsctl.compression import (
    MAX_PIECE_BYTES,
    Compression,
    CompressionError,
    TooMuchOutputError,
    TrailingError,
    TruncatedError,
    detect_compression,
    iter_decoded,
)

if TYPE_CHECKING:
    from collections.abc import Callable

RANDOM = random.Random(1)
DATA = RANDOM.randbytes(150_000) + bytes(900_000) + RANDOM.randbytes(50) * 500
SKIPPABLE = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"


def pack_zstd(data: bytes, *, checksum: bool = False, content_size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=content_size).compress(data)


def unpack(data: bytes, kind: Compression, step: int = 1 << 16, limit: int | None = None) -> bytes:
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    found = [bytes(piece) for piece in iter_decoded(pieces, kind, limit)]
    assert all(0 < len(piece) <= MAX_PIECE_BYTES for piece in found)
    return b"".join(found)


PACKERS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.NONE: bytes,
    Compression.GZIP: lambda data: gzip.compress(data, 6, mtime=0),
    Compression.ZSTD: pack_zstd,
    Compression.XZ: lzma.compress,
}
PACKED = [Compression.GZIP, Compression.ZSTD, Compression.XZ]


@pytest.fixture(params=["isal", "zlib"])
def _inflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inflate with each of the libraries."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(__import__("sys").modules, "isal.isal_zlib", None)


@pytest.mark.usefixtures("_inflate")
@pytest.mark.parametrize("step", [1, 999, 1 << 20])
@pytest.mark.parametrize("kind", Compression)
def test_everything_comes_back_however_it_is_cut(kind: Compression, step: int) -> None:
    data = DATA if step > 1 else DATA[149_000:160_000]
    assert unpack(PACKERS[kind](data), kind, step) == data


@pytest.mark.usefixtures("_inflate")
@pytest.mark.parametrize("step", [1, 5, 4096])
@pytest.mark.parametrize("kind", PACKED)
def test_members_may_follow_one_another(kind: Compression, step: int) -> None:
    pack = PACKERS[kind]
    assert unpack(pack(b"") + pack(b"one") + pack(b"") + pack(b"two") + pack(b""), kind, step) == b"onetwo"


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("content_size", [True, False])
@pytest.mark.parametrize("step", [1, 4096, 1 << 20])
def test_zstd_frames_of_every_shape(checksum: bool, content_size: bool, step: int) -> None:  # noqa: FBT001 - parameters
    frame = pack_zstd(DATA[140_000:170_000], checksum=checksum, content_size=content_size)
    data = SKIPPABLE + frame + SKIPPABLE + frame + b"\x50\x2a\x4d\x18\0\0\0\0"
    assert unpack(data, Compression.ZSTD, step) == DATA[140_000:170_000] * 2


def stream_zstd(data: bytes) -> bytes:
    """Return a frame as it is written where its size is not known before: without that size."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


SMALL_FRAMES = [
    pack_zstd(b"a header " * 57, checksum=True),
    pack_zstd(RANDOM.randbytes(700)),
    stream_zstd(b"some text " * 30),
    stream_zstd(b""),
    pack_zstd(b""),
    SKIPPABLE,
    stream_zstd(bytes(200_000)),
    pack_zstd(bytes(MAX_PIECE_BYTES)),
    pack_zstd(bytes(MAX_PIECE_BYTES + 1)),
]


def test_what_many_small_frames_hold_comes_in_large_pieces() -> None:
    """So it is in zstd:chunked, where each file has frames of its own."""
    contents = [RANDOM.randbytes(RANDOM.randrange(3000)) for _ in range(500)]
    for pack in (pack_zstd, stream_zstd):
        pieces = [bytes(piece) for piece in iter_decoded([b"".join(map(pack, contents))], Compression.ZSTD)]
        assert b"".join(pieces) == b"".join(contents)
        assert max(map(len, pieces)) <= MAX_PIECE_BYTES
        # An empty frame, or one that ends the input, is followed part by part.
        assert len(pieces) < 30


def decode_in_steps(data: bytes, step: int) -> bytes | type[CompressionError]:
    try:
        return unpack(data, Compression.ZSTD, step)
    except CompressionError as error:
        return type(error)


@pytest.mark.parametrize("seed", range(4))
def test_frames_mean_the_same_however_they_are_cut(seed: int) -> None:
    """Frames that are complete in a piece are decompressed in another way than those that are not."""
    chosen = random.Random(seed)
    for _ in range(60):
        data = bytearray(b"".join(chosen.choices(SMALL_FRAMES, k=chosen.randrange(1, 6))))
        for _ in range(chosen.randrange(3)):
            data[chosen.randrange(min(len(data), 60))] ^= 1 << chosen.randrange(8)
        assert decode_in_steps(bytes(data), len(data)) == decode_in_steps(bytes(data), 13)


@pytest.mark.parametrize("step", [1, 100])
def test_a_frame_with_content_of_another_size_is_refused(step: int) -> None:
    for said in (4, 6):  # single segment, the size in one byte, one block that is not compressed
        frame = b"\x28\xb5\x2f\xfd\x20" + bytes((said,)) + (5 << 3 | 1).to_bytes(3, "little") + b"abcde"
        with pytest.raises(CompressionError, match="damaged"):
            unpack(frame + pack_zstd(b"more"), Compression.ZSTD, step)


def test_a_small_frame_cannot_ask_for_a_window_that_is_refused() -> None:
    frame = bytearray(pack_zstd(bytes(range(256)) * 3))
    assert frame[4] & 0x60 == 0x60, "single segment, the size in two bytes"
    frame[4] &= ~0x20
    frame.insert(5, 20 << 3)  # a window of 1 GiB
    for step in (1, 1 << 16):
        with pytest.raises(CompressionError, match="memory"):
            unpack(bytes(frame), Compression.ZSTD, step)


def test_a_skippable_frame_alone_is_nothing() -> None:
    assert unpack(SKIPPABLE, Compression.ZSTD) == b""


@pytest.mark.usefixtures("_inflate")
@pytest.mark.parametrize("kind", PACKED)
def test_no_bytes_are_no_member(kind: Compression) -> None:
    with pytest.raises(CompressionError, match="unexpected end"):
        unpack(b"", kind)


@pytest.mark.usefixtures("_inflate")
@pytest.mark.parametrize("kind", PACKED)
def test_every_cut_is_noticed(kind: Compression) -> None:
    data = PACKERS[kind](b"a" * 300 + RANDOM.randbytes(60))
    for size in range(len(data)):
        with pytest.raises(CompressionError):
            unpack(data[:size], kind)


@pytest.mark.usefixtures("_inflate")
@pytest.mark.parametrize("tail", [b"\0", bytes(512), b"text", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"])
@pytest.mark.parametrize("step", [1, 1 << 16])
@pytest.mark.parametrize("kind", PACKED)
def test_nothing_else_may_follow(kind: Compression, step: int, tail: bytes) -> None:
    with pytest.raises(CompressionError):
        unpack(PACKERS[kind](b"content") + tail, kind, step)


@pytest.mark.usefixtures("_inflate")
@pytest.mark.parametrize("step", [1, 1 << 16])
@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.XZ])
def test_only_one_member_where_a_format_has_only_one(kind: Compression, step: int) -> None:
    member = PACKERS[kind](b"content")
    for data in (member + member, member + b"\0"):
        pieces = [data[start : start + step] for start in range(0, len(data), step)]
        with pytest.raises(TrailingError, match="expected the end, found bytes"):
            list(iter_decoded(pieces, kind, is_single=True))
    assert b"".join(iter_decoded([member], kind, is_single=True)) == b"content"


@pytest.mark.usefixtures("_inflate")
@pytest.mark.parametrize("kind", PACKED)
def test_the_kind_of_error_says_where_it_is(kind: Compression) -> None:
    member = PACKERS[kind](b"content" * 100)
    with pytest.raises(TruncatedError):
        unpack(member[:-1], kind)
    with pytest.raises(TrailingError, match="or the end, found bytes 6a 75 6e 6b"):
        unpack(member + b"junk", kind)
    with pytest.raises(CompressionError, match=r"expected an? [a-z ]+, found bytes 6a 75 6e 6b") as caught:
        unpack(b"junk" + member, kind)
    assert not isinstance(caught.value, TrailingError)


@pytest.mark.usefixtures("_inflate")
@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.XZ])
def test_every_flipped_bit_of_a_checked_content_is_noticed(kind: Compression) -> None:
    data = PACKERS[kind](b"content " * 20)
    header = 10 if kind is Compression.GZIP else 0  # of gzip the header says times and names
    for place in range(header, len(data)):
        wrong = bytearray(data)
        wrong[place] ^= 0x10
        try:
            assert unpack(bytes(wrong), kind) == b"content " * 20
        except CompressionError:
            continue


@pytest.mark.usefixtures("_inflate")
@pytest.mark.parametrize("kind", Compression)
def test_a_limit_is_kept_in_the_middle_of_a_piece(kind: Compression) -> None:
    data = PACKERS[kind](bytes(3_000_000))
    assert len(unpack(data, kind, limit=3_000_000)) == 3_000_000
    with pytest.raises(TooMuchOutputError, match="more than 2999999 bytes"):
        unpack(data, kind, limit=2_999_999)


def test_a_small_frame_cannot_give_much_at_once() -> None:
    block = (1 << 17 << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    last = (1 << 17 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"x"
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + block * 999 + last
    total = 0
    for piece in iter_decoded([frame], Compression.ZSTD):
        assert len(piece) <= MAX_PIECE_BYTES
        total += len(piece)
    assert total == 1000 << 17


def test_a_window_that_needs_too_much_memory_is_refused() -> None:
    frame = b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x01\0\0"  # a window of 2 GiB
    with pytest.raises(CompressionError, match="memory"):
        unpack(frame, Compression.ZSTD)


def test_a_block_of_the_reserved_type_is_refused() -> None:
    with pytest.raises(CompressionError, match="reserved"):
        unpack(b"\x28\xb5\x2f\xfd\x00\x58\x07\0\0", Compression.ZSTD)


@pytest.mark.parametrize("kind", Compression)
def test_compression_is_recognised(kind: Compression) -> None:
    assert detect_compression(PACKERS[kind](b"some text")[:6]) is kind
    assert detect_compression(SKIPPABLE[:6]) is Compression.ZSTD


def test_a_deflate_stream_is_no_gzip() -> None:
    with pytest.raises(CompressionError, match="expected a gzip member"):
        unpack(zlib.compress(b"text"), Compression.GZIP)
