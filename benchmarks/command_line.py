"""The command line that `python -m benchmarks` and each of its parts share."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.declaration import OURS, PROGRAMS
from benchmarks.running import Options, find_programs, run_groups
from benchmarks.verdict import Document, format_table, judge_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.declaration import Group

QUICK_SCALE: Final = 0.1
_QUICK_ROUNDS: Final = 2
_ROUNDS: Final = 3

OPTIONS = """\
    [--quick] [--peer CFSCTL] [--only NAME]... [--rounds N] [--scale F] [--nice N] [--work DIR] [--json FILE]
    [--tree DIR] [--delay-ms MS]
"""


def run(groups: Sequence[Group], document: str | None) -> int:
    """Parse the command line, run the groups, print the table; return the exit status.

    Args:
        groups: What can be run.
        document: The docstring of the program.
    """
    arguments = _make_parser(groups, document or "").parse_args()
    chosen = [group for group in groups if not arguments.only or group.name in arguments.only]
    scale = arguments.scale or (QUICK_SCALE if arguments.quick else 1)
    options = Options(
        work=arguments.work,
        rounds=arguments.rounds or (_QUICK_ROUNDS if arguments.quick else _ROUNDS),
        niceness=arguments.nice,
        scale=scale,
        tree=arguments.tree,
        delay_ms=arguments.delay_ms,
        programs=find_programs(arguments.peer),
    )
    result = measure_all(chosen, options)
    print(format_table(result), end="")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any(OURS in row["problems"] for row in result["rows"]) else 0


def _make_parser(groups: Sequence[Group], document: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=True
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"sizes of {QUICK_SCALE:g}, {_QUICK_ROUNDS} rounds"
    )
    parser.add_argument("--peer", metavar="CFSCTL", help="another cfsctl, for example that of composefs-rs")
    names = [group.name for group in groups]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, help=f"default: {_ROUNDS}")
    parser.add_argument("--scale", type=float, help="size of everything; 1 is what the aims are about")
    parser.add_argument("--nice", type=int, default=0, help="for a busy machine: -15, as root")
    parser.add_argument("--work", type=Path, help="directory on the file system to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--tree", type=Path, help="make images of this directory; default: a generated one")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="round-trip time to servers")
    return parser


def measure_all(groups: Sequence[Group], options: Options) -> Document:
    """Run the groups, and return all that is known then."""
    start = time.perf_counter()
    lanes = find_lanes(options.programs[OURS])
    outcomes = run_groups(groups, options)
    return Document(
        date=datetime.now(UTC).date().isoformat(),
        machine=describe_machine(lanes),
        versions=find_versions(options.programs),
        scale=options.scale,
        rounds=options.rounds,
        seconds=time.perf_counter() - start,
        rows=judge_all(outcomes, has_lanes="avx512" in lanes),
    )


def find_lanes(program: str) -> str:
    """Return what our program says about hashing in lanes."""
    text = subprocess.run(
        [program, "--version", "--verbose"], check=True, capture_output=True, text=True
    ).stdout
    found = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("lanes:")]
    return found[0] if found else "none"


def describe_machine(lanes: str) -> dict[str, str]:
    """Return what figures depend on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = [
        line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory} GiB",
        "kernel": f"Linux {platform.release()}",
        "python": platform.python_version(),
        "hashing in lanes": lanes,
    }


def find_versions(programs: Mapping[str, str]) -> dict[str, str]:
    """Return the first line that each program prints about its version, which for `ostree` is the second."""
    versions = {}
    for name in [name for name in PROGRAMS if name in programs]:
        done = subprocess.run([programs[name], "--version"], check=False, capture_output=True, text=True)
        lines = [line.strip() for line in done.stdout.splitlines() if "ersion:" in line] or [
            done.stdout.strip()
        ]
        versions[name] = lines[0].strip("'").replace("Version: '", "")
    return versions
