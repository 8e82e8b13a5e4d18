"""Streams that are small as files and large when they are unpacked."""

from __future__ import annotations

import pytest
import zstandard

from cfsctl.digest import Algorithm
from cfsctl.splitstream import SplitstreamReader, SplitstreamWriter
from cfsctl.splitstream.format import (
    CHUNK,
    FREE_HELD_BYTES,
    ContentType,
    SplitstreamError,
    format_head,
)
from tests.fakes.object_store import MemoryStore

SHA256 = Algorithm.SHA256
STEP = 1 << 20


def craft(size: int) -> bytes:
    """Return a stream of so many zeros, which take a thirtieth of a thousandth of the space."""
    compressor = zstandard.ZstdCompressor().compressobj()
    pieces = [compressor.compress(CHUNK.pack(-size))]
    pieces += [compressor.compress(bytes(STEP)) for _ in range(size // STEP)]
    stream = b"".join([*pieces, compressor.flush()])
    names = zstandard.ZstdCompressor().compress(b"")
    sizes = (0, 0, len(names), len(stream))
    return format_head(SHA256, ContentType.OSTREE_COMMIT, size, sizes) + names + stream


@pytest.fixture
def small_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sections unpack to 1 MiB besides, so that the tests need not unpack more."""
    for name in ("FREE_STREAMED_BYTES", "FREE_HELD_BYTES"):
        monkeypatch.setattr(f"cfsctl.splitstream.format.{name}", STEP)


def test_what_would_be_held_is_refused_by_what_it_claims() -> None:
    data = craft(FREE_HELD_BYTES + 4 * STEP)
    with (
        SplitstreamReader(data, SHA256) as reader,
        pytest.raises(SplitstreamError, match=r"stream size: expected at most \d+ bytes, found"),
    ):
        reader.read_inline(1 << 30)


@pytest.mark.usefixtures("small_allowance")
def test_what_is_streamed_may_be_larger_but_not_endless() -> None:
    with SplitstreamReader(craft(STEP), SHA256) as reader:
        reader.check(lambda _: 0)
    with (
        SplitstreamReader(craft(64 * STEP), SHA256) as reader,
        pytest.raises(SplitstreamError, match=r"stream: expected at most \d+ bytes in \d+ compressed ones"),
    ):
        reader.check(lambda _: 0)


def test_what_it_claims_and_does_not_hold_costs_nothing() -> None:
    data = bytearray(craft(STEP))
    data[32 + 72 : 32 + 80] = (1 << 40).to_bytes(8, "little")
    with SplitstreamReader(bytes(data), SHA256) as reader, pytest.raises(SplitstreamError, match="at most"):
        reader.read_inline(1 << 50)


@pytest.mark.usefixtures("small_allowance")
@pytest.mark.parametrize("is_held", [False, True])
def test_the_writer_makes_nothing_that_the_reader_refuses(*, is_held: bool) -> None:
    store = MemoryStore(SHA256)
    size = (8 if is_held else 64) * STEP
    with SplitstreamWriter(store, SHA256, ContentType.OSTREE_COMMIT, is_held=is_held) as writer:
        writer.begin_inline(size)
        for _ in range(size // STEP):
            writer.write_inline(bytes(STEP))
        with pytest.raises(SplitstreamError, match=f"found {size}"):
            writer.finish()
    assert not store.objects
