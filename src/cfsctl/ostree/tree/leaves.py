"""Files of a commit as nodes of a tree: one for each checksum, however often the tree has it.

What a node needs is in the header that a commit's stream has of the file. So nodes can be made before the
commit is complete, of what another one has stored: an update makes those of its base while it waits for the
rest (`Leaves.prepare`).
"""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING, Final, TypeAlias

from cfsctl.errors import DigestMismatchError
from cfsctl.ostree.objects import OstreeObjectError, parse_stored_file_header
from cfsctl.ostree.objects.held_objects import NO_OBJECT
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.tree.gc_pause import python_gc_paused
from cfsctl.tree.model import (
    NO_XATTRS,
    BlockDevice,
    CharDevice,
    ExternalFile,
    Fifo,
    InlineFile,
    Leaf,
    Socket,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects import FileHeader, Xattrs
    from cfsctl.ostree.objects.held_objects import Table

MAX_FILE_BYTES: Final = (1 << 63) - 1
"""Largest size that the kernel has for a file; a header has room for twice that."""

_ALIGNMENT: Final = 8
"""Unit of the places in a table."""

_Attributes: TypeAlias = "tuple[int, int, int, int, int, Mapping[bytes, bytes]]"
"""Mode, owner, group, time and extended attributes, as nodes take them."""


class Leaves:
    """The nodes that were made so far.

    Attributes:
        known: The nodes, by the checksum of the file.
    """

    def __init__(
        self, xattr_names: XattrNames = XattrNames.STRIPPED, note: Callable[[], None] = lambda: None
    ) -> None:
        """Begin empty.

        Args:
            xattr_names: How names of extended attributes are taken over.
            note: Called for each object in a form that is of composefs-rs's making.
        """
        self.known: dict[Checksum, Leaf] = {}
        self._note = note
        self._name_end = -1 if xattr_names is XattrNames.STRIPPED else None
        self._xattrs: dict[Xattrs, Mapping[bytes, bytes]] = {(): NO_XATTRS}
        self._headers: dict[tuple[bytes, bytes], _Attributes] = {}

    def take_xattrs(self, xattrs: Xattrs) -> Mapping[bytes, bytes]:
        """Return attributes as the tree has them; equal ones share a mapping."""
        mapping = self._xattrs.get(xattrs)
        if mapping is None:
            mapping = {name[: self._name_end]: value for name, value in xattrs}
            self._xattrs[xattrs] = mapping
        return mapping

    def make(self, checksum: Checksum, data: bytes, object_id: ObjectID | None) -> Leaf:
        """Return the node of a file.

        Raises:
            OstreeObjectError: The file is not valid.
            DigestMismatchError: Content that is inline is not what the checksum says.
        """
        if object_id is not None:
            # Most files of a commit have headers that differ only in the size, 64 bits at offset 8.
            known = self._headers.get((data[:8], data[16:]))
            if known is not None and data[8] < 0x80:
                leaf = self.known[checksum] = ExternalFile(
                    object_id, int.from_bytes(data[8:16], "big"), *known
                )
                return leaf
        try:
            made = self.known[checksum] = self._parse(checksum, data, object_id)
        except OstreeObjectError as error:
            raise error.about(f"file object {checksum.hex()}") from error
        return made

    def prepare(self, table: Table, first: int, end: int) -> None:
        """Make the nodes of files in some rows of a commit that is proven, whose contents are objects.

        A file that is not valid gets none; whoever needs it makes it, and has the error.
        """
        data, refs = table.data, table.refs
        columns = (table.checksums, table.starts, table.sizes, table.numbers)
        with python_gc_paused():
            for checksum, start, size, number in zip(*(one[first:end] for one in columns), strict=True):
                if number == NO_OBJECT:
                    continue
                header = bytes(data[start * _ALIGNMENT : start * _ALIGNMENT + size])
                try:
                    self.make(checksum, header, refs[number])
                except OstreeObjectError:
                    continue

    def _parse(self, checksum: Checksum, data: bytes, object_id: ObjectID | None) -> Leaf:
        header = parse_stored_file_header(data, self._note)
        content = data[header.length_bytes :]
        attributes = (header.mode & 0o7777, header.uid, header.gid, 0, 0, self.take_xattrs(header.xattrs))
        if object_id is None:
            _check_inline(checksum, header, content)
            if header.is_symlink:
                return Symlink(header.target, *attributes)
            if (kind := stat.S_IFMT(header.mode)) != stat.S_IFREG:
                return _make_device(kind, attributes)
            return InlineFile(content, *attributes)
        if content or stat.S_IFMT(header.mode) != stat.S_IFREG:
            _refuse_content("none in the stream", "some, and an object")
        if header.size_bytes > MAX_FILE_BYTES:
            _refuse_content(f"at most {MAX_FILE_BYTES} bytes", header.size_bytes)
        self._headers[data[:8], data[16:]] = attributes
        return ExternalFile(object_id, header.size_bytes, *attributes)


def _make_device(kind: int, attributes: _Attributes) -> Leaf:
    """Return what composefs-rs had in an image that it committed; it does not say which device that was."""
    match kind:
        case stat.S_IFCHR:
            return CharDevice(0, *attributes)
        case stat.S_IFBLK:
            return BlockDevice(0, *attributes)
        case stat.S_IFIFO:
            return Fifo(*attributes)
        case _:
            return Socket(*attributes)


def _check_inline(checksum: Checksum, header: FileHeader, content: bytes) -> None:
    """Check a file that is in the stream with all its content; a symbolic link has none."""
    if len(content) != header.size_bytes:
        _refuse_content(f"{header.size_bytes} bytes", len(content))
    actual = hashlib.sha256(header.regular_header + content).digest()
    if actual != checksum:
        what = f"file object {checksum.hex()}"
        raise DigestMismatchError(what, expected=checksum.hex(), actual=actual.hex())


def _refuse_content(expected: str, found: object) -> None:
    raise OstreeObjectError(f"content: expected {expected}, found {found}", field="content")
