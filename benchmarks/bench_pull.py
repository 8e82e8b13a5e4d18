"""Whole pulls, as a process: wall time, processor time and memory, beside other programs if given.

    python -m benchmarks.bench_pull [SOURCE REF] [--rounds 3] [--hash sha512] [--work DIR]
        [--peer NAME INIT PULL]...

SOURCE is an archive repository, a directory or a URL; without it one of 20,000 files is generated. A peer
is two shell commands in which {store}, {source} and {ref} are filled in:

    --peer ostree 'ostree --repo={store} init --mode=bare-user'
        'ostree --repo={store} pull-local {source} {ref}'

The programs take turns, so that what else the machine does hits all of them, each time into a new store;
stores are removed at the end, because many file systems create files slowly after a large removal. Medians
count, and the ratio of medians to ours. Memory is what all processes of a pull have together, shared pages
counted once (PSS), sampled.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import Run, measure
from tests.fakes.ostree_repository import FakeOstreeRepository, Tree

GENERATED_FILES = 20_000


class Program(NamedTuple):
    name: str
    init: str
    pull: str


def generate(path: Path) -> str:
    """Write a repository whose files have sizes as those of a real system; return its ref."""
    source = random.Random(1)
    words = [source.randbytes(source.randrange(3, 12)) for _ in range(4000)]
    tree: dict[str, Tree | bytes | str] = {}
    for number in range(GENERATED_FILES):
        directory = tree.setdefault(f"d{number // 40}", {})
        assert isinstance(directory, dict)
        size = int(source.paretovariate(0.8) * 300) % 2_000_000
        directory[f"f{number}"] = b"".join(source.choices(words, k=size // 7))
    repository = FakeOstreeRepository()
    repository.commit(tree, "main")
    repository.write(path)
    return "main"


def ours(hash_name: str, *, is_remote: bool) -> Program:
    program = shlex.quote(str(Path(sys.executable).parent / "cfsctl"))
    verb = "pull" if is_remote else "pull-local"
    return Program(
        "ours",
        f"{program} --repo {{store}} init --insecure --algorithm=fsverity-{hash_name}-12",
        f"{program} --repo {{store}} ostree {verb} {{source}} {{ref}}",
    )


def run_rounds(
    programs: list[Program], source: str, ref: str, work: Path, rounds: int, niceness: int
) -> dict[str, list[Run]]:
    results: dict[str, list[Run]] = {program.name: [] for program in programs}
    for number in range(rounds):
        for program in programs if number % 2 == 0 else reversed(programs):
            names = {
                "store": shlex.quote(str(work / f"{program.name}-{number}")),
                "source": shlex.quote(source),
                "ref": shlex.quote(ref),
            }
            subprocess.run(program.init.format(**names), shell=True, check=True, stdout=subprocess.DEVNULL)
            os.sync()
            run = measure(program.pull.format(**names), niceness)
            results[program.name].append(run)
            print(f"  {program.name}: {run.wall_s:.2f} s, cpu {run.cpu_s:.2f} s, {run.peak_mb:.0f} MB")
    return results


def report(results: dict[str, list[Run]]) -> None:
    reference = statistics.median(run.wall_s for run in results["ours"])
    print(f"{'program':12} {'wall s':>8} {'cpu s':>8} {'peak MB':>8} {'ours/it':>8}")
    for name, runs in results.items():
        wall, cpu = (statistics.median(values) for values in list(zip(*runs, strict=True))[:2])
        peak = max(run.peak_mb for run in runs)
        print(f"{name:12} {wall:8.2f} {cpu:8.2f} {peak:8.0f} {reference / wall:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", nargs="?")
    parser.add_argument("ref", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hash", default="sha512", choices=["sha256", "sha512"])
    parser.add_argument("--work", help="directory on the file system to measure")
    parser.add_argument("--nice", type=int, default=0, help="for a busy machine: -15, as root")
    parser.add_argument("--peer", nargs=3, action="append", default=[], metavar=("NAME", "INIT", "PULL"))
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="bench-pull-", dir=arguments.work))
    try:
        source, ref = arguments.source, arguments.ref
        if source is None:
            source = str(work / "source")
            ref = generate(work / "source")
        programs = [ours(arguments.hash, is_remote="://" in source)]
        programs += [Program(*peer) for peer in arguments.peer]
        report(run_rounds(programs, source, ref, work, arguments.rounds, arguments.nice))
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
