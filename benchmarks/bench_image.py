"""Dump to image and back, beside the C tools, for an image of 100,000 inodes.

    python -m benchmarks.bench_image [OPTIONS of python -m benchmarks]

The dump is the same for the same size: a tree of directories with some ten entries each, of which seven in
ten are files with content elsewhere, and all have SELinux labels. The C tools come from
`tools/c-composefs.sh .c-composefs`.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.command_line import run
from benchmarks.declaration import OURS, Aim, C, Group, Place, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_DEPTH = 9
INODES = 100_000


class Maker:
    """Makes the lines of a dump, depth first."""

    def __init__(self, inodes: int, *, labels: bool) -> None:
        """Make the tree."""
        self._random = random.Random(1)
        self._labels = [f" security.selinux=system_u:object_r:kind_{i}_t:s0\\x00" for i in range(20)]
        if not labels:
            self._labels = [""]
        self._children: dict[str, list[tuple[str, str]]] = {}
        directories = [""]
        for number in range(inodes - 1):
            chance = self._random.random()
            recent = directories[-200:] if chance < 0.1 else directories[-50:]
            parent = self._random.choice(recent)
            while parent.count("/") > MAX_DEPTH:
                parent = self._random.choice(directories)
            kind = "d" if chance < 0.1 else "l" if chance < 0.2 else "i" if chance < 0.3 else "e"
            path = f"{parent}/directory-{number}" if kind == "d" else f"{parent}/some-file-{number}.so"
            self._children.setdefault(parent, []).append((path, kind))
            if kind == "d":
                directories.append(path)

    def lines(self) -> list[str]:
        """Return the dump."""
        lines = [f"/ 0 40755 2 0 0 0 1700000000.0 - - -{self._labels[0]}\n"]
        stack = [self._below("")]
        while stack:
            if not stack[-1]:
                stack.pop()
                continue
            path, kind = stack[-1].pop()
            lines.append(self._line(path, kind))
            if kind == "d":
                stack.append(self._below(path))
        return lines

    def _below(self, path: str) -> list[tuple[str, str]]:
        return sorted(self._children.get(path, ()), reverse=True)

    def _line(self, path: str, kind: str) -> str:
        source = self._random
        time_text = f"{1_600_000_000 + source.randrange(10**8)}.{source.randrange(10**9)}"
        label = source.choice(self._labels)
        if kind == "d":
            return f"{path} 0 40755 2 0 0 0 {time_text} - - -{label}\n"
        if kind == "l":
            return f"{path} 12 120777 1 0 0 0 {time_text} ../lib/libx1 - -{label}\n"
        if kind == "i":
            return f"{path} 12 100644 1 0 0 0 {time_text} - hello\\x20world\\n -{label}\n"
        digest = f"{source.getrandbits(256):064x}"
        size = source.randrange(65, 1_000_000)
        payload = f"{digest[:2]}/{digest[2:]}"
        return f"{path} {size} 100644 1 0 0 0 {time_text} {payload} - {digest}{label}\n"


def make_dump(path: Path, inodes: int) -> None:
    """Write the dump from a process of its own, whose memory must not count as that of others."""
    child = os.fork()
    if not child:
        path.write_text("".join(Maker(inodes, labels=True).lines()))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the dump could not be made")


@contextlib.contextmanager
def prepare(place: Place) -> Iterator[Mapping[str, str]]:
    """Make the dump and the image."""
    dump, image = place.path / "dump", place.path / "image"
    make_dump(dump, place.scaled(INODES))
    subprocess.run([place.programs[OURS], "mkcomposefs", "--from-file", dump, image], check=True)
    yield {"dump": shlex.quote(str(dump)), "image": shlex.quote(str(image))}


def make_row(name: str, tool: str, c_tool: str, arguments: str, limit: str) -> Row:
    """Return a row of a tool that C has as well, and the other cfsctl too if called by that name."""
    commands = {OURS: f"{{ours}} {tool} {arguments}", C: f"{{{c_tool}}} {arguments}"}
    return Row(name, commands, (Aim(1.2, C),), limit)


_READING = "Decoding inodes in Python, against a C loop."

GROUPS = (
    Group(
        "image",
        prepare,
        (
            make_row(
                "dump to image, 100,000 inodes",
                "mkcomposefs",
                "c",
                "--from-file --print-digest-only {dump}",
                "Parsing lines is over half of it.",
            ),
            make_row("image to dump", "composefs-info", "c_info", "dump {image}", _READING),
            make_row("image to list of objects", "composefs-info", "c_info", "objects {image}", _READING),
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(run(GROUPS, __doc__))
