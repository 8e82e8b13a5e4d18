"""A FIFO, socket, device or directory in the place of each file of a repository: one clear error, at once."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.app import main
from cfsctl.cli.errors import STYLE, run_guarded
from cfsctl.errors import ExitCode
from tests.fakes.ostree_repository import FakeOstreeRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

GUARD_S = 120
"""Nothing waits for a writer of a FIFO; this ends the test if something does."""


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        place = Path(path.parts[0], *path.parts[1:3], "s")  # a long path cannot be bound
        one.bind(str(place))
        place.rename(path)


def make_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))


KINDS: dict[str, Callable[[Path], None]] = {
    "fifo": os.mkfifo,
    "socket": bind_socket,
    "device": make_device,
    "directory": os.mkdir,
}

VERBS = [
    "images",
    "stats",
    "fsck",
    "fsck --metadata-only",
    "fsck --repair",
    "gc --dry-run",
    "gc",
    "image-objects image",
    "create-image tree new",
    "create-dumpfile tree",
    "copy image --to other",
    "diff image:image dir:tree",
    "init store --insecure",
    "ostree images",
    "ostree log x",
    "ostree inspect x",
    "ostree dump x",
    "ostree verify x",
    "ostree compute-id x",
    "ostree tag x y",
    "ostree untag x",
    "ostree pull-local source x",
    "ostree pull-local source --mirror",
    "ostree export x source",
    "oci images",
    "oci inspect container",
    "oci dump container",
    "oci fsck",
    "oci tag container other",
    "oci push container oci:layout:x",
]

STATE = [
    ".cfsctl-scan-cache",
    ".cfsctl-image-memory",
    ".cfsctl-verified",
    ".cfsctl-quarantine",
    ".cfsctl-tags",
    "config",
]
SOURCE = ["config", "refs", "refs/heads", "refs/heads/x", "objects", "summary", ".lock", "state"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store that has everything, and a repository to pull from."""
    place = Path(os.path.realpath(tmp_path_factory.mktemp("w", numbered=True)))
    original = place / "original"
    (place / "tree/usr").mkdir(parents=True)
    (place / "tree/usr/large").write_bytes(b"l" * 5000)
    (place / "tree/usr/small").write_bytes(b"s")
    source = FakeOstreeRepository()
    source.commit({"usr": {"f": b"y" * 5000, "g": b"z" * 100}}, "x")
    source.write(original / "source")
    store = str(original / "store")
    for arguments in (
        ["init", "--insecure", store],
        ["--repo", store, "create-image", str(place / "tree"), "image"],
        ["--repo", store, "ostree", "pull-local", str(original / "source"), "x"],
        ["--repo", store, "oci", "build", str(place / "tree"), "container"],
    ):
        assert call(arguments)[0] == 0, arguments
    return place


def call(arguments: list[str]) -> tuple[int, str]:
    """Run a command in this process; return its status and what it says on standard error."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2)]
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, (sys.stdout, sys.stderr) = io.TextIOWrapper(io.BytesIO()), streams
    STYLE.reset()
    try:
        status = run_guarded(lambda: main(arguments))
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
    streams[1].flush()
    return status, streams[1].buffer.getvalue().decode()


def iter_places(world: Path) -> Iterator[tuple[str, str]]:
    """Yield the repository and the path of each file that it has, or may have."""
    for name, more in (("store", STATE), ("source", SOURCE)):
        top = world / "original" / name
        found = [str(path.relative_to(top)) for path in sorted(top.rglob("*")) if not path.is_dir()]
        for path in dict.fromkeys([*found, *more]):
            yield name, path


def check(world: Path, name: str, path: str, kind: str, verb: str) -> None:
    for directory in ("store", "source", "other", "layout"):
        shutil.rmtree(world / directory, ignore_errors=True)
    for directory in ("store", "source"):
        shutil.copytree(world / "original" / directory, world / directory, symlinks=True)
    place = world / name / path
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](place)
    status, said = call(["--repo", "store", "--lock-timeout", "5", *verb.split()])
    where = f"{kind} in place of {name}/{path}, {verb}: {status}\n{said}"
    assert status in {int(code) for code in ExitCode}, where
    assert "internal error" not in said, where
    assert "Traceback" not in said, where
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    is_report = status in {ExitCode.PARTIAL, ExitCode.CORRUPTION}
    assert len(errors) == 1 or (not errors and (status == 0 or is_report)), where


@pytest.fixture
def inside(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run in the world, with a guard against waiting for ever."""
    monkeypatch.chdir(world)
    monkeypatch.setenv("HOME", str(world))

    def fail(_number: int, _frame: FrameType | None) -> None:
        pytest.fail("a command waits")

    before = signal.signal(signal.SIGALRM, fail)
    yield world
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.alone  # it forks workers
@pytest.mark.privileged
@pytest.mark.skipif(os.geteuid() != 0, reason="makes devices")
def test_some_verbs_with_each_place(inside: Path) -> None:
    verbs = itertools.cycle(VERBS)
    for name, path in iter_places(inside):
        for kind in KINDS:
            verb = next(verbs)
            while name == "source" and "source" not in verb:
                verb = next(verbs)
            signal.alarm(GUARD_S)
            check(inside, name, path, kind, verb)


@pytest.mark.alone  # it forks workers
@pytest.mark.deep
@pytest.mark.privileged
@pytest.mark.skipif(os.geteuid() != 0, reason="makes devices")
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_with_every_place(inside: Path, verb: str) -> None:
    for name, path in iter_places(inside):
        for kind in KINDS:
            if name == "store" or "source" in verb:
                signal.alarm(GUARD_S)
                check(inside, name, path, kind, verb)
