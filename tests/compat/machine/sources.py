"""Where everything in the repository comes from: trees on disk, OSTree repositories and OCI images."""

from __future__ import annotations

import contextlib
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cfsctl.fsverity.merkle import compute_digest
from tests.fakes.ostree_repository import FakeOstreeRepository, Tree
from tests.support.oci import Layout, directory, file, make_tar, symlink
from tests.support.web import serve_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import Algorithm, ObjectID
    from tests.support.oci import Member

IMAGE_LIMIT = 64
"""Bytes up to which a file is in an image; above, it is an object."""

REFS = ("main", "stable", "app/org.example.App/x86_64/stable")
SNAPSHOTS = 3
SUBPATH = "/usr/share"
CONTAINERS = 4


@dataclass(frozen=True)
class Published:
    """A commit in the OSTree repositories."""

    checksum: str
    tree: str
    ref: str
    snapshot: int


@dataclass(frozen=True)
class Container:
    """An OCI image in a layout.

    Attributes:
        manifest: Digest of its manifest.
        layers: Trees of its layers, the lowest first.
    """

    manifest: str
    layers: tuple[str, ...]


def make_trees() -> dict[str, Tree]:
    """Return trees that share much; among the files are all sizes about which limits differ."""
    chooser = random.Random(4711)
    shared: dict[str, bytes] = {
        f"s{size}": chooser.randbytes(size) for size in (0, 1, 63, 64, 65, 100, 127, 128, 129, 4096, 70_000)
    }
    trees: dict[str, Tree] = {}
    for number in range(len(REFS) * SNAPSHOTS):
        own = {
            f"o{size}": chooser.randbytes(size) for size in chooser.sample((30, 66, 90, 128, 500, 9000), 4)
        }
        picked = dict(chooser.sample(sorted(shared.items()), 7))
        trees[f"t{number}"] = {
            "usr": {"share": {**picked, "link": "s1"}, "bin": {**own, "again": next(iter(own.values()))}},
            "etc": {"name": f"tree {number}\n".encode()},
            # What has these can become a bootable image.
            "boot": {},
            "sysroot": {},
        }
    return trees


def iter_contents(tree: Tree) -> Iterator[bytes]:
    """Yield the contents of all files."""
    for node in tree.values():
        if isinstance(node, bytes):
            yield node
        elif not isinstance(node, str):
            yield from iter_contents(node)


def write_tree(path: Path, tree: Tree) -> None:
    """Write a tree to disk, with times that do not change."""
    path.mkdir()
    for name, node in tree.items():
        target = path / name
        if isinstance(node, bytes):
            target.write_bytes(node)
        elif isinstance(node, str):
            target.symlink_to(node)
        else:
            write_tree(target, node)
        os.utime(target, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    os.utime(path, (1_600_000_000, 1_600_000_000))


def iter_members(tree: Tree, above: str = "") -> Iterator[Member]:
    """Yield the entries of an archive of a tree."""
    for name, node in tree.items():
        path = f"{above}{name}"
        if isinstance(node, bytes):
            yield file(path, node)
        elif isinstance(node, str):
            yield symlink(path, node)
        else:
            yield directory(path)
            yield from iter_members(node, f"{path}/")


class Sources:
    """Trees and commits.

    Attributes:
        trees: Trees by name.
        published: Commits.
        containers: OCI images by their tags in the layout.
        address: Where all of it is served, ``http://…`` without a final slash; empty if it is not.
    """

    def __init__(self, path: Path) -> None:
        """Write all of it below a directory."""
        self._path = path
        self.address = ""
        self.trees = make_trees()
        self.published: list[Published] = []
        (path / "trees").mkdir()
        for name, tree in self.trees.items():
            write_tree(path / "trees" / name, tree)
        fake = FakeOstreeRepository()
        for snapshot in range(SNAPSHOTS):
            for place, ref in enumerate(REFS):
                name = f"t{snapshot * len(REFS) + place}"
                commit = fake.commit(self.trees[name], ref, timestamp_s=1_600_000_000 + snapshot)
                self.published.append(Published(commit.hex(), name, ref, snapshot))
            fake.write(path / f"ostree{snapshot}")
        layout = Layout(path / "layout")
        self.containers: dict[str, Container] = {}
        for number in range(CONTAINERS):
            # Neighbours share a layer.
            layers = tuple(f"t{number + place}" for place in range(2))
            archives = [make_tar(iter_members(self.trees[name])) for name in layers]
            self.containers[f"c{number}"] = Container(layout.add_image(f"c{number}", archives), layers)

    def container_source(self, name: str) -> str:
        """Return the reference by which an OCI image is pulled."""
        return f"oci:{self._path / 'layout'}:{name}"

    def tree_path(self, name: str) -> str:
        """Return where a tree is on disk."""
        return str(self._path / "trees" / name)

    def ostree_path(self, snapshot: int) -> str:
        """Return the OSTree repository in one of its states."""
        return str(self._path / f"ostree{snapshot}")

    def ostree_url(self, snapshot: int) -> str:
        """Return the same on a server."""
        return f"{self.address}/ostree{snapshot}"

    @contextlib.contextmanager
    def serve(self) -> Iterator[None]:
        """Serve everything for the length of the block."""
        with serve_directory(self._path) as self.address:
            yield

    def find_objects(self, tree: str, algorithm: Algorithm, limit: int = IMAGE_LIMIT) -> set[ObjectID]:
        """Return the objects of all files of a tree that are larger than a limit."""
        return {
            compute_digest(content, algorithm)
            for content in iter_contents(self.trees[tree])
            if len(content) > limit
        }
