"""Serving an image by FUSE: what `find`, `tar` and reads through the mount take, beside other programs.

    python -m benchmarks.bench_fuse [OPTIONS of python -m benchmarks]

Needs root. Every run has a mount of its own, so nothing is cached; programs take turns. What counts is
processor time of client and server together, which says more than time on a machine that does other things
as well. The client and the server are an unprivileged user's, by fusermount3, as they are for users;
`fuse-overlay` is what root gets, with content read through overlayfs.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cfsctl as package
from benchmarks.bench_commands import make_tree
from benchmarks.command_line import run
from benchmarks.declaration import OURS, REFERENCE, Aim, C, Group, Place, Row
from benchmarks.measuring import Run, memory_of_session
from cfsctl import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.declaration import Results

    Command = list[str]

USER = 1
FILES = 8_800
BYTES = 50_000_000
LARGE_BYTES = 128 << 20
RANDOM_READS = f"""
import os, random
fd, pick = os.open("usr/large", os.O_RDONLY), random.Random(1).randrange
for _ in range(3000): os.pread(fd, 4096, pick({LARGE_BYTES >> 12}) << 12)
"""
PROGRAM = "import sys; from cfsctl.cli.main import main; sys.argv[0] = 'cfsctl'; sys.exit(main())"
JOBS = {
    "find": "find . -printf '%s %m %T@\\n'",
    "find again": "find . -printf '%s %m %T@\\n'",
    "tar": "tar cf - --exclude=./usr/large . | cat",
    "read": "cat usr/large",
    "random reads": f"../python/bin/python3 -c '{RANDOM_READS}'",
}


class Inside(NamedTuple):
    """What the process in a mount namespace of its own is told.

    Attributes:
        programs: Paths by name.
        rounds: How many.
        is_overlay: Mount as root, with overlayfs.
    """

    programs: Mapping[str, str]
    rounds: int
    is_overlay: bool


@contextlib.contextmanager
def prepare(place: Place) -> Iterator[Mapping[str, str]]:
    """Make the tree."""
    if os.geteuid():
        raise SystemExit("only root can mount for another user")
    place.path.chmod(0o755)
    tree = place.path / "tree"
    tree.mkdir()
    make_tree(tree, place.scaled(FILES), place.scaled(BYTES))
    (tree / "usr" / "large").write_bytes(random.Random(0).randbytes(LARGE_BYTES))
    yield {}


def measure(
    place: Place, _values: Mapping[str, str], rounds: int, _niceness: int, *, is_overlay: bool
) -> Results:
    """Run all jobs in a mount namespace, so that whoever removes the directory sees no mount in it."""
    given = json.dumps(Inside(dict(place.programs), rounds, is_overlay))
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        sys.executable,
        "-m",
        __spec__.name,
        "--inside",
    ]
    subprocess.run([*command, str(place.path), given], check=True, stdout=sys.stderr)
    found = json.loads((place.path / "results.json").read_text())
    prefix = _prefix(is_overlay=is_overlay)
    return {
        f"{prefix}{job}": {name: [Run(*values) for values in runs] for name, runs in programs.items()}
        for job, programs in found.items()
    }


def run_inside(place: str, given: str) -> None:
    """Measure, and leave the runs in a file."""
    os.chdir(place)
    options = Inside(*json.loads(given))
    results: Results = {job: {} for job in JOBS}
    programs = serve_by(options)
    for _ in range(options.rounds):
        for name, command in programs.items():
            for job, one in run_jobs(command, is_overlay=options.is_overlay):
                results[job].setdefault(name, []).append(one)
    Path("results.json").write_text(json.dumps(results))


def serve_by(options: Inside) -> dict[str, Command]:
    """Make the image; return what serves it, by name of the program."""
    with Repository.init("r", insecure=True) as repository:
        image_id = repository.create_image("tree", "im", as_root=False)
    os.chmod("r", 0o755)
    os.mkdir("mnt")
    os.chown("mnt", USER, USER)
    os.mknod("fuse", 0o20666, os.makedev(10, 229))
    os.chmod("fuse", 0o666)
    subprocess.run(["mount", "--bind", "fuse", "/dev/fuse"], check=True)
    # By its ID: the original demands fs-verity of images that it mounts by their refs.
    arguments = ["--repo", "r", "mount", "--fuse=yes", "--foreground", image_id.hex(), "mnt"]
    programs = {OURS: [*provide_program(), *arguments]}
    if REFERENCE in options.programs:
        programs[REFERENCE] = [options.programs[REFERENCE], *arguments]
    if "c_fuse" in options.programs and not options.is_overlay:
        image = f"r/objects/{image_id.hex()[:2]}/{image_id.hex()[2:]}"
        programs[C] = [options.programs["c_fuse"], "-f", "-o", f"source={image},basedir=r/objects", "mnt"]
    return programs


def provide_program() -> Command:
    """Show Python and cfsctl to every user, wherever they are; return how to run cfsctl."""
    places = {
        "python": sys.base_prefix,
        "packages": sysconfig.get_path("purelib"),
        "sources": os.path.dirname(os.path.dirname(package.__file__)),
    }
    for name, place in places.items():
        os.mkdir(name)
        subprocess.run(["mount", "--bind", "-o", "ro", place, name], check=True)
    here = os.getcwd()
    return ["env", f"PYTHONPATH={here}/packages:{here}/sources", f"{here}/python/bin/python3", "-c", PROGRAM]


def run_jobs(command: Command, *, is_overlay: bool) -> Iterator[tuple[str, Run]]:
    """Yield what each job takes; all but the second `find` with a mount of its own."""
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
    if is_overlay:
        user = []
    for jobs in (["find", "find again"], ["tar"], ["read"], ["random reads"]):
        with served([*user, *command]) as pid:
            for job in jobs:
                yield job, measure_job([*user, "sh", "-c", f"cd mnt && {{ {JOBS[job]}; }} >/dev/null"], pid)


@contextlib.contextmanager
def served(command: Command) -> Iterator[int]:
    """Mount the image for as long as the block lasts; return the process that serves it."""
    server = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not is_mounted():
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"not mounted: {' '.join(command)}")
            time.sleep(0.01)
        time.sleep(0.1)
        yield server.pid
    finally:
        subprocess.run(["umount", "mnt"], check=False)
        server.wait(60)


def is_mounted() -> bool:
    return f" {os.path.realpath('mnt')} " in Path("/proc/self/mountinfo").read_text()


def measure_job(command: Command, pid: int) -> Run:
    """Measure a client together with the server, whose memory counts."""
    before, start = cpu_of(pid), time.perf_counter()
    client = subprocess.Popen(command)
    _, status, usage = os.wait4(client.pid, 0)
    wall, client.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
    if client.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    server = cpu_of(pid) - before
    return Run(wall, usage.ru_utime + usage.ru_stime + server, memory_of_session(os.getsid(pid)))


def cpu_of(pid: int) -> float:
    """Return the processor time that a process and its threads have taken, in seconds.

    From what the scheduler counts in nanoseconds: the other figures are in ticks of 10 ms, which is more than
    some of these jobs take.
    """
    counted = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(status.read_text().split()[0]) for status in counted) / 1e9


def _prefix(*, is_overlay: bool) -> str:
    return "FUSE with overlayfs, " if is_overlay else "FUSE, "


_LIMITS = {
    "find": "One request for each directory and each name, decoded and answered in Python.",
    "find again": "The kernel's cache, after a second look at what the server says.",
    "tar": "Opening and reading each file: four requests.",
    "read": "Copying through the server in requests of 1 MiB.",
    "random reads": "One request for each page.",
}
_CONTENT = {"read", "random reads"}
_LEAST_THROUGHPUT = 0.9


def make_rows(*, is_overlay: bool) -> tuple[Row, ...]:
    """Return a row for each job; what the programs run is in `serve_by`."""
    return tuple(
        Row(
            f"{_prefix(is_overlay=is_overlay)}{job}",
            dict.fromkeys((OURS, REFERENCE, C), command),
            (Aim(1 / _LEAST_THROUGHPUT if job in _CONTENT else 1.0, REFERENCE, "cpu_s"),),
            _LIMITS[job],
        )
        for job, command in JOBS.items()
    )


GROUPS = tuple(
    Group(
        "fuse-overlay" if is_overlay else "fuse",
        prepare,
        make_rows(is_overlay=is_overlay),
        functools.partial(measure, is_overlay=is_overlay),
    )
    for is_overlay in (False, True)
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        run_inside(*sys.argv[2:])
    else:
        sys.exit(run(GROUPS, __doc__))
