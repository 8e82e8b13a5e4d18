"""Small work in a repository of many commits and images, and many refs of one server, beside another cfsctl.

    python -m benchmarks.bench_many [OPTIONS of python -m benchmarks]

The repository has 300 commits of 20 refs, 500 images and 7,900 objects: here what is fixed for each stream,
each image and each start is what counts. The server has 20 refs that share 90 % of their files.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.command_line import run
from benchmarks.declaration import OSTREE, OURS, REFERENCE, Aim, Group, Place, Row, Setup, both
from cfsctl import Repository
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.nginx import run_nginx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.fakes.ostree_repository import Tree

REFS = 20
COMMITS = 300
IMAGES = 500
UPDATES = 100
SHARED_FILES = 9_000
OWN_FILES = 1_000

_CONTENT = b"a line of a file that is too large to be part of an image\n" * 4


def make_tree(name: str, shared: int, own: int) -> dict[str, Tree | bytes | str]:
    """Return a tree with some files that all have, and some of its own."""
    common = {f"f{number}": b"%d %s" % (number, _CONTENT) for number in range(shared)}
    mine = {f"f{number}": b"%s %d %s" % (name.encode(), number, _CONTENT) for number in range(own)}
    return {"shared": common, name: mine}


@contextlib.contextmanager
def prepare(place: Place) -> Iterator[Mapping[str, str]]:
    """Make the archive, the repository, and trees of which each is made an image once."""
    source = FakeOstreeRepository()
    commits = [
        source.commit(make_tree(f"{index % REFS}", 30, 3 + index // REFS), timestamp_s=1_600_000_000 + index)
        for index in range(place.scaled(COMMITS))
    ]
    for index in range(UPDATES):
        source.commit(
            make_tree(f"update-{index}", 30, 3), f"update-{index}", timestamp_s=1_700_000_000 + index
        )
    source.write(place.path / "source")
    path = place.path / "repository"
    with Repository.init(str(path), insecure=True) as repository:
        for number in range(place.scaled(IMAGES)):
            repository.create_image(
                str(_make_small(place, f"tree-{number}")), f"image-{number}", as_root=False
            )
    for start in range(0, len(commits), REFS):
        names = [commit.hex() for commit in commits[start : start + REFS]]
        pull = [place.programs[OURS], "--repo", str(path), "ostree", "pull-local", str(place.path / "source")]
        subprocess.run([*pull, *names], check=True, stdout=subprocess.DEVNULL)
    for index in range(UPDATES):
        _make_small(place, f"small-{index}")
    values = {"repository": path, "source": place.path / "source", "small": place.path / "small"}
    yield {name: shlex.quote(str(value)) for name, value in values.items()}


def _make_small(place: Place, name: str) -> Path:
    tree = place.path / name
    files = tree / "usr"
    files.mkdir(parents=True)
    for number in range(10):
        (files / f"f{number}").write_bytes(b"%s %d %s" % (name.encode(), number, _CONTENT))
    return tree


@contextlib.contextmanager
def prepare_refs(place: Place) -> Iterator[Mapping[str, str]]:
    """Serve the refs."""
    source = FakeOstreeRepository()
    shared, own = place.scaled(SHARED_FILES), place.scaled(OWN_FILES)
    for index in range(REFS):
        source.commit(make_tree(f"own-{index}", shared, own), f"ref-{index}")
    served = place.path / "served"
    source.write(served / "repo")
    with run_nginx(served, place.path) as server:
        values = {"url": f"{server.url}/repo", "log": str(place.path / "access.log")}
        refs = " ".join(f"ref-{number}" for number in range(REFS))
        yield {"refs": refs} | {name: shlex.quote(value) for name, value in values.items()}


def in_large(name: str, arguments: str, aim: Aim, limit: str) -> Row:
    """Return a row of a command in the repository of many commits and images."""
    return Row(f"300 commits, 500 images: {name}", both(f"--repo {{repository}} {arguments}"), (aim,), limit)


GROUPS = (
    Group(
        "many",
        prepare,
        (
            in_large("fsck", "fsck", Aim(2.0, REFERENCE), "Decoding each stream and image once."),
            in_large(
                "gc --dry-run",
                "gc --dry-run",
                Aim(2.0, REFERENCE),
                "Reading the table of each stream and image.",
            ),
            in_large(
                "pull-local of an update",
                "ostree pull-local {source} update-{number}",
                Aim(0.08),
                "Start-up, imports, and syncing.",
            ),
            in_large(
                "create-image, small",
                "create-image {small}-{number}",
                Aim(0.10),
                "Start-up, imports, and syncing once.",
            ),
        ),
    ),
    Group(
        "refs",
        prepare_refs,
        (
            Setup(
                {
                    OURS: ": >{log}; {ours} --repo {store} init --insecure",
                    REFERENCE: "{reference} --repo {store} init --insecure",
                    OSTREE: "{ostree} --repo={store} init --mode=bare-user"
                    " && {ostree} --repo={store} remote add --no-gpg-verify o {url}",
                }
            ),
            Row(
                "20 refs that share 90 %",
                {
                    OURS: "{ours} --repo {store} ostree pull {url} {refs}",
                    REFERENCE: "sh -c 'for ref in {refs}; do"
                    " {reference} --repo {store} ostree pull {url} $ref || exit 1; done'",
                    OSTREE: "{ostree} --repo={store} pull o {refs}",
                },
                (Aim(1.0, REFERENCE),),
                "Making files, and a stream and an image of 10,000 files for each ref.",
            ),
            # Fails if an object was fetched twice.
            Setup({OURS: "! sort {log} | uniq -d | grep objects/"}),
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(run(GROUPS, __doc__))
