"""Fuzz the parser of tar archives: whatever comes in is parsed or refused with TarError.

What is parsed must also keep its promises: every byte is given back, in order; the cuts make no difference;
and the layer stream made of it is read as the same entries.

    python fuzz/fuzz_tar.py CORPUS [libFuzzer options]

Needs atheris. The first byte of an input chooses: 'f' repairs the checksums of headers, so that mutations get
past them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["cfsctl"]):
    from cfsctl.oci.tar import Entry, TarError, TarParser
    from tests.support.oci import VECTORS, unpack

BLOCK = 512


def one_input(data: bytes) -> None:
    archive = repair(data[1:]) if data[:1] == b"f" else data[1:]
    whole = outcome(archive, len(archive) or 1)
    assert outcome(archive, 1 + len(data) % 700) == whole
    if not isinstance(whole, str):
        check_second_way(archive, whole)


def repair(data: bytes) -> bytes:
    """Return an archive with a right checksum in every block that may be a header."""
    blocks = []
    for start in range(0, len(data), BLOCK):
        block = data[start : start + BLOCK]
        if len(block) == BLOCK and any(block):
            total = sum(block[:148]) + sum(block[156:]) + 8 * 32
            block = block[:148] + b"%06o\0 " % total + block[156:]
        blocks.append(block)
    return b"".join(blocks)


def outcome(data: bytes, step: int) -> list[tuple[object, ...]] | str:
    """Return what an archive holds, or why it was refused."""
    parser = TarParser()
    rebuilt = bytearray()
    entries: list[tuple[object, ...]] = []
    try:
        for start in range(0, len(data), step):
            for event in parser.feed(data[start : start + step]):
                if isinstance(event, Entry):
                    entries.append(describe(event))
                else:
                    rebuilt += event.data
        parser.finish()
    except TarError as error:
        return str(error)
    assert rebuilt == data
    return entries


def describe(entry: Entry) -> tuple[object, ...]:
    return tuple(getattr(entry, name) for name in Entry.__slots__ if name != "xattrs")


def check_second_way(data: bytes, wanted: list[tuple[object, ...]]) -> None:
    """Parse again, with the bodies of larger files left out."""
    parser = TarParser()
    found: list[tuple[object, ...]] = []
    while parser.offset < len(data) and not parser.is_ended:
        block = data[parser.offset : parser.offset + BLOCK - parser.offset % BLOCK]
        for event in parser.feed(block):
            if isinstance(event, Entry):
                found.append(describe(event))
                if event.is_external:
                    parser.skip_body(event.size)
    parser.finish()
    assert found == wanted


def seed(corpus: Path) -> None:
    """Put layers of the recorded layouts into a new corpus."""
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    with tempfile.TemporaryDirectory() as place:
        for archive in sorted((VECTORS / "layouts").iterdir()):
            unpack(archive, Path(place))
        for blob in Path(place).rglob("blobs/sha256/*"):
            data = blob.read_bytes()
            if data[257:262] == b"ustar" and len(data) < 1 << 16:
                (corpus / blob.name[:16]).write_bytes(b"f" + data.rstrip(b"\0") + bytes(1024))


if __name__ == "__main__":
    for argument in sys.argv[1:2]:
        seed(Path(argument))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
