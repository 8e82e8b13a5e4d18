"""The life of a store over HTTP: first pull, a pull of nothing, an update with and without a static delta.

    python -m benchmarks.bench_updates [--files 20000] [--changed 0.03] [--delay-ms 20] [--rounds 3]
        [--peer CFSCTL] [--work DIR] [--nice -15]

The real `ostree` client makes a repository of generated files, changes some of them, and makes a delta
between the two commits; nginx serves it, behind `benchmarks.delay_proxy` if a delay is asked for. `ostree` is
also one of the programs that are measured, another cfsctl is if it is given. They take turns, each with new
stores on the file system of --work, which are removed at the end. Medians count, and ratios of ours.
"""

from __future__ import annotations

import argparse
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.bench_http import delayed, draw_size
from benchmarks.measuring import Run, measure, print_head, report
from tests.support.nginx import run_nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS = 4000

_QUIET_S = 0.3
"""After which objects that were just written count as left alone."""

JOBS = ("first pull", "pull of nothing", "update, objects", "update, delta")


class Program(NamedTuple):
    """Shell commands; {store} and {url} are filled in.

    Attributes:
        name: What it is called.
        init: Makes a store.
        first: Pulls the old commit, also where it is there already.
        objects: Pulls the new commit object by object.
        delta: Pulls it by the delta.
    """

    name: str
    init: str
    first: str
    objects: str
    delta: str


def cfsctl(name: str, path: str) -> Program:
    program = f"{shlex.quote(path)} --repo {{store}}"
    pull = f"{program} ostree pull"
    return Program(
        name,
        f"{program} init --insecure",
        f"{pull} --no-delta {{url}} old",
        f"{pull} --no-delta --base-name old {{url}} new",
        f"{pull} --base-name old {{url}} new",
    )


OSTREE = Program(
    "ostree",
    "ostree --repo={store} init --mode=bare-user && ostree --repo={store} remote add --no-gpg-verify o {url}",
    "ostree --repo={store} pull --disable-static-deltas o old",
    "ostree --repo={store} pull --disable-static-deltas o new",
    "ostree --repo={store} pull --require-static-deltas o new",
)


def make_repository(work: Path, count: int, changed: float) -> Path:
    """Return an archive repository with the refs old and new, and a delta from one to the other."""
    chance = random.Random(1)
    words = [chance.randbytes(chance.randrange(2, 9)).hex().encode() for _ in range(_WORDS)]
    tree, repository = work / "tree", work / "served" / "repo"
    paths = [tree / f"d{number // 200}" / f"f{number}" for number in range(count)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b" ".join(chance.choices(words, k=draw_size(chance) // 11 + 1)))
    repository.parent.mkdir()
    ostree = ["ostree", f"--repo={repository}"]
    subprocess.run([*ostree, "init", "--mode=archive"], check=True)
    commit = [*ostree, "commit", f"--tree=dir={tree}"]
    subprocess.run([*commit, "-b", "old"], check=True, stdout=subprocess.DEVNULL)
    for path in chance.sample(paths, int(count * changed)):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + chance.randbytes(20) + content[len(content) // 2 :])
    subprocess.run([*commit, "-b", "new"], check=True, stdout=subprocess.DEVNULL)
    ends = ["--from=old", "--to=new"]
    subprocess.run([*ostree, "static-delta", "generate", *ends], check=True, capture_output=True)
    subprocess.run([*ostree, "summary", "--update"], check=True)
    return repository.parent


def run_round(program: Program, url: str, work: Path, niceness: int) -> Iterator[tuple[str, Run]]:
    """Measure each job, in two new stores; yield its name with each run."""
    for job, update in (("update, objects", program.objects), ("update, delta", program.delta)):
        store = tempfile.mkdtemp(prefix=f"{program.name}-", dir=work) + "/store"
        names = {"store": shlex.quote(store), "url": shlex.quote(url)}
        subprocess.run(program.init.format(**names), shell=True, check=True, stdout=subprocess.DEVNULL)
        yield "first pull", measure(program.first.format(**names), niceness)
        time.sleep(_QUIET_S)
        measure(program.first.format(**names), niceness)
        yield "pull of nothing", measure(program.first.format(**names), niceness)
        yield job, measure(update.format(**names), niceness)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--changed", type=float, default=0.03, help="part of the files that change")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="round-trip time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="another cfsctl")
    parser.add_argument("--work", help="directory on the file system to measure")
    parser.add_argument("--nice", type=int, default=0, help="for a busy machine: -15, as root")
    arguments = parser.parse_args()
    programs = [cfsctl("ours", str(Path(sys.executable).parent / "cfsctl"))]
    if arguments.peer:
        programs.append(cfsctl("peer", arguments.peer))
    programs.append(OSTREE)
    work = Path(tempfile.mkdtemp(prefix="bench-updates-", dir=arguments.work))
    try:
        root = make_repository(work, arguments.files, arguments.changed)
        results: dict[str, dict[str, list[Run]]] = {
            job: {program.name: [] for program in programs} for job in JOBS
        }
        with run_nginx(root, work, extra="access_log off;") as server:
            port = int(server.url.rpartition(":")[2])
            with delayed(port, arguments.delay_ms) as reached:
                url = f"http://127.0.0.1:{reached}/repo"
                for number in range(arguments.rounds):
                    for program in programs if number % 2 == 0 else reversed(programs):
                        for job, run in run_round(program, url, work, arguments.nice):
                            results[job][program.name].append(run)
        print_head()
        for job, runs in results.items():
            report(job, runs)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
