"""Serving an image by FUSE: what `find`, `tar` and random reads through the mount take.

usage: bench_fuse.py --tree DIR [--reference PROGRAM] [--c-fuse PROGRAM] [--mode plain|overlay] [--rounds N]

Needs root. Every run has a mount of its own, so nothing is cached; programs take turns. Given are medians:
time, and processor time of client and server together, which says more on a machine that does other things as
well. Ratios are processor time of ours to the others'; below 1, ours takes less. `--mode plain` runs as an
unprivileged user, by fusermount3, as users do.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cfsctl as package
from cfsctl import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    Command = list[str]

USER = 1
LARGE_BYTES = 128 << 20
CLOCK = os.sysconf("SC_CLK_TCK")
RANDOM_READS = f"""
import os, random
fd, pick = os.open("large", os.O_RDONLY), random.Random(1).randrange
for _ in range(3000): os.pread(fd, 4096, pick({LARGE_BYTES >> 12}) << 12)
"""
PROGRAM = "import sys; from cfsctl.cli.main import main; sys.argv[0] = 'cfsctl'; sys.exit(main())"
JOBS = {
    "find": "find . -printf '%s %m %T@\\n'",
    "find again": "find . -printf '%s %m %T@\\n'",
    "tar": "tar cf - --exclude=./large . | cat",
    "read": "cat large",
    "random reads": f"../python/bin/python3 -c '{RANDOM_READS}'",
}


class Sample(NamedTuple):
    wall_s: float
    cpu_s: float
    server_s: float


def main() -> None:
    options = parse()
    if options.place:
        os.chdir(options.place)
        compare(options)
        return
    # Whoever removes the directory does not see what is mounted in it.
    with tempfile.TemporaryDirectory(prefix="cfsctl-bench-") as place:
        os.chmod(place, 0o755)
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        subprocess.run([*command, "--place", place], check=True)


def compare(options: argparse.Namespace) -> None:
    programs = prepare(options)
    samples: dict[tuple[str, str], list[Sample]] = {}
    for _ in range(options.rounds):
        for name, command in programs.items():
            for job, sample in run(command, options.mode):
                samples.setdefault((job, name), []).append(sample)
    report(list(programs), samples)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree", required=True)
    parser.add_argument("--reference")
    parser.add_argument("--c-fuse")
    parser.add_argument("--mode", choices=["plain", "overlay"], default="plain")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> dict[str, Command]:
    """Make the image; return what serves it, by name of the program."""
    shutil.copytree(options.tree, "tree", symlinks=True, ignore_dangling_symlinks=True)
    Path("tree/large").write_bytes(random.Random(0).randbytes(LARGE_BYTES))
    with Repository.init("r", insecure=True) as repository:
        image_id = repository.create_image("tree", "im", as_root=False)
    shutil.rmtree("tree")
    os.chmod("r", 0o755)
    os.mkdir("mnt")
    os.chown("mnt", USER, USER)
    os.mknod("fuse", 0o20666, os.makedev(10, 229))
    os.chmod("fuse", 0o666)
    subprocess.run(["mount", "--bind", "fuse", "/dev/fuse"], check=True)
    # By its ID: the original demands fs-verity of images that it mounts by their refs.
    arguments = ["--repo", "r", "mount", "--fuse=yes", "--foreground", image_id.hex(), "mnt"]
    programs = {"ours": [*provide_program(), *arguments]}
    if options.reference:
        programs["reference"] = [options.reference, *arguments]
    if options.c_fuse and options.mode == "plain":
        image = f"r/objects/{image_id.hex()[:2]}/{image_id.hex()[2:]}"
        programs["c"] = [options.c_fuse, "-f", "-o", f"source={image},basedir=r/objects", "mnt"]
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


def run(command: Command, mode: str) -> Iterator[tuple[str, Sample]]:
    """Yield what each job takes; all but the second `find` with a mount of its own."""
    user = (
        ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"] if mode == "plain" else []
    )
    for jobs in (["find", "find again"], ["tar"], ["read"], ["random reads"]):
        with served([*user, *command]) as pid:
            for job in jobs:
                yield job, measure([*user, "sh", "-c", f"cd mnt && {{ {JOBS[job]}; }} >/dev/null"], pid)


@contextlib.contextmanager
def served(command: Command) -> Iterator[int]:
    """Mount the image for as long as the block lasts; return the process that serves it."""
    server = subprocess.Popen(command)
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


def measure(command: Command, pid: int) -> Sample:
    before, start = cpu_of(pid), time.perf_counter()
    client = subprocess.Popen(command)
    _, status, usage = os.wait4(client.pid, 0)
    wall, client.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
    if client.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    server = cpu_of(pid) - before
    return Sample(wall, usage.ru_utime + usage.ru_stime + server, server)


def cpu_of(pid: int) -> float:
    """Return the processor time that a process and its threads have taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def report(programs: list[str], samples: dict[tuple[str, str], list[Sample]]) -> None:
    print(f"{'job':14} {'program':10} {'wall s':>8} {'cpu s':>8} {'server s':>9} {'ratio':>7}")
    for job in JOBS:
        ours = [sample.cpu_s for sample in samples[job, "ours"]]
        for name in programs:
            taken = samples[job, name]
            ratio = statistics.median(
                mine / max(theirs.cpu_s, 1e-3) for mine, theirs in zip(ours, taken, strict=True)
            )
            middle = [statistics.median(column) for column in zip(*taken, strict=True)]
            print(f"{job:14} {name:10} {middle[0]:8.3f} {middle[1]:8.3f} {middle[2]:9.3f} {ratio:7.2f}")


if __name__ == "__main__":
    main()
