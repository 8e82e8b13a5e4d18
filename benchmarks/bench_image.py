"""Dump to image and back, whole processes of ours and of a peer in turn; prints the ratio of medians.

    python benchmarks/bench_image.py [--inodes N] [--rounds N] [--labels] \\
        [--mkcomposefs PROGRAM] [--composefs-info PROGRAM]

Without a peer only our own times are printed. The dump is the same for the same arguments: a tree of
directories with some ten entries each, of which seven in ten are files with content elsewhere.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = Path(sys.executable).parent / "cfsctl"
MAX_DEPTH = 9


class Run(NamedTuple):
    """What a process took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


class Maker:
    """Makes the lines of a dump, depth first."""

    def __init__(self, inodes: int, *, labels: bool) -> None:
        """Make the tree."""
        self._random = random.Random(1)
        self._labels = [f" security.selinux=system_u:object_r:kind_{i}_t:s0\\x00" for i in range(20)]
        if not labels:
            self._labels = [""]
        self._children: dict[str, list[tuple[str, str]]] = {}
        directories = [""]
        for number in range(inodes - 1):
            chance = self._random.random()
            recent = directories[-200:] if chance < 0.1 else directories[-50:]
            parent = self._random.choice(recent)
            while parent.count("/") > MAX_DEPTH:
                parent = self._random.choice(directories)
            kind = "d" if chance < 0.1 else "l" if chance < 0.2 else "i" if chance < 0.3 else "e"
            path = f"{parent}/directory-{number}" if kind == "d" else f"{parent}/some-file-{number}.so"
            self._children.setdefault(parent, []).append((path, kind))
            if kind == "d":
                directories.append(path)

    def lines(self) -> list[str]:
        """Return the dump."""
        lines = [f"/ 0 40755 2 0 0 0 1700000000.0 - - -{self._labels[0]}\n"]
        stack = [self._below("")]
        while stack:
            if not stack[-1]:
                stack.pop()
                continue
            path, kind = stack[-1].pop()
            lines.append(self._line(path, kind))
            if kind == "d":
                stack.append(self._below(path))
        return lines

    def _below(self, path: str) -> list[tuple[str, str]]:
        return sorted(self._children.get(path, ()), reverse=True)

    def _line(self, path: str, kind: str) -> str:
        source = self._random
        time_text = f"{1_600_000_000 + source.randrange(10**8)}.{source.randrange(10**9)}"
        label = source.choice(self._labels)
        if kind == "d":
            return f"{path} 0 40755 2 0 0 0 {time_text} - - -{label}\n"
        if kind == "l":
            return f"{path} 12 120777 1 0 0 0 {time_text} ../lib/libx1 - -{label}\n"
        if kind == "i":
            return f"{path} 12 100644 1 0 0 0 {time_text} - hello\\x20world\\n -{label}\n"
        digest = f"{source.getrandbits(256):064x}"
        size = source.randrange(65, 1_000_000)
        payload = f"{digest[:2]}/{digest[2:]}"
        return f"{path} {size} 100644 1 0 0 0 {time_text} {payload} - {digest}{label}\n"


def run(command: Sequence[str | Path]) -> Run:
    """Run a command to its end."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command}: exit status {child.returncode}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(title: str, ours: Sequence[str | Path], peer: Sequence[str | Path] | None, rounds: int) -> None:
    """Run both in turn, and print medians and their ratio."""
    results: dict[str, list[Run]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        results["ours"].append(run(ours))
        if peer is not None:
            results["peer"].append(run(peer))
    print(title)
    medians = {}
    for name, runs in results.items():
        if runs:
            median = Run(*(statistics.median(values) for values in zip(*runs, strict=True)))
            medians[name] = median
            print(
                f"  {name}: {median.wall_s:6.3f} s wall, {median.cpu_s:6.3f} s cpu, {median.peak_mb:4.0f} MB"
            )
    if peer is not None:
        of_ours, of_peer = medians["ours"], medians["peer"]
        wall, cpu = of_ours.wall_s / of_peer.wall_s, of_ours.cpu_s / of_peer.cpu_s
        print(f"  ratio: {wall:.2f} wall, {cpu:.2f} cpu")


def make_dump(path: Path, inodes: int, *, labels: bool) -> None:
    """Write the dump from a process of its own, whose memory must not count as that of others."""
    child = os.fork()
    if not child:
        path.write_text("".join(Maker(inodes, labels=labels).lines()))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the dump could not be made")


def main() -> None:
    """Parse the command line and run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--inodes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--labels", action="store_true", help="give every inode an SELinux label")
    parser.add_argument("--mkcomposefs", default=shutil.which("mkcomposefs"), help="peer that makes images")
    parser.add_argument("--composefs-info", default=shutil.which("composefs-info"), help="peer that reads")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as work:
        dump, image = Path(work) / "dump", Path(work) / "image"
        make_dump(dump, arguments.inodes, labels=arguments.labels)
        print(f"{arguments.inodes} inodes, dump of {dump.stat().st_size >> 20} MB")
        make: list[str | Path] = ["--from-file", "--print-digest-only", dump]
        peer = [arguments.mkcomposefs, *make] if arguments.mkcomposefs else None
        compare("dump to digest of the image", [OURS, "mkcomposefs", *make], peer, arguments.rounds)
        make = ["--from-file", dump, image]
        peer = [arguments.mkcomposefs, *make] if arguments.mkcomposefs else None
        compare("dump to image", [OURS, "mkcomposefs", *make], peer, arguments.rounds)
        for command in ("dump", "objects"):
            read: list[str | Path] = [command, image]
            peer = [arguments.composefs_info, *read] if arguments.composefs_info else None
            compare(f"image to {command}", [OURS, "composefs-info", *read], peer, arguments.rounds)


if __name__ == "__main__":
    main()
