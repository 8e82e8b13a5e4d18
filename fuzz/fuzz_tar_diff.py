"""Fuzz what applies patches of layers: whatever comes in is applied or refused with TarDiffError.

Where the patch is cut makes no difference, and no more is held than the limits allow.

    python fuzz/fuzz_tar_diff.py CORPUS [libFuzzer options]

Needs atheris. The first byte of an input chooses: '1' and '2' are the operations of a patch with that magic.
They are compressed here, so that mutations get past the compression. Anything else is a whole patch."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import atheris
import zstandard

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["cfsctl"]):
    from cfsctl.errors import FormatError
    from cfsctl.oci.tar_diff.decode import OpenedFile, TarDiffDecoder, TarDiffError
    from cfsctl.oci.tar_diff.encode import compress_with_prefix
    from cfsctl.oci.tar_diff.format import MAGIC_1, MAGIC_2

FILES = {b"usr/a": bytes(range(256)) * 4, b"usr/b": b"text\n" * 99, b"": b""}
MAX_OUTPUT = 1 << 22
"""Most bytes that are looked at: a short patch may copy a file any number of times."""


class Files:
    """The files that patches start from."""

    def __init__(self) -> None:
        self.opened: list[OpenedFile] = []

    def open(self, path: bytes, /) -> OpenedFile:
        if path not in FILES:
            raise TarDiffError(f"Source file not found: {path!r}")
        self.opened.append(OpenedFile(FILES[path]))
        return self.opened[-1]


def one_input(data: bytes) -> None:
    magic = {b"1": MAGIC_1, b"2": MAGIC_2}.get(data[:1])
    patch = data[1:] if magic is None else magic + zstandard.ZstdCompressor().compress(data[1:])
    assert outcome(patch, len(patch) or 1) == outcome(patch, 1 + len(data) % 61)


def outcome(patch: bytes, step: int) -> bytes | None:
    """Return what a patch gives, up to a limit, or None if it is refused.

    The reason may be that of the compression library, which sees the next fault if it is given more.
    """
    decoder = TarDiffDecoder(Files())
    output = bytearray()
    try:
        pieces = (patch[start : start + step] for start in range(0, len(patch), step))
        for piece in itertools.chain.from_iterable(map(decoder.decode, pieces)):
            assert len(piece) <= 1 << 20
            output += piece
            if len(output) > MAX_OUTPUT:
                return bytes(output[:MAX_OUTPUT])
        decoder.finish()
    except FormatError:
        return None
    finally:
        decoder.close()
    return bytes(output)


def number(value: int) -> bytes:
    """Return a number as patches have it."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def seed(corpus: Path) -> None:
    """Put patches with every operation into a new corpus."""
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    opened = b"\x01" + number(5) + b"usr/a"
    frame = compress_with_prefix(b"new" + FILES[b"usr/a"][:500], FILES[b"usr/a"])
    for name, operations in {
        "1-copy": b"\x00\x04data" + opened + b"\x02" + number(300) + b"\x04\x05\x02\x03",
        "1-add": opened + b"\x04\x07\x03" + number(9) + b"\x00\x01\xff\x80\x7f\x02\x03\x04\x05",
        "2-frame": opened + b"\x05" + number(len(frame)) + frame + b"\x00\x00",
        "1-two": opened + b"\x02\x05\x01\x05usr/b\x02\x09",
    }.items():
        (corpus / name).write_bytes(name[:1].encode() + operations)
        magic = MAGIC_1 if name[0] == "1" else MAGIC_2
        (corpus / f"whole-{name}").write_bytes(b"w" + magic + zstandard.ZstdCompressor().compress(operations))


if __name__ == "__main__":
    for argument in sys.argv[1:2]:
        seed(Path(argument))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
