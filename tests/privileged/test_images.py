"""Images as the kernel shows them: every path, attribute and byte of the tree."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.dumpfile import Dialect
from cfsctl.erofs.format import STUB_NAMES, FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    FileSystem,
    InlineFile,
    Leaf,
    SparseFile,
    Symlink,
)
from tests.support.vectors import Recorded, parse, random_trees

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)"
    ),
]

V2 = FormatVersion.V2
MARKED = (b"trusted.overlay.", b"user.overlay.")
SHOWN = (b"user.", b"trusted.", b"security.")


def paths(filesystem: FileSystem) -> Iterator[tuple[bytes, Directory | Leaf]]:
    pending: list[tuple[bytes, Directory | Leaf]] = [(b"", filesystem.root)]
    while pending:
        path, node = pending.pop()
        yield path, node
        if isinstance(node, Directory):
            pending += [(path + b"/" + name, entry) for name, entry in node.entries.items()]


def expected(filesystem: FileSystem, version: FormatVersion) -> dict[str, dict[str, object]]:
    """Return what `image_walk` is to find, without stubs, marks and inode numbers."""
    nodes = dict(paths(filesystem))
    names = Counter(nodes.values())
    found = {}
    for path, node in nodes.items():
        is_whiteout = isinstance(node, CharDevice) and node.rdev == 0
        rdev = node.rdev if isinstance(node, CharDevice | BlockDevice) else 0
        mode = stat.S_IFREG if is_whiteout and version is not V2 else node.file_type
        found[path.hex()] = {
            "mode": mode | node.mode,
            "owner": [node.uid, node.gid],
            "mtime": node.mtime_s * 10**9 + (0 if version is V2 else node.mtime_ns),
            "links": 2 + sum(isinstance(entry, Directory) for entry in node.entries.values())
            if isinstance(node, Directory)
            else names[node],
            "device": [os.major(rdev), os.minor(rdev)],
            "size": size_of(node),
            "content": content_of(node).hex(),
            "xattrs": {n.hex(): node.xattrs[n].hex() for n in node.xattrs if is_plain(n, mode)},
        }
    return found


def is_plain(name: bytes, file_type: int) -> bool:
    """Tell whether the kernel hands out an attribute as it is, and the writer leaves it as it is.

    The kernel has no user attributes of anything but files and directories, and reads capabilities.
    """
    if name.startswith(b"user.") and file_type not in {stat.S_IFREG, stat.S_IFDIR}:
        return False
    return name.startswith(SHOWN) and not name.startswith(MARKED) and name != b"security.capability"


def size_of(node: Directory | Leaf) -> int:
    if isinstance(node, ExternalFile | SparseFile):
        return node.size
    return len(content_of(node))


def content_of(node: Directory | Leaf) -> bytes:
    """Return what is read of a file; content that is elsewhere reads as zeros."""
    match node:
        case Symlink(target=target):
            return target
        case InlineFile(data=data):
            return data
        case ExternalFile(size=size) | SparseFile(size=size) if size <= 10_000:
            return bytes(size)
        case _:
            return b""


def seen(image: bytes | bytearray, tmp_path: Path) -> dict[str, dict[str, object]]:
    """Return what the kernel shows of an image."""
    (tmp_path / "image").write_bytes(image)
    (tmp_path / "mnt").mkdir(exist_ok=True)
    command = ["unshare", "--mount", "--propagation", "private", sys.executable]
    command += [
        str(Path(__file__).with_name("image_walk.py")),
        str(tmp_path / "image"),
        str(tmp_path / "mnt"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, dict[str, dict[str, object]]] = json.loads(done.stdout)
    if "skip" in answer:
        pytest.skip(f"the kernel mounts no EROFS image: {answer['skip']}")
    return answer["found"]


def check(filesystem: FileSystem, version: FormatVersion, tmp_path: Path) -> None:
    found = seen(build_image(filesystem, version, Dialect.C), tmp_path)
    inodes = {path: entry.pop("inode") for path, entry in found.items()}
    for entry in found.values():
        xattrs = entry["xattrs"]
        assert isinstance(xattrs, dict)
        kind = stat.S_IFMT(int(str(entry["mode"])))
        entry["xattrs"] = {n: value for n, value in xattrs.items() if is_plain(bytes.fromhex(n), kind)}
    stubs = {b"/" + name for name in STUB_NAMES} - {b"/" + name for name in filesystem.root.entries}
    if version is not V2:
        for stub in stubs:
            status = found.pop(stub.hex())
            assert (status["mode"], status["device"]) == (stat.S_IFCHR | 0o644, [0, 0])
    assert found == expected(filesystem, version)
    names: dict[Directory | Leaf, set[object]] = {}
    for path, node in paths(filesystem):
        names.setdefault(node, set()).add(inodes[path.hex()])
    assert {len(numbers) for numbers in names.values()} == {1}
    assert len(set(inodes.values())) == len(names) + (0 if version is V2 else len(stubs))


USABLE = [tree for tree in random_trees() if FormatVersion.V2 in tree.digests and tree.name.endswith("3")]


@pytest.mark.parametrize("recorded", USABLE, ids=lambda tree: tree.name)
@pytest.mark.parametrize("version", FormatVersion, ids=lambda version: version.name)
def test_random_trees(recorded: Recorded, version: FormatVersion, tmp_path: Path) -> None:
    filesystem = parse(recorded.read(), algorithm=recorded.algorithm)
    for _, node in paths(filesystem):
        if isinstance(node, Directory):
            # What format 2 gets wrong is not the kernel's to show.
            node.entries = {name: entry for name, entry in node.entries.items() if is_readable(entry)}
    check(filesystem, version, tmp_path)


def is_readable(node: Directory | Leaf) -> bool:
    if isinstance(node, SparseFile):
        return False
    return not isinstance(node, ExternalFile) or (node.has_digest and node.size < 1 << 43)


@pytest.mark.parametrize("version", FormatVersion, ids=lambda version: version.name)
def test_limits(version: FormatVersion, tmp_path: Path) -> None:
    """Long targets and names, large directories, many attributes, content across blocks."""
    root = Directory(0o755)
    longest = 4000 if version is V2 else 4095
    for length in (1, 31, 32, 1000, 2048, 3000, 3999, longest):
        root.entries[b"link-%d" % length] = Symlink(b"t" * length, 0o777)
    for length in (0, 1, 64, 511, 512, *((2047, 2048, 2049, 4096, 9000) if version is not V2 else ())):
        root.entries[b"file-%d" % length] = InlineFile(b"c" * length, 0o644)
    root.entries[b"n" * 255] = large = Directory(0o755)
    for number in range(1000):
        large.entries[b"entry-%d" % number] = InlineFile(b"%d" % number, 0o644)
    for count in (1, 20, 200):
        xattrs = {b"user.%d" % number: b"v" * number for number in range(count)}
        root.entries[b"xattrs-%d" % count] = InlineFile(b"", 0o644, xattrs=xattrs)
    linked = InlineFile(b"linked", 0o644)
    for number in range(300):
        large.entries[b"linked-%d" % number] = linked
    check(FileSystem(root), version, tmp_path)
