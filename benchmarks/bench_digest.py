"""fs-verity digests of one large file, beside `fsverity digest`.

python -m benchmarks.bench_digest [OPTIONS of python -m benchmarks]
"""

from __future__ import annotations

import contextlib
import random
import shlex
import sys
from typing import TYPE_CHECKING

from benchmarks.command_line import run
from benchmarks.declaration import FSVERITY, OURS, Aim, Group, Place, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PIECE = 1 << 20


@contextlib.contextmanager
def prepare(place: Place) -> Iterator[Mapping[str, str]]:
    """Make a file of 1 GiB."""
    path = place.path / "large"
    piece = random.Random(1).randbytes(_PIECE)
    with path.open("wb") as file:
        for _ in range(place.scaled(1024)):
            file.write(piece)
    yield {"file": shlex.quote(str(path))}


def digest(hash_name: str, aims: tuple[Aim, ...]) -> Row:
    """Return the row of one hash."""
    return Row(
        f"fs-verity digest of 1 GiB, {hash_name}",
        {
            OURS: f"{{ours}} composefs-info --hash={hash_name} measure-file {{file}}",
            FSVERITY: f"{{fsverity}} digest --hash-alg={hash_name} {{file}}",
        },
        aims,
        "Hashing, and copying out of the page cache, on each core; start-up is a quarter.",
    )


GROUPS = (
    Group(
        "digest",
        prepare,
        (
            digest("sha512", (Aim(0.3, FSVERITY, without_lanes=1.1),)),
            digest("sha256", (Aim(1.0, FSVERITY),)),
        ),
        rounds=3,
    ),
)

if __name__ == "__main__":
    sys.exit(run(GROUPS, __doc__))
