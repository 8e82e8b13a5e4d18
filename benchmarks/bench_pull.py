"""Whole pulls from a local archive repository of 20,000 files, beside `ostree` and another cfsctl.

    python -m benchmarks.bench_pull [OPTIONS of python -m benchmarks]

Stores are removed at the end, because many file systems create files slowly after a large removal. Memory is
what all processes of a pull have together, shared pages counted once (PSS), sampled.
"""

from __future__ import annotations

import contextlib
import random
import shlex
import sys
from typing import TYPE_CHECKING

from benchmarks.command_line import run
from benchmarks.declaration import OSTREE, REFERENCE, Aim, Group, Place, Row, Setup, both
from tests.fakes.ostree_repository import FakeOstreeRepository, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILES = 20_000


def generate(path: Path, count: int) -> None:
    """Write a repository whose files have sizes as those of a real system; its ref is main."""
    source = random.Random(1)
    words = [source.randbytes(source.randrange(3, 12)) for _ in range(4000)]
    tree: dict[str, Tree | bytes | str] = {}
    for number in range(count):
        directory = tree.setdefault(f"d{number // 40}", {})
        assert isinstance(directory, dict)
        size = int(source.paretovariate(0.8) * 300) % 2_000_000
        directory[f"f{number}"] = b"".join(source.choices(words, k=size // 7))
    repository = FakeOstreeRepository()
    repository.commit(tree, "main")
    repository.write(path)


@contextlib.contextmanager
def prepare(place: Place) -> Iterator[Mapping[str, str]]:
    """Make the repository."""
    source = place.path / "source"
    generate(source, place.scaled(FILES))
    yield {"source": shlex.quote(str(source))}


GROUPS = (
    Group(
        "pull-local",
        prepare,
        (
            Setup(
                both("--repo {store} init --insecure")
                | {OSTREE: "{ostree} --repo={store} init --mode=bare-user"}
            ),
            Row(
                "pull-local",
                both("--repo {store} ostree pull-local {source} main")
                | {OSTREE: "{ostree} --repo={store} pull-local {source} main"},
                (Aim(0.6, REFERENCE),),
                "The kernel, which makes a file for each object.",
            ),
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(run(GROUPS, __doc__))
