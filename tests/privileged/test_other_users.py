"""Every verb by a user who may read the repository, or parts of it, but not write to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import pytest

import cfsctl as package
from tests.support.environments import VERBS, make_world
from tests.support.programs import cfsctl, run_cfsctl

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("setpriv") is None, reason="setpriv is not installed (package util-linux)"
    ),
]

PROGRAM: Final = "import sys; from cfsctl.cli.main import main; sys.argv[0] = 'cfsctl'; sys.exit(main())"
AS_NOBODY: Final = (
    'for each in python packages sources; do mount --bind "$1" $each || exit 77; shift; done; '
    'exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"'
)
"""Python, and what it imports, may be where nobody else can go; in the namespace they are in the world."""

NOT_WRITABLE: Final = "Error: Repository is not writable: permission denied: store\nHint: "
WRITING: Final = (
    *("create-image", "fsck repair", "gc", "ostree pull-local", "ostree tag", "ostree untag"),
    *("oci stored pull", "oci stored tag", "oci stored untag"),
)
READING: Final = (
    *("compute-id", "diff", "dump-files", "explain-digest", "fsck", "gc dry", "gc why", "image-objects"),
    *(
        "images json",
        "missing",
        "oci stored dump",
        "oci stored fsck",
        "oci stored layer",
        "oci stored images",
    ),
    *("ostree dump", "ostree images", "ostree inspect", "ostree list-refs", "ostree log", "stats"),
    "transaction",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("world")
    make_world(world)
    for directory in (world, *world.parents):
        if directory.stat().st_mode & 0o005 != 0o005:
            directory.chmod(0o755)
    for name in ("store", "other"):
        (world / name).chmod(0o755)
    for name in ("python", "packages", "sources"):
        (world / name).mkdir()
    return world


def run(world: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    sources = Path(package.__file__).parents[1]
    interpreter = f"python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", AS_NOBODY, "sh"),
            *(sys.base_prefix, sysconfig.get_path("purelib"), sources),
            *(world / interpreter, "-c", PROGRAM),
            *arguments,
        ],
        cwd=world,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONHOME": str(world / "python"),
            "PYTHONPATH": f"{world}/sources:{world}/packages",
            "LC_ALL": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=300,
    )
    if done.returncode == 77:
        pytest.skip("mounting is not allowed here")
    return done


def words_of(world: Path, verb: str) -> list[str]:
    return ["--repo", "store", *[word.replace("WORLD", str(world)) for word in VERBS[verb]]]


@pytest.mark.parametrize("verb", WRITING)
def test_writing_is_refused_before_anything_is_done(world: Path, verb: str) -> None:
    done = run(world, *words_of(world, verb))
    assert done.returncode == 1, done.stderr
    assert NOT_WRITABLE in done.stderr


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(verb, marks=[] if index % 4 == 0 else [pytest.mark.deep])
        for index, verb in enumerate(READING)
    ],
)
def test_reading_is_the_same_as_for_the_owner(world: Path, verb: str) -> None:
    words = words_of(world, verb)
    done, expected = run(world, *words), run_cfsctl(*words, cwd=world)
    assert (done.returncode, done.stdout) == (expected.returncode, expected.stdout), done.stderr
    assert "internal error" not in done.stderr


def test_an_own_repository_is_filled_from_that_of_root(world: Path) -> None:
    (world / "home").mkdir()
    os.chown(world / "home", 65534, 65534)
    assert run(world, "init", "--insecure", "home/store").returncode == 0
    for name in ("image", "tag"):
        done = run(world, "--repo", "store", "copy", name, "home/store")
        assert done.returncode == 0, done.stderr
    assert run(world, "--repo", "home/store", "gc").returncode == 0
    assert cfsctl("--repo", world / "home" / "store", "fsck").endswith("status: ok\n")


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("objects", "checking objects: opening objects directory: Permission denied"),
        ("objects/XX", "checking objects: opening objects/XX directory: Permission denied"),
        ("images", "checking images: images: Permission denied"),
        ("images/refs", "checking images: images/refs: Permission denied"),
        ("streams/refs/ostree", "checking streams: streams/refs/ostree: Permission denied"),
    ],
)
def test_what_may_not_be_read_is_named_and_no_damage(world: Path, place: str, error: str) -> None:
    first = sorted(os.listdir(world / "store" / "objects"))[1]
    closed = world / "store" / place.replace("XX", first)
    closed.chmod(0o700)
    try:
        fsck = run(world, "--repo", "store", "fsck")
        collection = run(world, "--repo", "store", "gc", "--dry-run")
    finally:
        closed.chmod(0o755)
    assert (fsck.returncode, fsck.stderr.splitlines()[0]) == (1, f"Error: {error.replace('XX', first)}")
    assert (collection.returncode, collection.stdout) == (1, ""), collection.stderr
    assert "Permission denied" in collection.stderr
