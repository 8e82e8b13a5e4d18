"""fsck and gc --dry-run of one repository, in turn with another program of that name.

    python -m benchmarks.bench_store --peer CFSCTL [--repository DIR] [--objects 1000000] [--rounds 5]
        [--work DIR]

DIR is a repository to look at; it is not changed. Without it one is made in --work that has a single stream,
which refers to as many objects of one byte as --objects says: their content is not that of their names, so
only gc, which does not read them, is run there. Medians count, and the ratio of medians.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import statistics
import tempfile
from pathlib import Path

from benchmarks.measuring import measure
from cfsctl.digest import ObjectID
from cfsctl.repository import Repository, init_repository
from cfsctl.splitstream import SplitstreamWriter

OWN = "cfsctl --quiet"
COMMANDS = ("fsck", "gc --dry-run")


def make_repository(path: Path, count: int) -> None:
    """Make a repository with a stream that refers to so many objects."""
    init_repository(str(path), insecure=True)
    for number in range(256):
        (path / "objects" / f"{number:02x}").mkdir(parents=True, exist_ok=True)
    with Repository.open(str(path)) as repository:
        with SplitstreamWriter(repository.objects, repository.algorithm, 1) as writer:
            for number in range(count):
                object_id = ObjectID(hashlib.sha512(b"%d" % number).digest())
                name = object_id.hex()
                fd = os.open(path / "objects" / name[:2] / name[2:], os.O_CREAT | os.O_WRONLY, 0o644)
                os.write(fd, b"x")
                os.close(fd)
                writer.write_external(object_id, 1)
            stream_id = writer.finish()
        repository.streams.link("many", stream_id, "many")


def compare(repository: Path, command: str, peer: str, rounds: int) -> None:
    """Run a command by both programs in turn, and print what it took."""
    place = shlex.quote(str(repository))
    lines = [f"{program} --repo {place} {command}" for program in (OWN, shlex.quote(peer))]
    for line in lines:  # reads what the others then find in memory
        measure(line, 0)
    runs = [[measure(line, 0) for line in lines] for _ in range(rounds)]
    medians = [[statistics.median(run[side][field] for run in runs) for field in range(3)] for side in (0, 1)]
    for name, (wall_s, cpu_s, peak_mb) in zip(("ours", peer), medians, strict=True):
        print(f"{command:14} {name}: {wall_s:.2f} s wall, {cpu_s:.2f} s cpu, {peak_mb:.0f} MB")
    print(f"{command:14} ratio {medians[0][0] / medians[1][0]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work")
    arguments = parser.parse_args()
    if arguments.repository is not None:
        for command in COMMANDS:
            compare(arguments.repository, command, arguments.peer, arguments.rounds)
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        repository = Path(work) / "repository"
        make_repository(repository, arguments.objects)
        compare(repository, "gc --dry-run", arguments.peer, arguments.rounds)


if __name__ == "__main__":
    main()
