"""Making and checking images of a directory of 66,000 files, 2 GB, beside another cfsctl.

    python -m benchmarks.bench_commands [OPTIONS of python -m benchmarks]

With `--tree DIR` of that directory instead of a generated one. Stores are made anew for every run, and
removed at the end: many file systems create files slowly after a large removal. `create-image again` is the
second run into the same store. --no-cache is given to ours where it would otherwise remember digests.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from random import Random
from typing import TYPE_CHECKING

from benchmarks.bench_oci import contents
from benchmarks.command_line import run
from benchmarks.declaration import OURS, REFERENCE, Aim, C, Group, Place, Row, Setup, both

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILES = 66_000
BYTES = 2_000_000_000
FILES_OF_A_DIRECTORY = 7


def make_tree(path: Path, count: int, total: int) -> None:
    """Write a tree of files as those of a root file system are: many small ones, some large, some links."""
    for number, content in enumerate(contents(Random(1), count, total)):
        directory = (
            path / "usr" / f"d{number // FILES_OF_A_DIRECTORY // 100}" / f"d{number // FILES_OF_A_DIRECTORY}"
        )
        if number % FILES_OF_A_DIRECTORY == 0:
            directory.mkdir(parents=True)
            (directory / "link").symlink_to("f0")
        (directory / f"f{number}").write_bytes(content)


@contextlib.contextmanager
def prepare(place: Place) -> Iterator[Mapping[str, str]]:
    """Make the tree if there is none."""
    tree = place.tree or place.path / "tree"
    if place.tree is None:
        tree.mkdir()
        make_tree(tree, place.scaled(FILES), place.scaled(BYTES))
    yield {"tree": shlex.quote(str(tree))}


GROUPS = (
    Group(
        "images",
        prepare,
        (
            Row(
                "compute-id --no-cache",
                {
                    OURS: "{ours} --no-repo compute-id --no-cache {tree}",
                    REFERENCE: "{reference} --no-repo compute-id {tree}",
                },
                (Aim(0.45, REFERENCE, without_lanes=0.6),),
                "Opening and reading each file; hashing is the smaller part with lanes.",
            ),
            Setup(both("--repo {store} init --insecure")),
            Row(
                "create-image, first",
                both("--repo {store} create-image {tree}"),
                (Aim(0.5, REFERENCE, without_lanes=0.7),),
                "The kernel, which makes a file for each object, and the disk.",
            ),
            Row(
                "create-image, again",
                both("--repo {store} create-image {tree}"),
                (Aim(0.1, REFERENCE),),
                "One look at each file of the tree, to see that it has not changed, and the image.",
            ),
            Row(
                "fsck",
                both("--repo {store} fsck"),
                (Aim(0.8, REFERENCE),),
                "Reading and hashing all content, which both do on all processors.",
            ),
            Row(
                "mkcomposefs of a directory, digest",
                {
                    OURS: "{ours} mkcomposefs --print-digest-only {tree}",
                    C: "{c} --print-digest-only {tree}",
                },
                (),
                "As compute-id, with SHA-256.",
            ),
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(run(GROUPS, __doc__))
