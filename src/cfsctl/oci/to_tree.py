"""The file system of an image: its layers, applied one after the other.

The rules are those of the original, since the IDs of images depend on them: an entry needs its parent
directory; a directory over a directory changes its metadata only, and anything else replaces what is there,
with all that is below it; a name that starts with ``.wh.`` removes what was there so far, also of its own
layer; a hard link leads to what its target is at that moment.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, FormatError
from cfsctl.oci.context import naming
from cfsctl.oci.store.layers import iter_entries
from cfsctl.oci.tar import Entry, EntryType
from cfsctl.oci.tar.entry import REGULAR_TYPES
from cfsctl.splitstream.format import ContentType
from cfsctl.tree.gc_pause import python_gc_paused
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Leaf,
    Symlink,
)
from cfsctl.tree.transform import XattrFilter, apply_oci_transform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import NoReturn

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.repository import Repository

    _Metadata = tuple[int, int, int, int, int, Mapping[bytes, bytes]]

MAX_ENTRIES: Final = 1 << 23
"""Most entries of all layers of an image: a tree of eight million takes gigabytes. Real images have less than
one."""

_MAX_REMARKS: Final = 3
"""Most remarks of one kind: a layer may have a million of them."""

_IGNORED: Final = "other programs may ignore that"
_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_MODE_BITS: Final = 0o7777
_MAX_MAJOR: Final = (1 << 12) - 1
_MAX_MINOR: Final = (1 << 20) - 1
_ROOT_MODE: Final = 0o755


class LayerTreeError(FormatError):
    """A layer that does not fit on top of the layers below it, or has what no tree can have.

    Attributes:
        path: Absolute path of the entry at fault.
    """

    def __init__(self, message: str, *, path: bytes) -> None:
        """Store the message and the path."""
        super().__init__(f"'{_show(path)}': {message}")
        self.path = path


def image_tree(
    repository: Repository,
    layers: Iterable[tuple[OciDigest, ObjectID]],
    xattr_filter: XattrFilter = XattrFilter.ALLOWLIST_ONLY,
) -> FileSystem:
    """Return the file system of an image whose layers are stored.

    Args:
        repository: Where they are.
        layers: Digest and stream of each, lowest first.
        xattr_filter: Which extended attributes stay.

    Raises:
        LayerTreeError: A layer does not fit on top of the others.
        TarError, SplitstreamError: A stored layer is damaged.
        TransformError: There is no ``/usr``.
        IntegrityError: Something is missing.
    """
    builder = TreeBuilder()
    for digest, stream_id in layers:
        builder.apply_layer(repository, digest, stream_id)
    return builder.finish(xattr_filter)


class GrowingTree:
    """The tree of an image whose layers come in any order; each is applied as soon as those below it are."""

    def __init__(self, repository: Repository, order: Sequence[OciDigest]) -> None:
        """Begin with no layer.

        Args:
            repository: Where layers are stored.
            order: Digests of the layers, lowest first.
        """
        self._repository = repository
        self._waiting = deque(order)
        self._builder = TreeBuilder()
        self._failure: CfsError | None = None

    def advance(self, streams: Mapping[OciDigest, ObjectID]) -> None:
        """Apply what can be applied; an error waits for `finish`.

        Args:
            streams: Stream by digest, of the layers that are stored by now.
        """
        while self._waiting and self._waiting[0] in streams and self._failure is None:
            digest = self._waiting.popleft()
            try:
                self._builder.apply_layer(self._repository, digest, streams[digest])
            except CfsError as error:
                self._failure = error

    @property
    def remarks(self) -> list[str]:
        """What other programs may make of the layers otherwise."""
        return self._builder.remarks

    def finish(self, streams: Mapping[OciDigest, ObjectID]) -> FileSystem:
        """Return the tree when all layers are stored; errors as of `image_tree`."""
        self.advance(streams)
        if self._failure is not None:
            raise self._failure
        return self._builder.finish(XattrFilter.ALLOWLIST_ONLY)


class TreeBuilder:
    """Applies entries of layers to a tree.

    Attributes:
        filesystem: The tree as it is so far.
        remarks: What other programs may make of the layers otherwise, a few of each kind.
    """

    def __init__(self) -> None:
        """Begin with nothing but a root."""
        self.filesystem = FileSystem(Directory(_ROOT_MODE))
        self.remarks: list[str] = []
        self._own: set[int] = set()  # of the layer that is applied: the nodes that it has added, by id()
        self._count = 0
        # Most entries have the parent of the one before.
        self._parent_parts: list[bytes] = []
        self._parent = self.filesystem.root

    def apply_layer(self, repository: Repository, digest: OciDigest, stream_id: ObjectID) -> None:
        """Apply a stored layer; errors as of `image_tree`."""
        with (
            python_gc_paused(),
            naming(f"layer {digest}"),
            repository.streams.open_object(stream_id, ContentType.OCI_LAYER) as reader,
        ):
            self.begin_layer()
            read: list[tuple[bytes, str]] = []
            for entry, object_id in iter_entries(reader, read):
                self.apply(entry, object_id)
            for path, text in read:
                self._remark(path, text)

    def begin_layer(self) -> None:
        """Begin the next layer; entries so far are of those below it."""
        self._own.clear()

    def finish(self, xattr_filter: XattrFilter) -> FileSystem:
        """Return the tree as images have it.

        Raises:
            TransformError: There is no ``/usr``.
        """
        hint = "only the root of an operating system or container has an image"
        with python_gc_paused():
            apply_oci_transform(self.filesystem, xattr_filter, hint=hint)
        return self.filesystem

    def apply(self, entry: Entry, object_id: ObjectID | None) -> None:
        """Apply the next entry.

        Args:
            entry: The entry.
            object_id: The object that is its content, if that is external.

        Raises:
            LayerTreeError: It has no place.
        """
        self._count += 1
        if self._count > MAX_ENTRIES:
            _fail(entry.path, f"expected at most {MAX_ENTRIES} entries in all layers")
        parts = [part for part in entry.path.split(b"/") if part and part != b"."]
        if not parts or parts[-1] == b"..":
            self._set_root(entry, self._make_node(entry, object_id))
            return
        name = parts.pop()
        if name.startswith(_WHITEOUT):
            self._remove(self._find_parent(parts, entry.path), name, entry)
            return
        node = self._make_node(entry, object_id)
        parent = self._find_parent(parts, entry.path)
        old = parent.entries.get(name)
        if isinstance(old, Directory):
            if isinstance(node, Directory):
                _copy_metadata(node, old)
                return
            self._forget_parent()
        parent.entries[name] = node
        if entry.type != EntryType.HARD_LINK:
            self._own.add(id(node))

    def _set_root(self, entry: Entry, node: Directory | Leaf) -> None:
        if not isinstance(node, Directory):
            _fail(
                entry.path,
                f'Unpacking layer tar: filename "{_show(_absolute(entry.path))}" must be a directory',
            )
        _copy_metadata(node, self.filesystem.root)

    def _remove(self, parent: Directory, name: bytes, entry: Entry) -> None:
        """Apply a whiteout to everything that was merged so far, whatever its type is."""
        if name == _OPAQUE:
            removed = list(parent.entries.values())
            parent.entries.clear()
        else:
            old = parent.entries.pop(name[len(_WHITEOUT) :], None)
            removed = [] if old is None else [old]
        self._forget_parent()
        if not self._own.isdisjoint(map(id, removed)):
            self._remark(entry.path, f"the whiteout also removes what its own layer has added; {_IGNORED}")
        if entry.type not in REGULAR_TYPES:
            self._remark(entry.path, f"a whiteout that is not a regular file; {_IGNORED}")
        if name == _WHITEOUT:
            self._remark(entry.path, "a whiteout of nothing")

    def _remark(self, path: bytes, text: str) -> None:
        if sum(text in remark for remark in self.remarks) < _MAX_REMARKS:
            where = f"'{_show(_absolute(path))}'" if path else "an entry"
            self.remarks.append(f"{where}: {text}")

    def _forget_parent(self) -> None:
        """Look up the next parent again: the previous one may have been removed from the tree."""
        self._parent_parts = []
        self._parent = self.filesystem.root

    def _find_parent(self, parts: list[bytes], path: bytes) -> Directory:
        if parts == self._parent_parts:
            return self._parent
        parent = self._walk(parts, path)
        self._parent_parts, self._parent = parts, parent
        return parent

    def _walk(self, parts: list[bytes], path: bytes) -> Directory:
        """Return the directory that the components lead to, following no links."""
        if b".." in parts:
            _fail(path, f'Invalid filename "{_show(_parent_of(path))}"')
        node = self.filesystem.root
        for part in parts:
            inner = node.entries.get(part)
            if not isinstance(inner, Directory):
                what = "does not exist" if inner is None else "is not a subdirectory"
                _fail(path, f'Directory entry "{_show(part)}" {what}')
            node = inner
        return node

    # Nodes

    def _make_node(self, entry: Entry, object_id: ObjectID | None) -> Directory | Leaf:
        kind = entry.type
        if kind == EntryType.HARD_LINK:
            return self._find_target(entry)
        return make_node(entry, object_id)

    def _find_target(self, entry: Entry) -> Leaf:
        parts = [part for part in entry.link_target.split(b"/") if part and part != b"."]
        if not parts or parts[-1] == b"..":
            _fail(entry.path, 'hard link: Invalid filename ""')
        name = parts.pop()
        if b".." in parts:
            _fail(entry.path, f'hard link: Invalid filename "{_show(_parent_of(entry.link_target))}"')
        target = self._walk(parts, entry.path).entries.get(name)
        if target is None:
            _fail(entry.path, f'hard link: Directory entry "{_show(name)}" does not exist')
        if isinstance(target, Directory):
            _fail(entry.path, f'hard link: Directory entry "{_show(name)}" is a directory')
        if isinstance(target, CharDevice) and target.rdev == 0:
            link = _show(_absolute(entry.link_target))
            self._remark(entry.path, f"a hard link to the whiteout '{link}', which format 1 cannot have")
        return target


def make_node(entry: Entry, object_id: ObjectID | None) -> Directory | Leaf:
    """Return the node that an entry is, unless it is a hard link.

    Args:
        entry: The entry.
        object_id: The object that is its content, if that is external.

    Raises:
        LayerTreeError: No tree can have it.
    """
    metadata = (
        entry.mode & _MODE_BITS,
        entry.uid,
        entry.gid,
        entry.mtime_s,
        entry.mtime_ns,
        entry.xattrs,
    )
    if entry.type in REGULAR_TYPES:
        if object_id is not None:
            return ExternalFile(object_id, entry.size, *metadata)
        return InlineFile(entry.content, *metadata)
    if entry.type == EntryType.DIRECTORY:
        return Directory(*metadata)
    return _make_special(entry, metadata)


def _make_special(entry: Entry, metadata: _Metadata) -> Leaf:
    """Return a leaf that is not a regular file."""
    kind = entry.type
    if kind == EntryType.SYMLINK:
        return Symlink(entry.link_target, *metadata)
    if kind == EntryType.FIFO:
        return Fifo(*metadata)
    if kind == EntryType.CHAR_DEVICE:
        return CharDevice(_device_number(entry), *metadata)
    if kind == EntryType.BLOCK_DEVICE:
        return BlockDevice(_device_number(entry), *metadata)
    return _fail(entry.path, f"Unsupported entry type Other({kind})")


def _copy_metadata(source: Directory, target: Directory) -> None:
    target.mode, target.uid, target.gid = source.mode, source.uid, source.gid
    target.mtime_s, target.mtime_ns = source.mtime_s, source.mtime_ns
    target.xattrs = source.xattrs


def _device_number(entry: Entry) -> int:
    if entry.device is None:
        _fail(entry.path, "Device entry without device numbers?")
    major, minor = entry.device
    if major > _MAX_MAJOR or minor > _MAX_MINOR:
        _fail(
            entry.path,
            f"device number {major}:{minor} does not fit: expected at most {_MAX_MAJOR}:{_MAX_MINOR}",
        )
    return os.makedev(major, minor)


def _fail(path: bytes, message: str) -> NoReturn:
    raise LayerTreeError(message, path=_absolute(path))


def _absolute(path: bytes) -> bytes:
    return b"/" + path.removeprefix(b"/").rstrip(b"/")


def _parent_of(path: bytes) -> bytes:
    return _absolute(path).rpartition(b"/")[0]


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
