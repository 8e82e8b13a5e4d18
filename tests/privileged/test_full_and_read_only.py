"""Every command that writes, on file systems that are full or read-only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.support.environments import make_world
from tests.support.oci import Layout, directory, file, make_tar
from tests.support.ostree_client import require_ostree
from tests.support.programs import CFSCTL, cfsctl

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)"
    ),
]

JOB: Final = Path(__file__).with_name("full_disk_job.py")
NAMESPACE: Final = ("unshare", "--mount", "--propagation", "private")

INIT: Final = [str(CFSCTL), "init", "--insecure", "m/s"]
COPIED: Final = ["cp", "-a", "store", "m/s"]
EXPORT: Final = ["cp", "-a", "ostree", "m/o"]
LAYER: Final = make_tar([directory("usr"), *(file(f"usr/{n}", b"%d" % n * 2000) for n in range(30))])
LAYER_DIGEST: Final = f"sha256:{hashlib.sha256(LAYER).hexdigest()}"


class Case(NamedTuple):
    """A command that writes.

    Attributes:
        words: The program and its arguments; a repository is at ``m/s``.
        setup: Commands before it, while there is room.
        stdin: File that is its standard input, or None.
        place: What the message calls the file system.
        status: Exit status where there is no room.
    """

    words: Sequence[str]
    setup: Sequence[Sequence[str]] = (INIT,)
    stdin: str | None = None
    place: str = "repository m/s"
    status: int = 12


CASES: Final = {
    "init": Case(["init", "--insecure", "m/s"], (), place="m/s"),
    "create-image": Case(["create-image", "tree", "new"]),
    "import-image": Case(["import-image", "new"], stdin="empty-image"),
    "copy": Case(["copy", "image", "m/s"]),
    "copy commit": Case(["copy", "tag", "m/s"]),
    "fsck --repair": Case(
        ["fsck", "--repair", "--from", "store"],
        (COPIED, ["sh", "-c", "find m/s/objects -type f -size +1k -delete"]),
    ),
    "ostree pull": Case(["ostree", "pull", "file://WORLD/ostree", "second"]),
    "ostree pull-local": Case(["ostree", "pull-local", "ostree", "second"]),
    "ostree commit": Case(["ostree", "commit", "textual", "--timestamp", "@1"], (COPIED,)),
    "ostree tag": Case(["ostree", "tag", "tag", "another"], (COPIED,)),
    "ostree export": Case(["ostree", "export", "tag", "m/o"], (EXPORT,), place="OSTree repository m/o"),
    "oci pull": Case(["oci", "pull", "oci:third-layout:t", "new"]),
    "oci import-layer": Case(["oci", "import-layer", LAYER_DIGEST, "new"], stdin="layer"),
    "extract": Case(["extract", "image", "m/t"], (), place="directory m/t"),
    "mkcomposefs": Case(["mkcomposefs", "tree", "m/image"], (), place='"m/image"', status=1),
    "mkcomposefs store": Case(
        ["mkcomposefs", "--digest-store=m/d", "tree", "m/image"], (), place="", status=1
    ),
}
FROM_STORE: Final = ("copy", "copy commit", "ostree export", "extract")
"""Cases whose repository is the one that is read."""

NEVER_FAIL: Final = {
    "gc": Case(["gc"], (COPIED, ["rm", "m/s/images/refs/image"])),
    "ostree untag": Case(["ostree", "untag", "tag"], (COPIED,)),
    "fsck": Case(["fsck"], (COPIED,)),
    "images": Case(["images"], (COPIED,)),
    "transaction": Case(["transaction", "true"], (COPIED,)),
}
"""What needs no room, or does what it can without."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("world")
    make_world(world)
    Layout(world / "third-layout").add_image("t", [LAYER])
    (world / "layer").write_bytes(LAYER)
    (world / "empty").mkdir()
    cfsctl("init", "--insecure", "third", cwd=world)
    cfsctl("--repo", "third", "create-image", "--no-propagate-usr-to-root", "empty", "empty", cwd=world)
    shutil.copyfile(world / "third" / "images" / "refs" / "empty", world / "empty-image")
    (world / "text" / "usr").mkdir(parents=True)
    (world / "text" / "usr" / "file").write_bytes(b"text" * 200)
    cfsctl("--repo", "store", "create-image", "text", "textual", cwd=world)
    (world / "m").mkdir()
    return world


def make_command(world: Path, name: str, case: Case) -> list[str]:
    words = [word.replace("WORLD", str(world)) for word in case.words]
    if words[0] == "mkcomposefs":
        return [str(CFSCTL.parent / words[0]), *words[1:]]
    repository = [] if name == "init" else ["--repo", "store" if name in FROM_STORE else "m/s"]
    return [str(CFSCTL), *repository, *words]


def run(world: Path, name: str, case: Case, kind: str, room: int) -> dict[str, object]:
    job = {
        "world": str(world),
        "setup": case.setup,
        "command": make_command(world, name, case),
        "stdin": case.stdin,
        "kind": kind,
        "room": room,
        "cfsctl": str(CFSCTL),
    }
    done = subprocess.run(
        [*NAMESPACE, sys.executable, JOB, json.dumps(job)], capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("mounting is not allowed here")
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def check(world: Path, name: str, kind: str, room: int) -> int:
    """Run a command with hardly any room; return its status."""
    case = CASES[name]
    result = run(world, name, case, kind, room)
    where = f"{name} with {room} {kind}: {result}"
    assert result["status"] in {0, case.status}, where
    if result["status"]:
        assert "No space left on device" in str(result["stderr"]), where
        assert case.place in str(result["stderr"]), where
    if name != "fsck --repair":  # where it is damaged before
        assert result["fsck"] == "", where
    assert result["left"] == [], where
    assert result["again"] == 0, where
    return int(str(result["status"]))


@pytest.mark.parametrize("name", CASES)
def test_no_room_at_all(world: Path, name: str) -> None:
    needs_pages = name not in {"init", "ostree tag"}  # which a page is enough for, or no page at all
    kind = "pages" if needs_pages and list(CASES).index(name) % 2 else "inodes"
    assert check(world, name, kind, 0) == CASES[name].status


@pytest.mark.parametrize(
    "name", ["create-image", "copy", "copy commit", "ostree pull", "oci pull", "extract"]
)
def test_how_much_is_missing(world: Path, name: str) -> None:
    case = CASES[name]
    if name == "ostree pull":
        require_ostree()
        (world / "large").mkdir()
        (world / "large" / "file").write_bytes(os.urandom(500_000))
        ostree = ("ostree", "--repo=sized")
        subprocess.run([*ostree, "init", "--mode=archive"], cwd=world, check=True)
        commit = ("commit", "--generate-sizes", "--branch=second", "--tree=dir=large")
        subprocess.run([*ostree, *commit], cwd=world, check=True, stdout=subprocess.DEVNULL)
        case = case._replace(words=["ostree", "pull", "file://WORLD/sized", "second"])
    room = 20 if name == "ostree pull" else 0  # enough to begin
    text = str(run(world, name, case, "pages", room)["stderr"])
    found = re.search(
        r"\(now (\d+) bytes and \d+ inodes free on its file system;"
        r" at least (\d+) bytes are still to be stored(?:: (\d+) bytes are missing)?\)",
        text,
    )
    assert found, text
    free, needed = int(found[1]), int(found[2])
    assert (found[3] or "") == (str(needed - free) if needed > free else "")
    assert "free some space" in text


@pytest.mark.deep
@pytest.mark.parametrize("name", CASES)
def test_room_for_a_part(world: Path, name: str) -> None:
    for kind, rooms in {"pages": (0, 1, 2, 3, 5, 9, 17, 40), "inodes": (0, 1, 2, 3, 4, 6, 10, 25)}.items():
        for room in rooms:
            check(world, name, kind, room)


@pytest.mark.parametrize("name", NEVER_FAIL)
def test_what_needs_no_room(world: Path, name: str) -> None:
    for kind in ("pages", "inodes"):
        result = run(world, name, NEVER_FAIL[name], kind, 0)
        assert (result["status"], result["fsck"], result["left"]) == (0, "", []), result


READ_ONLY: Final = 'mount --bind m m && mount -o remount,bind,ro m || exit 77; exec "$@"'


def run_read_only(world: Path, *command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", READ_ONLY, "sh", *command],
        cwd=world,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("mounting is not allowed here")
    return done


@pytest.fixture
def read_only(world: Path) -> Path:
    shutil.rmtree(world / "m")
    (world / "m").mkdir()
    shutil.copytree(world / "store", world / "m" / "s", symlinks=True)
    shutil.copytree(world / "ostree", world / "m" / "o", symlinks=True)
    return world


def test_a_read_only_repository_is_named(read_only: Path) -> None:
    for name in ("create-image", "fsck --repair", "ostree pull-local", "oci pull", "copy"):
        done = run_read_only(read_only, *make_command(read_only, name, CASES[name]))
        assert done.returncode == 1, name
        assert "Error: Repository is not writable: read-only file system: m/s\nHint: " in done.stderr, name
    done = run_read_only(read_only, str(CFSCTL), "--repo", "m/s", "oci", "untag", "none")
    assert (done.returncode, "not writable" in done.stderr) == (1, True)
    done = run_read_only(read_only, *make_command(read_only, "ostree export", CASES["ostree export"]))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: m/o/.lock: Read-only file system\nHint: ")
    done = run_read_only(read_only, str(CFSCTL), "init", "--insecure", "m")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: m: Read-only file system\nHint: ")


def test_a_repository_of_the_old_format_can_be_read_without_being_upgraded(read_only: Path) -> None:
    expected = cfsctl("--repo", "m/s", "images", cwd=read_only)
    (read_only / "m" / "s" / "meta.json").unlink()
    done = run_read_only(read_only, str(CFSCTL), "--repo", "m/s", "images")
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    done = run_read_only(read_only, str(CFSCTL), "--repo", "m/s", "gc")
    assert (done.returncode, "not writable: read-only" in done.stderr) == (1, True), done.stderr
