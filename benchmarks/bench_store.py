"""Looking for garbage among a million objects, beside another cfsctl.

    python -m benchmarks.bench_store [OPTIONS of python -m benchmarks]

The repository has a single stream, which refers to all of them; they are empty, as in
`benchmarks.large_repository`. `python -m benchmarks.scale` goes on to larger ones.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from typing import TYPE_CHECKING

from benchmarks.command_line import run
from benchmarks.declaration import REFERENCE, Aim, Group, Place, Row, Setup, both
from benchmarks.large_repository import make_objects, object_number
from cfsctl.repository import Repository, init_repository
from cfsctl.splitstream import SplitstreamWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

OBJECTS = 1_000_000


def make_repository(path: Path, count: int) -> None:
    """Make a repository with a stream that refers to so many objects."""
    init_repository(str(path), insecure=True)
    for number in range(256):
        (path / "objects" / f"{number:02x}").mkdir(parents=True, exist_ok=True)
    make_objects(path, range(count))
    with Repository.open(str(path)) as repository:
        with SplitstreamWriter(repository.objects, repository.algorithm, 1) as writer:
            for number in range(count):
                writer.write_external(object_number(number), 1)
            stream_id = writer.finish()
        repository.streams.link("many", stream_id, "many")


@contextlib.contextmanager
def prepare(place: Place) -> Iterator[Mapping[str, str]]:
    """Make the repository."""
    path = place.path / "repository"
    make_repository(path, place.scaled(OBJECTS))
    yield {"repository": shlex.quote(str(path))}


GROUPS = (
    Group(
        "store",
        prepare,
        (
            Setup(both("--repo {repository} gc --dry-run")),  # reads what the others then find in memory
            Row(
                "gc --dry-run, 1,000,000 objects",
                both("--repo {repository} gc --dry-run"),
                (Aim(0.8, REFERENCE),),
                "The kernel, which lists names; then one look-up for each.",
            ),
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(run(GROUPS, __doc__))
