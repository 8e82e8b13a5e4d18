"""Fuzz the splitstream reader: whatever comes in is read or refused with SplitstreamError.

What is read must also keep its promises: a file gives the same as memory, what is
rebuilt has the size it claims, and what the writer makes of it reads as the same stream.

    python fuzz/fuzz_splitstream.py CORPUS [libFuzzer options]

New corpora are seeded with recorded streams. Needs atheris. The first byte of an input chooses: a whole
file, or the tables and the chunks of one, which are packed here, so that mutations get past the compression.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["cfsctl"]):
    from cfsctl.digest import Algorithm
    from cfsctl.splitstream import Inline, SplitstreamError, SplitstreamReader
    from tests.fakes.object_store import MemoryStore
    from tests.support.splitstreams import build, frame, rewrite

VECTORS = ROOT / "tests" / "vectors" / "splitstream"
OBJECT_SIZE = 6
"""Bytes of every object, whatever its ID."""


def one_input(data: bytes) -> None:
    choice = data[:1]
    algorithm = Algorithm.SHA512 if choice in b"5P" else Algorithm.SHA256
    file = packed(data[1:], algorithm) if choice in b"pP" else data[1:]
    pieces = outcome(SplitstreamReader, file, algorithm)
    assert outcome(open_file, file, algorithm) == pieces
    if isinstance(pieces, str):
        return
    store = MemoryStore(algorithm)
    with SplitstreamReader(file, algorithm) as reader:
        store.objects = dict.fromkeys(reader.object_refs, b"object")
        names = dict(reader.named_refs)
        sound = not reader.find_irregularities()
    if sound:
        with SplitstreamReader(rewrite(file, store, algorithm), algorithm) as again:
            assert contents(again) == pieces
            assert again.named_refs == names


def outcome(make, file: bytes, algorithm: Algorithm) -> list[bytes | str] | str:  # noqa: ANN001 - a reader
    """Return what a splitstream holds, or why it was refused; every way to read it must agree."""
    try:
        with make(file, algorithm) as reader:
            reader.find_irregularities()
            pieces = contents(reader)
            reader.check(lambda _: OBJECT_SIZE)
            assert total(pieces) == reader.stream_size
            if not any(isinstance(piece, str) for piece in pieces):
                assert reader.read_inline(1 << 26) == b"".join(pieces)
            return pieces
    except SplitstreamError as error:
        return str(error)


def open_file(file: bytes, algorithm: Algorithm) -> SplitstreamReader:
    fd = os.memfd_create("splitstream")
    with open(fd, "wb", closefd=False) as stream:
        stream.write(file)
    return SplitstreamReader(fd, algorithm)


def contents(reader: SplitstreamReader) -> list[bytes | str]:
    """Return inline data as bytes, joined, and IDs of objects as text, in order."""
    pieces: list[bytes | str] = []
    inline = bytearray()
    for chunk in reader.iter_chunks():
        if isinstance(chunk, Inline):
            inline += chunk.data
            continue
        if inline:
            pieces.append(bytes(inline))
            inline.clear()
        pieces.append(chunk.object_id.hex())
    return [*pieces, bytes(inline)] if inline else pieces


def total(pieces: list[bytes | str]) -> int:
    return sum(OBJECT_SIZE if isinstance(piece, str) else len(piece) for piece in pieces)


def packed(data: bytes, algorithm: Algorithm) -> bytes:
    """Return a splitstream with these as its names, its chunks and its size."""
    names, _, chunks = data[2:].partition(b"\xff\xfe")
    refs = [bytes([number]) * algorithm.digest_size for number in range(data[0] % 4 if data else 0)]
    size = len(chunks) - data[1] if len(data) > 1 else 0
    return build(
        frame(chunks),
        refs=refs,
        stream_refs=refs,
        named_refs=frame(names),
        size=max(size, 0),
        algorithm=2 if algorithm is Algorithm.SHA512 else 1,
    )


def seed(corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for path in VECTORS.glob("*.splitstream"):
        choice = b"5" if "512" in path.name else b"2"
        (corpus / path.stem).write_bytes(choice + path.read_bytes())
    hello = (-5).to_bytes(8, "little", signed=True) + b"hello"
    for choice in (b"p", b"P"):
        for number, (head, names, chunks) in enumerate(
            [
                (b"\0\x08", b"", hello),
                (b"\1\x0a", b"0:name\0", hello + bytes(8)),
                (b"\2\x1a", b"0:a\x001:b\0", bytes(8) + hello + bytes([1]) + bytes(7)),
            ]
        ):
            (corpus / f"packed-{number}-{choice.decode()}").write_bytes(
                choice + head + names + b"\xff\xfe" + chunks
            )


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        seed(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
