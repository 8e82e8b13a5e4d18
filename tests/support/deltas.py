"""Repositories with static deltas that the real client makes."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, NamedTuple

from tests.support.ostree_client import run_ostree

if TYPE_CHECKING:
    from pathlib import Path


class TwoCommits(NamedTuple):
    """An archive repository whose branch ``main`` has two commits.

    Attributes:
        path: The repository.
        first: ID of the older commit.
        second: ID of the newer commit.
    """

    path: Path
    first: str
    second: str


def _fill(tree: Path, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(40):
        path = tree / f"usr/share/d{number % 5}/file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(b"line %d\n" % chance.randrange(1000) for _ in range(number * 40)))
    (tree / "usr/bin").mkdir(parents=True, exist_ok=True)
    (tree / "usr/bin/program").write_bytes(chance.randbytes(2_500_000))
    (tree / "usr/bin/program").chmod(0o755)
    (tree / "usr/empty").touch()
    (tree / "usr/link").symlink_to("bin/program")


def make_two_commits(work: Path) -> TwoCommits:
    """Commit a tree, change some of it, and commit it again."""
    tree, path = work / "tree", work / "repo"
    _fill(tree, 1)
    run_ostree(path, "init", "--mode=archive")

    def commit() -> str:
        options = ("--branch=main", "--owner-uid=0", "--owner-gid=0", f"--tree=dir={tree}")
        return run_ostree(path, "commit", *options).strip()

    first = commit()
    program = bytearray((tree / "usr/bin/program").read_bytes())
    for place in range(0, len(program), 40_000):
        program[place] ^= 0x5A
    program[1_000_000:1_000_000] = b"inserted" * 100
    (tree / "usr/bin/program").write_bytes(program)
    for number in range(0, 40, 7):
        with (tree / f"usr/share/d{number % 5}/file{number}").open("ab") as stream:
            stream.write(b"one more line\n")
    (tree / "usr/new").write_bytes(os.urandom(700_000))
    (tree / "usr/link").unlink()
    (tree / "usr/link").symlink_to("new")
    return TwoCommits(path, first, commit())


def generate(repository: TwoCommits, *options: str, scratch: bool = False) -> None:
    """Make a static delta to the newer commit."""
    start = ("--empty",) if scratch else (f"--from={repository.first}",)
    run_ostree(repository.path, "static-delta", "generate", *start, f"--to={repository.second}", *options)
