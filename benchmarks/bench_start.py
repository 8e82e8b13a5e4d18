"""Starting: what the shortest commands take.

python -m benchmarks.bench_start [OPTIONS of python -m benchmarks]
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from typing import TYPE_CHECKING

from benchmarks.command_line import run
from benchmarks.declaration import Aim, Group, Place, Row, both
from cfsctl import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_REPEAT = 15


@contextlib.contextmanager
def prepare(place: Place) -> Iterator[Mapping[str, str]]:
    """Make a repository with three images."""
    path, tree = place.path / "repository", place.path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(bytes(1000))
    with Repository.init(str(path), insecure=True) as repository:
        for name in ("one", "two", "three"):
            repository.create_image(str(tree), name, as_root=False)
    yield {"repository": shlex.quote(str(path))}


GROUPS = (
    Group(
        "start",
        prepare,
        (
            Row(
                "--version",
                both("--version"),
                (Aim(0.050),),
                "The interpreter takes a quarter, imports the rest.",
                _REPEAT,
            ),
            Row(
                "images, three of them",
                both("--repo {repository} images"),
                (Aim(0.070),),
                "Imports: the command line, the library, and the table.",
                _REPEAT,
            ),
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(run(GROUPS, __doc__))
