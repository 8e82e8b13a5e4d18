"""Hostile repositories and deltas, and the verdict that each must meet."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path

from tests.support.archives import unpack_archive
from tests.support.repositories import view

HOSTILE = Path(__file__).parents[1] / "vectors/ostree/hostile"


def read_verdicts(name: str) -> dict[str, str]:
    """Return the verdict of each case in a table of the vectors."""
    with (HOSTILE / name).open() as stream:
        return {row["case"]: row["verdict"] for row in csv.DictReader(stream, delimiter="\t")}


def unpack_repositories(target: Path) -> Path:
    """Unpack the repositories into a directory, and return the one that holds them."""
    with tarfile.open(HOSTILE / "repos.tar.xz") as archive:
        unpack_archive(archive, target)
    return target / "repos"


def names_in(store: Path) -> list[str]:
    """Return the names of streams, refs and images, but not what is kept for the next pull."""
    found = [name for name, shown in view(store).items() if shown.startswith("->")]
    return sorted(name for name in found if not name.startswith("streams/ostree-partial-"))
