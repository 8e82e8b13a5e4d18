"""Images of other programs: what C's composefs-info says about ours, and what we say about mkfs.erofs."""

from __future__ import annotations

import random
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import COMPOSEFS_HEADER, COMPOSEFS_MAGIC, HEADER_VERSION, ErofsError
from cfsctl.erofs.inspect import format_objects
from cfsctl.erofs.read.tree import check_image, collect_objects, read_image
from tests.support.erofs_images import stored
from tests.support.programs import c_program, require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.compat

SHA256 = Algorithm.SHA256


@pytest.mark.parametrize("name", ["sha256-v0.img", "sha256-v1.img", "sha256-v2.img", "small-sha256-v1.img"])
def test_objects_are_those_of_the_c_program(name: str, tmp_path: Path) -> None:
    program = c_program("composefs-info")
    (tmp_path / name).write_bytes(stored(name))
    done = subprocess.run(
        [program, "objects", tmp_path / name], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == format_objects(collect_objects(stored(name), SHA256))


MKFS_OPTIONS = {
    "plain": [],
    "compressed": ["-zlz4"],
    "big clusters": ["-zlz4hc", "-C65536"],
    "fragments": ["-zlz4", "-Efragments"],
    "compact inodes": ["-Eforce-inode-compact"],
    "no inline data": ["-Enoinline_data"],
    "chunks": ["--chunksize=4096"],
    "no attributes": ["-x-1"],
    "shared attributes": ["-x1"],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for number in range(300):
        (root / f"file-{number}").write_bytes(b"data" * number)
    (root / "deep" / "er" / "still").mkdir(parents=True)
    (root / "deep" / "link").symlink_to("er/still")
    (root / "deep" / "hard").hardlink_to(root / "file-7")
    (root / "deep" / "large").write_bytes(random.Random(1).randbytes(300_000))
    return root


@pytest.mark.parametrize("name", MKFS_OPTIONS)
def test_images_of_mkfs(name: str, tree: Path, tmp_path: Path) -> None:
    """They are refused by their headers, and with headers like ours nothing worse than refused."""
    require("mkfs.erofs", "erofs-utils")
    image = tmp_path / "image"
    done = subprocess.run(
        ["mkfs.erofs", *MKFS_OPTIONS[name], image, tree], capture_output=True, check=False, timeout=60
    )
    if done.returncode:
        pytest.skip(f"this mkfs.erofs does not know {MKFS_OPTIONS[name]}")
    data = image.read_bytes()
    with pytest.raises(ErofsError, match="bad composefs magic"):
        read_image(data, SHA256)
    for version in range(3):
        disguised = disguise(data, version)
        for read in (read_image, collect_objects, check_image):
            assert "magic" not in refusal(read, disguised)


def refusal(read: Callable[[bytes, Algorithm], object], data: bytes) -> str:
    """Return what an image is refused for; nothing if it is read."""
    try:
        read(data, SHA256)
    except ErofsError as error:
        return str(error)
    return ""


def disguise(data: bytes, version: int) -> bytes:
    """Return an image with a composefs header and a superblock without forbidden features."""
    changed = bytearray(data.ljust(-(-len(data) // 4096) * 4096, b"\0"))
    COMPOSEFS_HEADER.pack_into(changed, 0, COMPOSEFS_MAGIC, HEADER_VERSION, 0, version)
    struct.pack_into("<I", changed, 1024 + 8, 7)  # feature_compat
    struct.pack_into("<I", changed, 1024 + 36, len(changed) // 4096)  # blocks
    struct.pack_into("<IHHHBB", changed, 1024 + 80, 0, 0, 0, 0, 0, 0)  # features, devices, prefixes
    struct.pack_into("<Q", changed, 1024 + 96, 0)  # packed_nid
    return bytes(changed)
