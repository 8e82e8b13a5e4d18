"""The life of a store over HTTP: first pull, a pull of nothing, an update with and without a static delta.

    python -m benchmarks.bench_updates [--delay-ms 20] [OPTIONS of python -m benchmarks]

The real `ostree` client makes a repository of 60,000 generated files, changes 3 % of them, and makes a delta
between the two commits; nginx serves it, behind `benchmarks.delay_proxy` if a delay is asked for. `ostree` is
also one of the programs that are measured, though it makes no image. After the update by objects each store
goes back to the old commit, so that the update by delta starts from the same.
"""

from __future__ import annotations

import contextlib
import random
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.bench_http import delayed, draw_size
from benchmarks.command_line import run
from benchmarks.declaration import OSTREE, OURS, REFERENCE, Aim, Group, Place, Row, Setup, both
from tests.support.nginx import run_nginx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILES = 60_000
CHANGED = 0.03
_WORDS = 4000

_QUIET_S = 0.3
"""After which objects that were just written count as left alone."""


def make_repository(work: Path, count: int) -> Path:
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
    for path in chance.sample(paths, int(count * CHANGED)):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + chance.randbytes(20) + content[len(content) // 2 :])
    subprocess.run([*commit, "-b", "new"], check=True, stdout=subprocess.DEVNULL)
    ends = ["--from=old", "--to=new"]
    subprocess.run([*ostree, "static-delta", "generate", *ends], check=True, capture_output=True)
    subprocess.run([*ostree, "summary", "--update"], check=True)
    return repository.parent


@contextlib.contextmanager
def prepare(place: Place) -> Iterator[Mapping[str, str]]:
    """Make the repository, and serve it."""
    root = make_repository(place.path, place.scaled(FILES))
    with run_nginx(root, place.path, extra="access_log off;") as server:
        port = int(server.url.rpartition(":")[2])
        with delayed(port, place.delay_ms) as reached:
            yield {"url": shlex.quote(f"http://127.0.0.1:{reached}/repo")}


def commands(ours: str, ostree: str) -> dict[str, str]:
    """Return what cfsctl and `ostree` are to do."""
    return both(f"--repo {{store}} {ours}") | {OSTREE: f"{{ostree}} --repo={{store}} {ostree}"}


INIT = both("--repo {store} init --insecure") | {
    OSTREE: "{ostree} --repo={store} init --mode=bare-user"
    " && {ostree} --repo={store} remote add --no-gpg-verify o {url}"
}
FIRST = commands("ostree pull --no-delta {url} old", "pull --disable-static-deltas o old")
BACK = {
    OURS: "{ours} --repo {store} ostree untag new && {ours} --repo {store} gc",
    REFERENCE: "{reference} --repo {store} ostree untag new && {reference} --repo {store} gc",
    OSTREE: "{ostree} --repo={store} refs --delete o:new && {ostree} --repo={store} prune --refs-only",
}
OBJECTS = "update of 3 %, objects"

GROUPS = (
    Group(
        "updates",
        prepare,
        (
            Setup(INIT),
            Row(
                "first pull",
                FIRST,
                (Aim(0.6, REFERENCE),),
                "The kernel, which makes a file for each object; then decompression and hashing.",
            ),
            Setup(FIRST, _QUIET_S),
            Row(
                "pull of nothing",
                FIRST,
                (Aim(0.10),),
                "Start-up, a request, and a look at a thousand of the objects.",
                3,
            ),
            Row(
                OBJECTS,
                commands(
                    "ostree pull --no-delta --base-name old {url} new", "pull --disable-static-deltas o new"
                ),
                (Aim(1.0, OSTREE),),
                "The commit's stream and the image of the whole tree, which `ostree` does not make.",
            ),
            Setup(BACK, _QUIET_S),
            Setup(FIRST, _QUIET_S),
            Row(
                "update of 3 %, delta",
                commands("ostree pull --base-name old {url} new", "pull --require-static-deltas o new"),
                (Aim(1.2, OSTREE), Aim(1.0, OBJECTS)),
                "As by objects, which are chosen where the server is as near as here.",
            ),
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(run(GROUPS, __doc__))
