"""Stored images read back: the tree is the one they were made of, and makes the same bytes again."""

from __future__ import annotations

import mmap
import re
import stat
import struct
import tempfile
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.dumpfile.writer import iter_dump
from cfsctl.erofs.format import (
    BLOCK_SIZE,
    SLOT_SIZE,
    SUPERBLOCK_OFFSET,
    DirentType,
    ErofsError,
    FormatVersion,
)
from cfsctl.erofs.inspect import tree_objects
from cfsctl.erofs.read import objects
from cfsctl.erofs.read.directories import read_listing
from cfsctl.erofs.read.image import Image
from cfsctl.erofs.read.objects import iter_directories
from cfsctl.erofs.read.tree import check_image, collect_objects, find_algorithm, read_image
from cfsctl.erofs.superblock import read_superblock
from cfsctl.erofs.write.image import build_image
from cfsctl.tree.model import CharDevice, Directory, ExternalFile, FileSystem
from tests.support.erofs_images import Craft, algorithm_of, locate, stored

if TYPE_CHECKING:
    from cfsctl.erofs.format import ImageBuffer

NAMES = [
    *(f"{hash_name}-v{version}.img" for hash_name in ("sha256", "sha512") for version in (0, 1, 2)),
    *(f"marks-sha256-v{version}.img" for version in (0, 1, 2)),
    "small-sha256-v1.img",
]


def read(name: str) -> FileSystem:
    return read_image(stored(name), algorithm_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_written_again_it_is_the_same(name: str) -> None:
    version = read_superblock(stored(name)).version
    assert build_image(read(name), version) == stored(name)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("small")])
def test_tree_is_what_the_image_was_made_of(name: str) -> None:
    """V2 has no nanoseconds; nothing else is lost."""
    expected = stored(re.sub(r"-v\d\.img", ".dump", name))
    if name.endswith("v2.img"):
        expected = re.sub(rb"^((?:\S+ ){7}-?\d+)\.\d+", rb"\1.0", expected, flags=re.MULTILINE)
    assert b"".join(iter_dump(read(name))) == expected


@pytest.mark.parametrize("name", NAMES)
def test_objects_without_and_with_a_tree_are_the_same(name: str) -> None:
    algorithm = algorithm_of(name)
    objects = collect_objects(stored(name), algorithm)
    assert objects == tree_objects(read(name)) == check_image(stored(name), algorithm)


@pytest.mark.parametrize("name", NAMES)
def test_algorithm_is_found(name: str) -> None:
    expected = None if name.startswith("marks") else algorithm_of(name)
    assert find_algorithm(stored(name)) == expected


@pytest.mark.parametrize("version", [0, 1])
def test_stubs_are_taken_away_and_whiteouts_of_the_tree_are_not(version: int) -> None:
    entries = read(f"sha256-v{version}.img").root.entries
    assert sorted(name for name in entries if len(name) == 2) == [b"ab", b"cd", b"ef"]
    assert isinstance(entries[b"ab"], CharDevice)


def test_whiteout_in_a_v2_root_survives() -> None:
    whiteout = read("sha256-v2.img").root.entries[b"ab"]
    assert isinstance(whiteout, CharDevice)
    assert whiteout.rdev == 0


@pytest.mark.parametrize("version", [0, 1, 2])
def test_overlay_attributes_of_the_tree_stay(version: int) -> None:
    root = read(f"marks-sha256-v{version}.img").root
    both, only = root.entries[b"both"], root.entries[b"only"]
    assert isinstance(both, Directory)
    assert dict(both.xattrs) == {
        b"trusted.overlay.opaque": b"y",
        b"user.overlay.opaque": b"x",
        b"user.overlay.whiteouts": b"1",
    }
    assert both.entries[b"gone"].xattrs == {b"trusted.overlay.whiteout": b"q"}
    assert only.xattrs == {b"trusted.overlay.whiteouts": b"", b"user.overlay.whiteouts": b""}


def test_stub_like_whiteout_makes_the_same_image() -> None:
    """A whiteout that equals a stub in everything is not told from one, by the writer either."""
    root = Directory(0o755, 1, 2, 3, 4, {b"security.selinux": b"l\0", b"user.a": b"b"})
    root.entries[b"0f"] = CharDevice(0, 0o644, 1, 2, 3, 4, {b"security.selinux": b"l\0"})
    root.entries[b"0e"] = CharDevice(0, 0o644, 1, 2, 3, 5, {b"security.selinux": b"l\0"})
    image = build_image(FileSystem(root), FormatVersion.V1)
    again = read_image(image, Algorithm.SHA256)
    assert list(again.root.entries) == [b"0e"]
    assert build_image(again, FormatVersion.V1) == image


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "part of a mapping", "mapping"])
def test_any_kind_of_buffer(kind: str) -> None:
    data = stored("sha256-v1.img")
    with tempfile.TemporaryFile() as file:
        file.write(data if kind == "mapping" else b"0123" + data)
        file.flush()
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
            view[4:] as part,
        ):
            buffers: dict[str, ImageBuffer] = {
                "bytes": data,
                "bytearray": bytearray(data),
                "memoryview": memoryview(data),
                "part of a mapping": part,
                "mapping": mapped,
            }
            buffer = buffers[kind]
            assert build_image(read_image(buffer, Algorithm.SHA256), FormatVersion.V1) == data
            assert collect_objects(buffer, Algorithm.SHA256) == collect_objects(data, Algorithm.SHA256)


def collect(data: ImageBuffer) -> set[ObjectID] | str:
    try:
        return collect_objects(data, Algorithm.SHA256)
    except ErofsError as error:
        return str(error)


@pytest.mark.parametrize("labels", [1, 0])
def test_whiteouts_looked_at_together_give_what_each_alone_gives(
    labels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever byte of a stub is changed: its header, its attributes, or what is behind them."""
    xattrs = {b"security.selinux": b"l\0"} if labels else {}
    root = Directory(0o755, 1, 2, 3, 4, xattrs)
    root.entries[b"file"] = ExternalFile(ObjectID(bytes(range(32))), 70, 0o644, 1, 2, 3, 4, xattrs)
    root.entries[b"7g"] = Directory(0o755, 1, 2, 3, 4, xattrs)
    data = build_image(FileSystem(root), FormatVersion.V1)
    found = {}
    for least in (16, 1000):
        monkeypatch.setattr("cfsctl.erofs.read.objects._WORTH_GROUPING", least)
        for name in ("00", "7f", "80", "ff"):
            start = locate(bytes(data), name)
            for place in range(start, start + 64):
                changed = data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]
                found[least, name, place - start] = collect(changed)
        found[least, "none", 0] = collect(data)
    assert found[16, "none", 0] == {bytes(range(32))}
    for (least, name, place), result in found.items():
        assert result == found[1000, name, place], (least, name, place)
    assert len({str(result) for result in found.values()}) > 3


def test_whiteouts_are_charged_for_once_each() -> None:
    data = build_image(FileSystem(Directory(0o755, 1, 2, 3, 4, {})), FormatVersion.V1)
    grouped, single = Image(data), Image(data)
    objects._Collector(grouped, Algorithm.SHA256, strict=True).run()
    for _, listing, _ in iter_directories(single):
        for nid in listing.nids:
            single.inode(nid)
    assert grouped.unclaimed == single.unclaimed


def test_roots_that_are_alike_are_compared_with_each_image() -> None:
    """What a root lists is remembered; where that leads to is another matter in each image."""

    def craft(nlink: int) -> bytes:
        image = Craft()
        root, first, second = image.reserve(200), image.reserve(64), image.reserve(64)
        listed = [(b"a", first, DirentType.FIFO), (b"b", second, DirentType.FIFO)]
        image.directory(root, root, listed, nlink=nlink)
        for nid in (first, second):
            image.put(stat.S_IFIFO | 0o644, nid=nid)
        return image.build(root)

    def names(data: bytes) -> list[bytes]:
        image = Image(data)
        return read_listing(image, image.root(), image.root().nid).names

    good = craft(2)
    for _ in range(2):
        changed = names(good)
        assert changed == [b"a", b"b"]
        changed.clear()
        with pytest.raises(ErofsError, match="directory nlink mismatch: on-disk nlink is 3, expected 2"):
            names(craft(3))


@pytest.mark.parametrize("count", [2, 3])
def test_root_that_is_remembered_may_point_out_of_another_image(count: int) -> None:
    """The same listing, of an inode that only the larger of two images has."""
    image = Craft()
    root = image.reserve(200)
    beyond = BLOCK_SIZE * (count - 1) // SLOT_SIZE
    image.directory(root, root, [(b"a", beyond, DirentType.FIFO)])
    small = image.build(root)
    large = bytearray(small + bytes(BLOCK_SIZE * (count - 1)))
    struct.pack_into("<I", large, SUPERBLOCK_OFFSET + 36, len(large) // BLOCK_SIZE)
    for _ in range(2):
        inner = Image(bytes(large))
        assert read_listing(inner, inner.root(), root).nids == [beyond]
        outer = Image(small)
        with pytest.raises(ErofsError, match=f"Invalid inode: {beyond} "):
            read_listing(outer, outer.root(), root)
