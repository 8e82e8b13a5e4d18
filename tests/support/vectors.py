"""Trees as dumps, and the digests of their images."""

from __future__ import annotations

import csv
import gzip
import io
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict

from cfsctl.digest import Algorithm
from cfsctl.dumpfile import Dialect, parse_dump
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.fsverity.merkle import compute_digest

if TYPE_CHECKING:
    from cfsctl.tree.model import FileSystem

EROFS = Path(__file__).parents[1] / "vectors" / "erofs"


class Recorded(NamedTuple):
    """A dump, and the digests of its image by format."""

    name: str
    algorithm: Algorithm
    path: Path
    digests: dict[FormatVersion, str]

    def read(self) -> bytes:
        """Return the dump."""
        return gzip.decompress(self.path.read_bytes())


class Golden(TypedDict):
    """A small dump with digests."""

    name: str
    dump: str
    sha256: list[str]
    sha512: NotRequired[dict[str, str]]


class Difference(TypedDict):
    """A dump that the two originals disagree about."""

    name: str
    dump: str
    c: str | None
    c_v0: str | None
    c_v1: str | None
    rust_v0: str | None
    rust_v1: str | None


@cache
def random_trees() -> list[Recorded]:
    """Return the generated trees; digests that are not known are left out."""
    with open(EROFS / "random" / "digests.tsv", newline="") as table:
        return [
            Recorded(
                row["dump"].removesuffix(".dump"),
                Algorithm.from_hash_name(row["algorithm"]),
                EROFS / "random" / f"{row['dump']}.gz",
                {v: row[f"v{v.value}"] for v in FormatVersion if row[f"v{v.value}"] != "-"},
            )
            for row in csv.DictReader(table, delimiter="\t")
        ]


@cache
def golden() -> list[Golden]:
    """Return the small trees."""
    trees: list[Golden] = json.loads((EROFS / "golden.json").read_text())
    return trees


@cache
def differences() -> list[Difference]:
    """Return the trees that the originals disagree about."""
    trees: list[Difference] = json.loads((EROFS / "differences.json").read_text())
    return trees


def parse(
    dump: str | bytes, dialect: Dialect = Dialect.RUST, algorithm: Algorithm = Algorithm.SHA256
) -> FileSystem:
    """Return the tree of a dump."""
    data = dump.encode() if isinstance(dump, str) else dump
    return parse_dump(io.BytesIO(data), algorithm, dialect)


def image_digest(
    dump: str | bytes,
    version: FormatVersion,
    dialect: Dialect = Dialect.RUST,
    algorithm: Algorithm = Algorithm.SHA256,
) -> str:
    """Return the digest of the image of a dump, in hex."""
    image = build_image(parse(dump, dialect, algorithm), version, dialect)
    return compute_digest(image, algorithm).hex()
