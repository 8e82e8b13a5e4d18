"""Directory trees for scans, and a plain way to say what is in them."""

from __future__ import annotations

import contextlib
import os
import random
import stat
from typing import TYPE_CHECKING

from cfsctl.fsverity.merkle import compute_digest
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    FileSystem,
    InlineFile,
    Node,
    Symlink,
)

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.digest import Algorithm

Description = dict[bytes, tuple[object, ...]]
"""Path to what is there: type, metadata, content, and the first path of a file with several names."""


def describe_directory(root: Path, algorithm: Algorithm, *, hard_links: bool = True) -> Description:
    """Say what is in a directory, by path and without any of the care that a scan takes."""
    found: Description = {}
    first: dict[tuple[int, int], bytes] = {}
    base = os.fsencode(root)

    def visit(path: bytes) -> None:
        full = os.path.join(base, path) if path else base
        status = os.lstat(full)
        kind = stat.S_IFMT(status.st_mode)
        content: object = None
        if kind == stat.S_IFREG:
            with open(full, "rb") as file:
                data = file.read()
            content = data if len(data) <= 64 else (len(data), compute_digest(data, algorithm))
        elif kind == stat.S_IFLNK:
            content = os.readlink(full)
        elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
            content = status.st_rdev
        group = path
        is_whiteout = kind == stat.S_IFCHR and not status.st_rdev
        if hard_links and kind != stat.S_IFDIR and not is_whiteout:
            group = first.setdefault((status.st_dev, status.st_ino), path)
        mode = stat.S_IMODE(status.st_mode)
        metadata = (mode, status.st_uid, status.st_gid, status.st_mtime_ns, read_xattrs(full))
        found[path] = (kind, *metadata, content, group)
        if kind == stat.S_IFDIR:
            for name in sorted(os.listdir(full)):
                visit(path + b"/" + name if path else name)

    visit(b"")
    return found


def read_xattrs(path: bytes) -> dict[bytes, bytes]:
    """Return all extended attributes of a file."""
    return {
        os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }


def describe_tree(filesystem: FileSystem) -> Description:
    """Say what is in a tree, in the same form."""
    found: Description = {}
    first: dict[int, bytes] = {}
    stack: list[tuple[bytes, Node]] = [(b"", filesystem.root)]
    while stack:
        path, node = stack.pop()
        mtime_ns = node.mtime_s * 1_000_000_000 + node.mtime_ns
        metadata = (node.mode, node.uid, node.gid, mtime_ns, dict(node.xattrs))
        group = first.setdefault(id(node), path)
        found[path] = (node.file_type, *metadata, _content(node), group)
        if isinstance(node, Directory):
            below = sorted(node.entries.items(), reverse=True)
            stack += [(path + b"/" + name if path else name, entry) for name, entry in below]
    return found


def _content(node: Node) -> object:
    match node:
        case InlineFile():
            return node.data
        case ExternalFile():
            return node.size, node.object_id
        case Symlink():
            return node.target
        case CharDevice() | BlockDevice():
            return node.rdev
        case _:
            return None


_SIZES = (0, 1, 63, 64, 65, 1000, 4095, 4096, 4097, 65_536, 65_537, 300_000)


def make_random_tree(root: Path, seed: int, *, entries: int = 120, as_root: bool = False) -> None:
    """Fill a directory with files, links and odd names; with devices and owners if root makes it."""
    rng = random.Random(seed)
    base = os.fsencode(root)
    directories = [base]
    files: list[bytes] = []
    for index in range(entries):
        path = rng.choice(directories) + b"/" + rng.choice(_NAMES) % index
        kind = rng.choices(
            ("directory", "file", "symlink", "fifo", "link", "device"), (20, 45, 10, 3, 15, 7)
        )[0]
        if kind == "directory":
            os.mkdir(path)
            directories.append(path)
        elif kind == "link" and files:
            os.link(rng.choice(files), path, follow_symlinks=False)
        elif kind == "symlink":
            os.symlink(rng.choice((b"x", b"../up", b"/absolute", b"z" * 3000)), path)
            files.append(path)
        elif kind == "fifo":
            os.mkfifo(path)
            files.append(path)
        elif kind == "device" and as_root:
            _make_device(path, rng)
            files.append(path)
        else:
            _write(path, rng.randbytes(rng.choice(_SIZES)))
            files.append(path)
    for path in directories[1:] + files:
        _decorate(path, rng, as_root=as_root)


_NAMES = (
    b"file%d",
    b"\xc3\xbc%d",
    b"with space %d",
    b"=%d",
    b"new\nline%d",
    b"-%d",
    b"\xff\xfe%d",
    b"." + b"n" * 200 + b"%d",
)


def _write(path: bytes, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _make_device(path: bytes, rng: random.Random) -> None:
    kind = rng.choice((stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, 0))
    if not kind:
        os.mknod(path, stat.S_IFCHR, 0)  # a whiteout
    else:
        os.mknod(path, kind | 0o640, os.makedev(rng.randrange(1, 300), rng.randrange(1, 70_000)))


def _decorate(path: bytes, rng: random.Random, *, as_root: bool) -> None:
    is_link = os.path.islink(path)
    if as_root and rng.random() < 0.3:
        os.chown(path, rng.randrange(70_000), rng.randrange(70_000), follow_symlinks=False)
    if not is_link and rng.random() < 0.4:
        os.chmod(path, rng.choice((0o755, 0o1777, 0o2750, 0o700)))
    names = ["trusted.t", "security.s", "user.a"] if as_root else ["user.a", "user.bb"]
    for name in rng.sample(names, rng.randrange(len(names) + 1)):
        # Links and special files have no attributes for users, and some file systems have none at all.
        with contextlib.suppress(OSError):
            os.setxattr(path, name, rng.randbytes(rng.choice((0, 1, 200))), follow_symlinks=False)
    if rng.random() < 0.8:
        mtime_ns = rng.choice((rng.randrange(-(10**18), 2 * 10**18), rng.randrange(10**9) * 10**9))
        os.utime(path, ns=(0, mtime_ns), follow_symlinks=False)
