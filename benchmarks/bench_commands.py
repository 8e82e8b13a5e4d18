"""The main commands, each in turn with the same command of another program of that name.

    python -m benchmarks.bench_commands --peer CFSCTL [--mkcomposefs MKCOMPOSEFS] [--tree DIR]
        [--repository ARCHIVE --ref REF] [--url URL] [--rounds 3] [--work DIR] [--nice -15]

DIR is a directory to make images of, ARCHIVE a local OSTree repository in archive mode, URL the same
repository behind a web server. What is not given is left out. Stores are made anew for every run, on the
file system of --work, and removed at the end: many file systems create files slowly after a large removal.
`create-image again` is the second run into the same store. Medians count, and the ratio of medians.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import Run, measure, print_head, report


class Job(NamedTuple):
    """A command line without the program; {store} is a new repository, {own} one that is kept."""

    name: str
    arguments: str
    is_again: bool = False
    """Whether it goes on with the store of the job before it."""


def find_jobs(arguments: argparse.Namespace) -> list[Job]:
    jobs = []
    if arguments.tree:
        tree = shlex.quote(arguments.tree)
        jobs += [
            Job("compute-id", f"--no-repo compute-id {tree}"),
            Job("create-image first", f"--repo {{store}} create-image {tree}"),
            Job("create-image again", f"--repo {{store}} create-image {tree}", is_again=True),
        ]
    ref = shlex.quote(arguments.ref)
    if arguments.repository:
        source = shlex.quote(os.path.abspath(arguments.repository))
        jobs.append(Job("pull-local", f"--repo {{store}} ostree pull-local {source} {ref}"))
    if arguments.url:
        jobs.append(Job("pull", f"--repo {{store}} ostree pull {shlex.quote(arguments.url)} {ref}"))
    return jobs


class Bench:
    """Runs jobs with several programs in turn."""

    def __init__(self, work: Path, rounds: int, niceness: int) -> None:
        self._work = work
        self._rounds = rounds
        self._niceness = niceness

    def run(self, job: Job, programs: dict[str, str]) -> None:
        results: dict[str, list[Run]] = {name: [] for name in programs}
        for number in range(self._rounds):
            order = list(programs) if number % 2 == 0 else list(reversed(programs))
            for name in order:
                store = self._work / f"{name}-{number}-{job.name.split()[0]}"
                if "{store}" in job.arguments and not job.is_again:
                    init = [programs[name], "init", "--insecure", str(store)]
                    subprocess.run(init, check=True, stdout=subprocess.DEVNULL)
                os.sync()
                line = f"{shlex.quote(programs[name])} {job.arguments.format(store=shlex.quote(str(store)))}"
                results[name].append(measure(line, self._niceness))
        report(job.name, results)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", help="another cfsctl")
    parser.add_argument("--mkcomposefs", help="another mkcomposefs")
    parser.add_argument("--tree")
    parser.add_argument("--repository")
    parser.add_argument("--ref", default="main")
    parser.add_argument("--url")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", help="directory on the file system to measure")
    parser.add_argument("--nice", type=int, default=0, help="for a busy machine: -15, as root")
    arguments = parser.parse_args()
    own = Path(sys.executable).parent
    programs = {"ours": str(own / "cfsctl")}
    if arguments.peer:
        programs["peer"] = arguments.peer
    work = Path(tempfile.mkdtemp(prefix="bench-commands-", dir=arguments.work))
    print_head()
    try:
        bench = Bench(work, arguments.rounds, arguments.nice)
        for job in find_jobs(arguments):
            bench.run(job, programs)
        if arguments.tree and arguments.mkcomposefs:
            line = f"--print-digest-only {shlex.quote(arguments.tree)} -"
            tools = {"ours": str(own / "mkcomposefs"), "peer": arguments.mkcomposefs}
            bench.run(Job("mkcomposefs", line.removesuffix(" -")), tools)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
