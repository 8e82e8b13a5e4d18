"""Compare two trees, attribute by attribute.

Pure: two trees in, differences out in path order (depth first, byte order of names), each as soon as it
is known. Two trees without a difference give the same image, regardless of its format, since every attribute
that an image holds is compared.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from cfsctl.digest import Algorithm
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.tree.dumped import RedirectedFile
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

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.tree.model import Node

    Entry = Directory | Leaf


class Attribute(Enum):
    """What may be different about an entry that both trees have."""

    TYPE = "type"
    MODE = "mode"
    OWNER = "owner"
    MTIME = "mtime"
    XATTR = "xattr"
    CONTENT = "content"
    STORAGE = "storage"
    TARGET = "target"
    DEVICE = "device"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Change:
    """One attribute with its two values as text.

    Attributes:
        attribute: Which one.
        old: Value in the first tree; None if it has none.
        new: Value in the second tree; None if it has none.
        name: Name of the extended attribute, else None.
    """

    attribute: Attribute
    old: str | None
    new: str | None
    name: bytes | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """An entry that only the second tree has."""

    path: bytes
    node: Entry


@dataclass(frozen=True, slots=True)
class Removed:
    """An entry that only the first tree has."""

    path: bytes
    node: Entry


@dataclass(frozen=True, slots=True)
class Changed:
    """An entry of both trees that is not the same in them; `old` and `new` are what it is in each."""

    path: bytes
    changes: tuple[Change, ...]
    old: Entry | None = field(default=None, compare=False, repr=False)
    new: Entry | None = field(default=None, compare=False, repr=False)


Difference = Added | Removed | Changed

TYPE_NAMES: Final = {
    0o040000: "directory",
    0o100000: "file",
    0o120000: "symlink",
    0o020000: "character device",
    0o060000: "block device",
    0o010000: "fifo",
    0o140000: "socket",
}


def iter_differences(
    old: FileSystem, new: FileSystem, *, ignored: Collection[Attribute] = ()
) -> Iterator[Difference]:
    """Yield the differences between two trees.

    An entry that changed its type is reported as changed, and what was below it as removed or added.

    Args:
        old: The first tree.
        new: The second tree; of the same hash as the first.
        ignored: Attributes that do not count.
    """
    return _Comparison(old, new, frozenset(ignored)).run()


class _Links:
    """Hard links of one tree: the first name of every leaf that has several."""

    def __init__(self, filesystem: FileSystem) -> None:
        self._linked = _linked_leaves(filesystem.root)
        self._first: dict[int, bytes] = {}

    def meet(self, path: bytes, node: Entry | None) -> bytes | None:
        """Return the name that a leaf was met under before, if any; remember this one otherwise."""
        if node is None or id(node) not in self._linked:
            return None
        first = self._first.setdefault(id(node), path)
        return None if first is path else first


def _linked_leaves(root: Directory) -> set[int]:
    """Return the identities of leaves with more than one name."""
    seen: set[int] = set()
    linked: set[int] = set()
    stack = [root]
    while stack:
        for node in stack.pop().entries.values():
            if isinstance(node, Directory):
                stack.append(node)
            elif id(node) in seen:
                linked.add(id(node))
            else:
                seen.add(id(node))
    return linked


class _Comparison:
    """One walk through both trees at once."""

    def __init__(self, old: FileSystem, new: FileSystem, ignored: frozenset[Attribute]) -> None:
        self._roots = (old.root, new.root)
        self._ignored = ignored
        self._old_links = _Links(old)
        self._new_links = _Links(new)

    def run(self) -> Iterator[Difference]:
        """Yield differences; of paths only the one at hand is held, however deep the trees are."""
        difference = self._compare(b"/", *self._roots)
        if difference is not None:
            yield difference
        prefix = b"/"
        levels = [(_iter_pairs(*self._roots), len(prefix))]
        while levels:
            pairs, size = levels[-1]
            prefix = prefix[:size]
            for name, old, new in pairs:
                path = prefix + name
                difference = self._compare(path, old, new)
                if difference is not None:
                    yield difference
                if isinstance(old, Directory) or isinstance(new, Directory):
                    prefix = path + b"/"
                    levels.append((_iter_pairs(old, new), len(prefix)))
                    break
            else:
                levels.pop()

    def _compare(self, path: bytes, old: Entry | None, new: Entry | None) -> Difference | None:
        old_link = self._old_links.meet(path, old)
        new_link = self._new_links.meet(path, new)
        if old is None:
            return None if new is None else Added(path, new)
        if new is None:
            return Removed(path, old)
        changes = list(iter_changes(old, new))
        if old_link != new_link:
            changes.append(Change(Attribute.LINK, _escape_optional(old_link), _escape_optional(new_link)))
        if self._ignored:
            changes = [change for change in changes if change.attribute not in self._ignored]
        return Changed(path, tuple(changes), old, new) if changes else None


def _iter_pairs(old: Entry | None, new: Entry | None) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
    """Yield the entries of two directories, those of one name together, in byte order of names."""
    old_entries = old.entries if isinstance(old, Directory) else {}
    new_entries = new.entries if isinstance(new, Directory) else {}
    for name in sorted(old_entries.keys() | new_entries.keys()):
        yield name, old_entries.get(name), new_entries.get(name)


def iter_changes(old: Entry, new: Entry) -> Iterator[Change]:
    """Yield what is different between two nodes, hard links and entries of directories apart."""
    if old.file_type != new.file_type:
        yield Change(Attribute.TYPE, TYPE_NAMES[old.file_type], TYPE_NAMES[new.file_type])
    if old.mode != new.mode:
        yield Change(Attribute.MODE, f"{old.mode:04o}", f"{new.mode:04o}")
    if old.uid != new.uid or old.gid != new.gid:
        yield Change(Attribute.OWNER, f"{old.uid}:{old.gid}", f"{new.uid}:{new.gid}")
    if old.mtime_s != new.mtime_s or old.mtime_ns != new.mtime_ns:
        yield Change(Attribute.MTIME, format_mtime(old), format_mtime(new))
    if old.xattrs != new.xattrs:
        yield from _xattr_changes(old, new)
    if old.file_type == new.file_type:
        yield from _content_changes(old, new)


def _xattr_changes(old: Node, new: Node) -> Iterator[Change]:
    for name in sorted(old.xattrs.keys() | new.xattrs.keys()):
        before, after = old.xattrs.get(name), new.xattrs.get(name)
        if before != after and not _is_same_label(name, before, after):
            yield Change(Attribute.XATTR, _quote_optional(before), _quote_optional(after), name)


def _is_same_label(name: bytes, before: bytes | None, after: bytes | None) -> bool:
    """Return whether these are one label, which the kernel shows with a NUL whether or not it is stored."""
    if name != _SELINUX or before is None or after is None:
        return False
    return before.removesuffix(b"\0") == after.removesuffix(b"\0")


def _content_changes(old: Entry, new: Entry) -> Iterator[Change]:
    """Yield differences in what only nodes of one type have."""
    match old, new:
        case Symlink(), Symlink():
            if old.target != new.target:
                yield Change(Attribute.TARGET, quote(old.target), quote(new.target))
        case CharDevice() | BlockDevice(), CharDevice() | BlockDevice():
            if old.rdev != new.rdev:
                yield Change(Attribute.DEVICE, format_device(old.rdev), format_device(new.rdev))
        case (
            InlineFile() | ExternalFile() | SparseFile() | RedirectedFile(),
            InlineFile() | ExternalFile() | SparseFile() | RedirectedFile(),
        ):
            yield from _file_changes(old, new)
        case _:
            pass


File = InlineFile | ExternalFile | SparseFile | RedirectedFile


def _file_changes(old: File, new: File) -> Iterator[Change]:
    if not _is_same_content(old, new):
        yield Change(Attribute.CONTENT, format_content(old), format_content(new))
    if format_storage(old) != format_storage(new):
        yield Change(Attribute.STORAGE, format_storage(old), format_storage(new))


def _is_same_content(old: File, new: File) -> bool:
    if file_size(old) != file_size(new):
        return False
    match old, new:
        case InlineFile(), _:
            return _is_content_of(new, old.data)
        case _, InlineFile():
            return _is_content_of(old, new.data)
        case SparseFile(), SparseFile():
            return True
        case ExternalFile() | RedirectedFile(), ExternalFile() | RedirectedFile():
            return _identity(old) == _identity(new)
        case _:
            # A hole against an object, whose content is not at hand.
            return False


def file_size(file: File) -> int:
    """Return the size of a file's content in bytes."""
    return len(file.data) if isinstance(file, InlineFile) else file.size


def _identity(file: ExternalFile | RedirectedFile) -> ObjectID | bytes:
    """Return what tells the content of a file from others: its digest, or else where it is."""
    if isinstance(file, ExternalFile):
        return file.object_id
    return file.path if file.digest is None else file.digest


def _is_content_of(file: File, data: bytes) -> bool:
    """Return whether a file of the same size has this content."""
    match file:
        case InlineFile():
            return file.data == data
        case SparseFile():
            return not any(data)
        case ExternalFile() | RedirectedFile():
            digest = file.object_id if isinstance(file, ExternalFile) else file.digest
            return digest is not None and compute_digest(data, Algorithm.of_digest(digest)) == digest


def format_mtime(node: Node) -> str:
    """Return the modification time, as dumpfiles write it but with all nine digits."""
    return f"{node.mtime_s}.{node.mtime_ns:09d}"


def format_device(number: int) -> str:
    """Return a device number as major and minor, as ls(1) prints it."""
    return f"{os.major(number)}:{os.minor(number)}"


def format_content(file: File) -> str:
    """Return size and identity of a file's content."""
    match file:
        case ExternalFile():
            return f"{file.size} bytes, {file.object_id.hex()}"
        case RedirectedFile():
            return f"{file.size} bytes, {'no digest' if file.digest is None else file.digest.hex()}"
        case InlineFile() if len(file.data) <= _SHOWN_VALUE:
            return f"{len(file.data)} bytes, {quote(file.data)}"
        case InlineFile():
            return f"{len(file.data)} bytes"
        case SparseFile():
            return f"{file.size} zero bytes"


def format_storage(file: File) -> str:
    """Return where a file's content is."""
    match file:
        case InlineFile():
            return "inline"
        case SparseFile():
            return "sparse"
        case RedirectedFile():
            return f"at {quote(file.path)}"
        case ExternalFile():
            return "object" if file.has_digest else "object without digest"


_SELINUX: Final = b"security.selinux"

_SHOWN_VALUE: Final = 64
"""Bytes of a value that a text quotes."""


def quote(value: bytes) -> str:
    """Return a value in quotes, escaped, and cut where it is long."""
    text = '"' + escape(value[:_SHOWN_VALUE]).replace('"', '\\"') + '"'
    return text if len(value) <= _SHOWN_VALUE else f"{text}... ({len(value)} bytes)"


def escape(value: bytes) -> str:
    """Return a value with everything escaped that is not printable ASCII."""
    return "".join(_escape_byte(byte) for byte in value)


def _escape_byte(byte: int) -> str:
    if byte == 0x5C:
        return "\\\\"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def _quote_optional(value: bytes | None) -> str | None:
    return None if value is None else quote(value)


def _escape_optional(value: bytes | None) -> str | None:
    return None if value is None else escape(value)
