"""Writing a tree as an archive that is the layer of an image: always the same bytes for the same tree.

Entries are sorted by name, directories before what is in them. Headers are those of ustar, with records of
pax where a path, a number, a time or an attribute needs them. Of several names of one file the first in this
order has the content, and the others are hard links.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cfsctl.errors import FormatError
from cfsctl.oci.tar.blocks import BLOCK_BYTES
from cfsctl.oci.tar.entry import EntryType
from cfsctl.oci.tar.pax import XATTR_PREFIX
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    InlineFile,
    Socket,
    SparseFile,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.tree.model import FileSystem, Leaf, Node

_WHITEOUT_PREFIX: Final = b".wh."
_MAX_NAME_BYTES: Final = 100
_MAX_ID: Final = 0o7777777
_MAX_SIZE: Final = 0o77777777777
_ZEROS: Final = bytes(1 << 16)
_PAX_NAME: Final = b"PaxHeader"
_MAX_EXTENSION_BYTES: Final = 1 << 20
_END: Final = bytes(2 * BLOCK_BYTES)


class TarWriteError(FormatError):
    """Something in a tree that no layer can have."""


@dataclass(slots=True)
class _Head:
    """What a header says.

    Attributes:
        type: Byte of the type.
        path: Path, of a directory with a slash at the end.
        node: Has mode, owner, times and attributes.
        link: Target of a link, or empty.
        size: Bytes of the body.
        device: Major and minor number.
    """

    type: int
    path: bytes
    node: Node
    link: bytes = b""
    size: int = 0
    device: tuple[int, int] = (0, 0)


class TreeWriter:
    """Writes one tree.

    Attributes:
        skipped: Paths of sockets, which archives cannot have.
    """

    def __init__(
        self,
        read_object: Callable[[ExternalFile], Iterator[bytes]],
        latest_s: int | None = None,
        *,
        is_layer: bool = True,
    ) -> None:
        """Write nothing yet.

        Args:
            read_object: Yields the content of a file.
            latest_s: Later times become this one, in seconds since 1970; None leaves all as they are.
            is_layer: Refuse names that mean the removal of a file in a layer.
        """
        self._is_layer = is_layer
        self._read_object = read_object
        self._latest_s = latest_s
        self._paths: dict[int, bytes] = {}
        self.skipped: list[bytes] = []

    def write(self, filesystem: FileSystem) -> Iterator[bytes]:
        """Yield the archive in pieces.

        Raises:
            TarWriteError: The tree has something that no layer can have.
        """
        yield self._encode(_Head(EntryType.DIRECTORY, b"./", filesystem.root))
        stack = [iter(self._list(filesystem.root, b""))]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            path, node = found
            if isinstance(node, Directory):
                yield self._encode(_Head(EntryType.DIRECTORY, path + b"/", node))
                stack.append(iter(self._list(node, path + b"/")))
            else:
                yield from self._write_leaf(path, node)
        yield _END

    def _write_leaf(self, path: bytes, leaf: Leaf) -> Iterator[bytes]:
        first = self._paths.setdefault(id(leaf), path)
        if first is not path:
            yield self._encode(_Head(EntryType.HARD_LINK, path, leaf, first))
            return
        if isinstance(leaf, Socket):
            del self._paths[id(leaf)]
            self.skipped.append(path)
            return
        size = _size(leaf)
        yield self._encode(_describe(path, leaf, size))
        if size:
            yield from self._read(path, leaf, size)
            yield bytes(-size % BLOCK_BYTES)

    def _read(self, path: bytes, leaf: Leaf, size: int) -> Iterator[bytes]:
        """Yield the content of a file, which must have the size that the tree says."""
        left = size
        for data in self._iter_content(leaf):
            left -= len(data)
            if left < 0:
                break
            yield data
        if left:
            found = "more" if left < 0 else "less"
            raise TarWriteError(f"{os.fsdecode(path)}: expected {size} bytes of content, found {found}")

    def _iter_content(self, leaf: Leaf) -> Iterator[bytes]:
        if isinstance(leaf, InlineFile):
            yield leaf.data
        elif isinstance(leaf, ExternalFile):
            yield from self._read_object(leaf)
        elif isinstance(leaf, SparseFile):
            for start in range(0, leaf.size, len(_ZEROS)):
                yield _ZEROS[: leaf.size - start]

    def _encode(self, head: _Head) -> bytes:
        """Return the header blocks of an entry."""
        mtime_s, mtime_ns = self._clamp(head.node)
        # A link shares the attributes of what it leads to.
        xattrs = {} if head.type == EntryType.HARD_LINK else head.node.xattrs
        records = _list_records(head, mtime_s, mtime_ns)
        records += [(XATTR_PREFIX + name, xattrs[name]) for name in sorted(xattrs)]
        return _encode_records(head, records) + _encode_header(head, mtime_s)

    def _list(self, directory: Directory, prefix: bytes) -> Iterator[tuple[bytes, Directory | Leaf]]:
        entries = directory.entries
        for name in sorted(entries):
            if self._is_layer and name.startswith(_WHITEOUT_PREFIX):
                path = os.fsdecode(prefix + name)
                raise TarWriteError(f"{path}: a name that begins with .wh. would remove a file in a layer")
            yield prefix + name, entries[name]

    def _clamp(self, node: Node) -> tuple[int, int]:
        latest_s = self._latest_s
        if latest_s is not None and node.mtime_s >= latest_s:
            return latest_s, 0
        return node.mtime_s, node.mtime_ns


def _size(leaf: Leaf) -> int:
    if isinstance(leaf, InlineFile):
        return len(leaf.data)
    return leaf.size if isinstance(leaf, ExternalFile | SparseFile) else 0


def _describe(path: bytes, leaf: Leaf, size: int) -> _Head:
    if isinstance(leaf, Symlink):
        return _Head(EntryType.SYMLINK, path, leaf, leaf.target)
    if isinstance(leaf, CharDevice | BlockDevice):
        kind = EntryType.CHAR_DEVICE if isinstance(leaf, CharDevice) else EntryType.BLOCK_DEVICE
        return _Head(kind, path, leaf, device=(os.major(leaf.rdev), os.minor(leaf.rdev)))
    if isinstance(leaf, Fifo):
        return _Head(EntryType.FIFO, path, leaf)
    return _Head(EntryType.REGULAR, path, leaf, size=size)


def _list_records(head: _Head, mtime_s: int, mtime_ns: int) -> list[tuple[bytes, bytes]]:
    """Return what the header has no room for."""
    node = head.node
    records: list[tuple[bytes, bytes]] = []
    if len(head.path) > _MAX_NAME_BYTES:
        records.append((b"path", head.path))
    if len(head.link) > _MAX_NAME_BYTES:
        records.append((b"linkpath", head.link))
    numbers = ((b"uid", node.uid, _MAX_ID), (b"gid", node.gid, _MAX_ID), (b"size", head.size, _MAX_SIZE))
    records += [(key, b"%d" % value) for key, value, limit in numbers if value > limit]
    # Times before 1970 have no fractions: readers do not agree about negative numbers in records.
    if mtime_s >= 0 and (mtime_ns or mtime_s > _MAX_SIZE):
        records.append((b"mtime", b"%d.%09d" % (mtime_s, mtime_ns) if mtime_ns else b"%d" % mtime_s))
    return records


def _encode_records(head: _Head, records: list[tuple[bytes, bytes]]) -> bytes:
    """Return the extended header of an entry, if it needs one."""
    if not records:
        return b""
    body = b"".join(_encode_record(key, value, head.path) for key, value in records)
    if len(body) > _MAX_EXTENSION_BYTES:
        raise TarWriteError(
            f"{os.fsdecode(head.path)}: expected at most {_MAX_EXTENSION_BYTES} bytes of attributes,"
            f" found {len(body)}"
        )
    block = _pack(ord("x"), _PAX_NAME, 0o644, 0, 0, len(body), _octal(0, 12), b"", (0, 0))
    return block + body + bytes(-len(body) % BLOCK_BYTES)


def _encode_record(key: bytes, value: bytes, path: bytes) -> bytes:
    try:
        key.decode()
    except UnicodeDecodeError:
        is_good = False
    else:
        is_good = b"=" not in key
    if not is_good:
        name = os.fsdecode(key.removeprefix(XATTR_PREFIX))
        raise TarWriteError(
            f"{os.fsdecode(path)}: extended attribute {name!r}: expected a name in UTF-8 without '='"
        )
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest)
    while len(rest) + len(str(size)) != size:
        size = len(rest) + len(str(size))
    return b"%d" % size + rest


def _encode_header(head: _Head, mtime_s: int) -> bytes:
    node = head.node
    time = _octal(min(mtime_s, _MAX_SIZE), 12) if mtime_s >= 0 else _base_256(mtime_s, 12)
    return _pack(
        head.type,
        head.path[:_MAX_NAME_BYTES],
        node.mode,
        min(node.uid, _MAX_ID),
        min(node.gid, _MAX_ID),
        min(head.size, _MAX_SIZE),
        time,
        head.link[:_MAX_NAME_BYTES],
        head.device,
    )


def _pack(
    kind: int,
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: bytes,
    link: bytes,
    device: tuple[int, int],
) -> bytes:
    """Return a header block with its checksum."""
    before = (
        name.ljust(100, b"\0") + _octal(mode, 8) + _octal(uid, 8) + _octal(gid, 8) + _octal(size, 12) + mtime
    )
    after = (
        bytes([kind])
        + link.ljust(100, b"\0")
        + b"ustar\x0000"
        + bytes(64)
        + _octal(device[0], 8)
        + _octal(device[1], 8)
        + bytes(167)
    )
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _base_256(value: int, width: int) -> bytes:
    """Return a negative number in binary, as GNU has it."""
    return value.to_bytes(width, "big", signed=True)
