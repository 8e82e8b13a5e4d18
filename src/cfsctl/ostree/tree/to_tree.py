"""The file system tree that a commit describes.

Every file of a commit becomes one inode: its further occurrences, empty files and symbolic links included,
are hard links to it. Times are zero, since OSTree has none. The size of the tree is computed before the tree
is built, because a few dirtrees that share subtrees can expand to any number of paths.

Metadata, links and inline content are verified here. Content that is an object is verified by its own ID, but
its header is trusted as stored.
"""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeAlias

from cfsctl.errors import DigestMismatchError
from cfsctl.ostree.limits import PlanLimits
from cfsctl.ostree.objects import (
    Dirtree,
    ObjectKind,
    OstreeObjectError,
    parse_dirtree,
    parse_stored_dirmeta,
    parse_stored_file_header,
)
from cfsctl.ostree.tree.graph import TreeGraph
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.tree.gc_pause import python_gc_paused
from cfsctl.tree.model import (
    NO_XATTRS,
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Leaf,
    Socket,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects import Commit, Dirmeta, FileHeader, Xattrs
    from cfsctl.ostree.objects.stored_content import StoredContent

DEFAULT_LIMITS: Final = PlanLimits()

UPSTREAM_MADE: Final = (
    "made by composefs-rs, with names of attributes or devices in a form that OSTree does not have"
)

MAX_FILE_BYTES: Final = (1 << 63) - 1
"""Largest size that the kernel has for a file; a header has room for twice that."""


class CommitObjects(Protocol):
    """A commit with all its objects: one that is stored, or one that was just pulled."""

    @property
    def checksum(self) -> Checksum:
        """Name of the commit."""

    @property
    def commit(self) -> Commit:
        """The commit itself."""

    @property
    def is_partial(self) -> bool:
        """Whether objects may be missing; the tree then contains the existing ones."""

    def find(self, checksum: Checksum, /) -> StoredContent | None:
        """Return an object's data, and the ID of content that is an object; None if it is missing."""

    def get_metadata(self, checksum: Checksum, kind: ObjectKind, /) -> bytes:
        """Return a dirtree or dirmeta, verified."""

    def fail_missing(self, checksum: Checksum, kind: ObjectKind, /) -> NoReturn:
        """Raise the error for a missing object."""


def commit_to_filesystem(
    stream: CommitObjects,
    xattr_names: XattrNames = XattrNames.STRIPPED,
    limits: PlanLimits = DEFAULT_LIMITS,
    note: Callable[[str], object] = lambda _: None,
) -> FileSystem:
    """Return the tree of a commit; `/usr/etc`, whiteouts and labels stay what they are.

    Args:
        stream: The commit.
        xattr_names: How names of extended attributes are taken over.
        limits: What the tree may ask for.
        note: Told once if objects are of composefs-rs's making, and no program of OSTree would read them.

    Raises:
        CommitStreamError: An object is missing, or of the wrong kind.
        OstreeObjectError: An object is not valid.
        DigestMismatchError: An object is not what its checksum says.
        LimitError: The tree is too large or too deep.
    """
    with python_gc_paused():
        return _Builder(stream, xattr_names, limits, note).build()


_Attributes: TypeAlias = "tuple[int, int, int, int, int, Mapping[bytes, bytes]]"
"""Mode, owner, group, time and extended attributes, as nodes take them."""


class _Builder:
    """Makes one tree."""

    def __init__(
        self,
        stream: CommitObjects,
        xattr_names: XattrNames,
        limits: PlanLimits,
        note: Callable[[str], object],
    ) -> None:
        self._stream = stream
        self._note = note
        self._is_noted = False
        self._limits = limits
        self._name_end = -1 if xattr_names is XattrNames.STRIPPED else None
        self._trees: dict[Checksum, Dirtree] = {}
        self._metas: dict[Checksum, Dirmeta] = {}
        self._xattrs: dict[Xattrs, Mapping[bytes, bytes]] = {(): NO_XATTRS}
        self._headers: dict[tuple[bytes, bytes], _Attributes] = {}

    def build(self) -> FileSystem:
        commit = self._stream.commit
        self._read_trees(commit.root_dirtree)
        root = self._make_directory(commit.root_dirmeta)
        self._fill(root, commit.root_dirtree)
        return FileSystem(root)

    def _read_trees(self, root: Checksum) -> None:
        """Read each dirtree once, and check what they come to when expanded."""
        graph = TreeGraph(self._limits, f"commit {self._stream.checksum.hex()}")
        wanted = [root]
        while wanted:
            checksum = wanted.pop()
            if checksum not in self._trees:
                data = self._stream.get_metadata(checksum, ObjectKind.DIRTREE)
                try:
                    tree = parse_dirtree(data)
                except OstreeObjectError as error:
                    raise error.about(f"dirtree object {checksum.hex()}") from error
                if self._stream.is_partial:
                    tree = self._select_present(tree)
                graph.add(checksum, tree)
                self._trees[checksum] = tree
                wanted += [dirtree for _, dirtree, _ in tree.dirs]
        graph.check(root)

    def _select_present(self, tree: Dirtree) -> Dirtree:
        """Return the entries of a directory whose objects exist."""
        find = self._stream.find
        return Dirtree(
            [entry for entry in tree.files if find(entry[1])],
            [entry for entry in tree.dirs if find(entry[1]) and find(entry[2])],
        )

    def _fill(self, root: Directory, root_dirtree: Checksum) -> None:
        """Make everything below the root."""
        leaves: dict[Checksum, Leaf] = {}
        pending = [(root.entries, root_dirtree)]
        while pending:
            entries, checksum = pending.pop()
            tree = self._trees[checksum]
            for name, file in tree.files:
                leaf = leaves.get(file)
                if leaf is None:
                    leaf = leaves[file] = self._make_leaf(file)
                entries[name] = leaf
            for name, dirtree, dirmeta in tree.dirs:
                directory = entries[name] = self._make_directory(dirmeta)
                pending.append((directory.entries, dirtree))

    def _make_directory(self, checksum: Checksum) -> Directory:
        meta = self._metas.get(checksum)
        if meta is None:
            data = self._stream.get_metadata(checksum, ObjectKind.DIRMETA)
            try:
                meta = self._metas[checksum] = parse_stored_dirmeta(data, self._note_upstream)
            except OstreeObjectError as error:
                raise error.about(f"dirmeta object {checksum.hex()}") from error
        uid, gid, mode, xattrs = meta
        return Directory(mode & 0o7777, uid, gid, 0, 0, self._take_xattrs(xattrs))

    def _take_xattrs(self, xattrs: Xattrs) -> Mapping[bytes, bytes]:
        """Return the attributes as the tree has them; equal ones share a mapping."""
        mapping = self._xattrs.get(xattrs)
        if mapping is None:
            mapping = {name[: self._name_end]: value for name, value in xattrs}
            self._xattrs[xattrs] = mapping
        return mapping

    def _note_upstream(self) -> None:
        if not self._is_noted:
            self._is_noted = True
            self._note(f"commit {self._stream.checksum.hex()}: {UPSTREAM_MADE}")

    def _make_leaf(self, checksum: Checksum) -> Leaf:
        found = self._stream.find(checksum)
        if found is None:
            self._stream.fail_missing(checksum, ObjectKind.FILE)
        data, object_id = found
        if object_id is not None:
            # Most files of a commit have headers that differ only in the size, 64 bits at offset 8.
            known = self._headers.get((data[:8], data[16:]))
            if known is not None and data[8] < 0x80:
                return ExternalFile(object_id, int.from_bytes(data[8:16], "big"), *known)
        try:
            return self._parse_leaf(checksum, data, object_id)
        except OstreeObjectError as error:
            raise error.about(f"file object {checksum.hex()}") from error

    def _parse_leaf(self, checksum: Checksum, data: bytes, object_id: ObjectID | None) -> Leaf:
        header = parse_stored_file_header(data, self._note_upstream)
        content = data[header.length_bytes :]
        attributes = (header.mode & 0o7777, header.uid, header.gid, 0, 0, self._take_xattrs(header.xattrs))
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
