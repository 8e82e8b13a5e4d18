"""Images that are mounted while the repository is worked on."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.compat.machine.world import World
    from tests.fakes.ostree_repository import Tree

_HOLD = """
mount --make-rprivate / && "$0" --repo "$1" mount $2 "$3" "$4" && echo mounted && read -r _
"$0" umount "$4"
"""
"""Mounts an image in a mount namespace of its own, and keeps that until standard input ends."""


@contextlib.contextmanager
def mounted(world: World, ref: str, options: str = "") -> Iterator[Path]:
    """Mount an image where only a process of its own sees it; yield the path by which it can be read."""
    where = world.scratch / "mount"
    where.mkdir(exist_ok=True)
    arguments = (world.ours.path, str(world.path), options, ref, str(where))
    command = ["unshare", "--mount", "sh", "-c", _HOLD, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != "mounted":
                raise OSError(f"{ref} cannot be mounted")
            yield Path(f"/proc/{process.pid}/root{where}")
        finally:
            assert process.stdin is not None
            process.stdin.close()


def can_mount(world: World) -> bool:
    """Return whether images can be mounted here; found out once, with an image that is there."""
    if world.can_mount is None:
        world.can_mount = False
        if os.geteuid() == 0:
            with contextlib.suppress(OSError), mounted(world, min(world.model.images)):
                world.can_mount = True
    return world.can_mount


def read_tree(path: Path) -> Tree:
    """Return a tree on disk as the sources have it."""
    found: dict[str, Tree | bytes | str] = {}
    for entry in path.iterdir():
        if entry.is_symlink():
            found[entry.name] = str(entry.readlink())
        else:
            found[entry.name] = read_tree(entry) if entry.is_dir() else entry.read_bytes()
    return found
