"""Memory and time of commands in repositories of more and more objects.

    python -m benchmarks.scale DIR... [--json FILE] [--only NAME]... [--nice N] [--most-s 1800]

Each DIR was made by `benchmarks.large_repository`, with 2,000 refs; it is changed: a small commit is pulled
into it, and one ref in a hundred is removed before garbage is collected. Memory is that of all processes of a
command together, pages that they share counted once (PSS), at its highest. The figures are added to those
that FILE has; `python -m benchmarks.scale_plot FILE` draws them and writes the page.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

from benchmarks.measuring import measure
from tests.fakes.ostree_repository import FakeOstreeRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

PULLED_FILES: Final = 1000
REMOVED: Final = 100
"""One in so many refs is removed before garbage is collected."""


class Figure(TypedDict):
    """What one command took in one repository."""

    job: str
    objects: int
    wall_s: float
    cpu_s: float
    peak_mb: float


JOBS: Final = {
    "images": "images",
    "list of commits": "ostree images",
    "pull of 1,000 files": "ostree pull-local {source} {new}",
    "gc --dry-run": "gc --dry-run",
    "fsck --metadata-only": "fsck --metadata-only",
    "stats": "stats",
    "prune --dry-run": "prune --dry-run --keep-last 1 'commit-*'",
    "gc of 1 %": "gc",
}
"""Command lines; the last one comes after refs were removed."""


def count_objects(repository: Path) -> int:
    """Return how many objects there are, rounded to one digit after the first."""
    count = sum(len(os.listdir(directory)) for directory in (repository / "objects").iterdir())
    step = int(10 ** max(0, len(str(count)) - 2))
    return count // step * step


def write_source(path: Path) -> None:
    """Write an archive repository with a commit that no other is like."""
    source = FakeOstreeRepository()
    name = f"{time.time_ns()}"
    content = {f"f{number}": b"%s %d\n" % (name.encode(), number) * 10 for number in range(PULLED_FILES)}
    source.commit({"usr": content}, "new", timestamp_s=int(time.time()))
    source.write(path)


def remove_refs(repository: Path) -> None:
    """Remove one ref in `REMOVED`, with its neighbour, so that objects of both become garbage."""
    for category in ("images", "streams"):
        for path in sorted((repository / category / "refs").rglob("*")):
            number = path.name.rpartition("-")[2]
            if path.is_symlink() and number.isdigit() and int(number) % (2 * REMOVED) < 2:
                path.unlink()


def run_jobs(repository: Path, chosen: list[str], niceness: int, most_s: int) -> Iterator[Figure]:
    """Yield what each job takes."""
    objects = count_objects(repository)
    program = shlex.quote(str(Path(sys.executable).parent / "cfsctl"))
    with tempfile.TemporaryDirectory() as work:
        write_source(Path(work) / "source")
        names = {"source": shlex.quote(f"{work}/source"), "new": "new"}
        for job in chosen:
            if job == "gc of 1 %":
                remove_refs(repository)
            line = f"{program} --quiet --repo {shlex.quote(str(repository))} {JOBS[job].format(**names)}"
            try:
                run = measure(f"timeout {most_s} {line}", niceness)
            except SystemExit as error:
                print(f"{job}: {error}", flush=True)
                continue
            print(
                f"{objects:10} {job:22} {run.wall_s:8.2f} s {run.cpu_s:8.2f} cpu s {run.peak_mb:8.0f} MB",
                flush=True,
            )
            yield Figure(job=job, objects=objects, wall_s=run.wall_s, cpu_s=run.cpu_s, peak_mb=run.peak_mb)


def add_figures(path: Path, new: list[Figure]) -> None:
    """Write figures beside those of other jobs and sizes that the file has."""
    old: list[Figure] = json.loads(path.read_text()) if path.exists() else []
    known = {(figure["job"], figure["objects"]): figure for figure in [*old, *new]}
    path.write_text(json.dumps([known[key] for key in sorted(known)], indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repositories", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", action="append", choices=list(JOBS), metavar="NAME", help=", ".join(JOBS))
    parser.add_argument("--nice", type=int, default=0, help="for a busy machine: -15, as root")
    parser.add_argument("--most-s", type=int, default=1800, help="end a command after so many seconds")
    arguments = parser.parse_args()
    for repository in arguments.repositories:
        chosen = arguments.only or list(JOBS)
        for figure in run_jobs(repository, chosen, arguments.nice, arguments.most_s):
            if arguments.json is not None:
                add_figures(arguments.json, [figure])


if __name__ == "__main__":
    main()
