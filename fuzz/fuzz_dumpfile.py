"""Fuzz the dump reader: whatever comes in is read or refused with DumpfileError, however it is cut.

What is read is written again as a dump of the same tree, and makes an image or is refused with ErofsError.

    python fuzz/fuzz_dumpfile.py CORPUS [libFuzzer options]

New corpora are seeded with recorded dumps. Needs atheris.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["cfsctl"]):
    from cfsctl.digest import Algorithm
    from cfsctl.dumpfile import Dialect, DumpfileError, iter_dump, parse_dump
    from cfsctl.erofs.format import ErofsError, FormatVersion
    from cfsctl.erofs.write.image import build_image

if TYPE_CHECKING:
    from cfsctl.tree.model import FileSystem

VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "erofs"
MAX_SEED = 20_000
"""Bytes of a dump that is worth having in a corpus."""


class Trickle(io.BytesIO):
    """Gives a few bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size if size is not None else 7, 7))


def outcome(stream: io.BytesIO, algorithm: Algorithm, dialect: Dialect) -> FileSystem | str:
    try:
        return parse_dump(stream, algorithm, dialect)
    except DumpfileError as error:
        return str(error)


def dump(filesystem: FileSystem) -> bytes:
    return b"".join(iter_dump(filesystem))


def one_input(data: bytes) -> None:
    choice, text = data[:1], data[1:]
    dialect = Dialect.C if choice < b"a" else Dialect.RUST
    algorithm = Algorithm.SHA512 if choice == b"5" else Algorithm.SHA256
    filesystem = outcome(io.BytesIO(text), algorithm, dialect)
    slowly = outcome(Trickle(text), algorithm, dialect)
    if isinstance(filesystem, str) or isinstance(slowly, str):
        assert filesystem == slowly
        return
    written = dump(filesystem)
    assert dump(slowly) == written
    # Deep paths of the C dialect are longer than a path may be, and its links may be of many kinds.
    if dialect is Dialect.RUST:
        assert dump(parse_dump(io.BytesIO(written), algorithm, dialect)) == written
    for version in FormatVersion:
        try:
            image = build_image(filesystem, version, dialect)
        except ErofsError:
            continue
        assert len(image) % 4096 == 0


def seed(corpus: Path) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for name in ("golden.json", "differences.json"):
        for number, tree in enumerate(json.loads((VECTORS / name).read_text())):
            if len(tree["dump"]) < MAX_SEED:
                for choice in (b"a", b"C"):
                    (corpus / f"{name}-{number}-{choice.decode()}").write_bytes(
                        choice + tree["dump"].encode()
                    )
    for path in (VECTORS / "random").glob("*.dump.gz"):
        data = gzip.decompress(path.read_bytes())
        if len(data) < MAX_SEED:
            choice = b"5" if path.name.startswith("512") else b"a"
            (corpus / path.stem).write_bytes(choice + data)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        seed(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
