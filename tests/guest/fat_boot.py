"""Runs in the guest: installs boot entries on a FAT partition that is full, changed and cut off from power.

usage: fat_boot.py ESP LAYOUT

Every line of output is one step as JSON. ESP is an image of a FAT file system. Power failures are played by
copies of that image, which have what the kernel has written to the disk so far, and nothing of what it holds.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from cfsctl.cli.app import main as run
from cfsctl.errors import CfsError
from cfsctl.linux.files import TEMPORARY_FILE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ESP, MNT, SNAPSHOTS = Path("/tmp/esp.img"), Path("/tmp/esp"), Path("/store/snapshots")
TREES: list[Path] = []
AT = ("--repo", "/store/repository")
PREPARE = (*AT, "boot", "prepare", "--bootdir", str(MNT), "--cmdline=rw", "--json")


def cfsctl(*arguments: str) -> dict[str, Any]:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = run(arguments)
        except CfsError as error:  # which the program would print
            status = 1
            err.write(str(error))
    return {"status": status, "out": text_of(out), "err": text_of(err)}


def text_of(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def say(step: str, **found: object) -> None:
    sys.stdout.write(json.dumps({"step": step, **found}) + "\n")
    sys.stdout.flush()


def mount(image: Path, place: Path) -> None:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "vfat", "-o", "loop", image, place], check=True)


def unmount(place: Path) -> None:
    subprocess.run(["umount", place], check=True)


def make_tree(path: Path, version: str, size: int) -> Path:
    modules = path / "usr/lib/modules" / version
    modules.mkdir(parents=True)
    for name in ("etc", "var", "boot", "sysroot"):
        (path / name).mkdir()
    (modules / "vmlinuz").write_bytes(os.urandom(size))
    (modules / "initramfs.img").write_bytes(os.urandom(size))
    return path


def store(name: str, version: str, size: int = 150_000) -> None:
    tree = make_tree(Path("/tmp") / name, version, size)
    TREES.append(tree)
    done = cfsctl(*AT, "create-image", "--bootable", str(tree), name)
    assert done["status"] == 0, done


def look(place: Path) -> dict[str, Any]:
    """Return which entries there are, and whether all they name is complete."""
    found: dict[str, Any] = {"entries": [], "broken": [], "left": []}
    for path in sorted(place.rglob("*")):
        if path.is_file() and path.name.startswith(TEMPORARY_FILE_PREFIX):
            found["left"].append(path.name)
    for entry in sorted((place / "loader/entries").glob("*.conf")):
        text = entry.read_text()
        if entry.name.startswith(TEMPORARY_FILE_PREFIX):
            continue
        found["entries"].append(entry.name)
        lines = dict(line.partition(" ")[::2] for line in text.splitlines())
        for key in ("linux", "initrd"):
            path = place / lines.get(key, "missing").strip().lstrip("/")
            if not path.is_file():
                found["broken"].append(f"{entry.name} {key}: {path} is missing")
            elif path.read_bytes() not in known():
                found["broken"].append(f"{entry.name} {key}: {path} of {path.stat().st_size} bytes differs")
    return found


def known() -> list[bytes]:
    return [path.read_bytes() for place in TREES for path in place.glob("usr/lib/modules/*/*")]


SEEN: set[int] = set()
WATCHED = (
    "cfsctl.boot.directory.syncfs",
    "cfsctl.boot.directory.fsync_directory",
    "os.fsync",
    "os.rename",
    "os.mkdir",
)


def with_snapshots(job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a job; keep a copy of the disk before and after each call that could change what is on it."""
    SNAPSHOTS.mkdir(exist_ok=True)
    count = itertools.count()
    with ExitStack() as stack:
        for name in WATCHED:
            stack.enter_context(mock.patch(name, watched(name, count)))
        return job()


def watched(name: str, count: Iterator[int]) -> Callable[..., object]:
    module, _, attribute = name.rpartition(".")
    function = getattr(sys.modules[module], attribute)

    def call(*arguments: object, **more: object) -> object:
        keep_snapshot(count)
        try:
            return function(*arguments, **more)
        finally:
            keep_snapshot(count)

    return call


def keep_snapshot(count: Iterator[int]) -> None:
    """Keep a copy of the disk, unless it is as it was."""
    data = ESP.read_bytes()
    if zlib.crc32(data) not in SEEN:
        SEEN.add(zlib.crc32(data))
        (SNAPSHOTS / f"{next(count):03}.img").write_bytes(data)


def look_at_snapshots(then: Callable[[Path], dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    place = Path("/tmp/looked-at")
    for image in sorted(SNAPSHOTS.iterdir()):
        mount(image, place)
        found.append(then(place))
        unmount(place)
        image.unlink()
    return found


def main() -> None:
    image, layout = sys.argv[1:]
    shutil.copyfile(image, ESP)
    mount(ESP, MNT)
    assert cfsctl("init", "--algorithm=fsverity-sha256-12", "/store/repository")["status"] == 0
    store("first", "6.1.0")
    store("second", "6.2.0")

    def again(place: Path) -> dict[str, Any]:
        """Return what there was, and what is there after the same command has run once more."""
        before = look(place)
        done = cfsctl(*PREPARE[:5], str(place), *PREPARE[6:], "second")
        return {"before": before, "status": done["status"], "err": done["err"], "after": look(place)}

    say("prepare", **cfsctl(*PREPARE, "first"), found=look(MNT))
    say("again", **cfsctl(*PREPARE, "first"), found=look(MNT))
    say("second", **with_snapshots(lambda: cfsctl(*PREPARE, "second")), found=look(MNT))
    say("snapshots", all=look_at_snapshots(again))
    say("list", **cfsctl(*AT, "boot", "list", "--bootdir", str(MNT), "--json"))
    say("pull", **cfsctl(*AT, "oci", "pull", f"oci:{layout}:a", "a"))
    say("oci", **cfsctl(*AT, "oci", "prepare-boot", "a", "--bootdir", str(MNT)), found=look(MNT))
    say("oci again", **cfsctl(*AT, "oci", "prepare-boot", "a", "--bootdir", str(MNT)), found=look(MNT))
    store("large", "6.3.0", 12 << 20)
    say("full", **cfsctl(*PREPARE, "large"), found=look(MNT))
    removed = json.loads(cfsctl(*AT, "boot", "list", "--bootdir", str(MNT), "--json")["out"])["deployments"][
        0
    ]
    say("remove", **cfsctl(*AT, "boot", "remove", removed["image"], "--bootdir", str(MNT)), found=look(MNT))
    unmount(MNT)
    mount(ESP, MNT)
    say("mounted again", found=look(MNT))
    unmount(MNT)


main()
