"""Convert a tree to the objects of a commit, identical to those of `ostree commit`.

A commit has no times and no hard links. Extended attributes are sorted by name, those with an empty value are
skipped, and the value of ``security.selinux`` gets the final NUL that the kernel reports. Devices, FIFOs and
sockets are not supported by OSTree; they are skipped, and their paths are returned.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import Checksum
from cfsctl.errors import DigestMismatchError
from cfsctl.limits import MAX_DEPTH
from cfsctl.ostree.content.target import inline_limit
from cfsctl.ostree.objects import (
    Dirmeta,
    OstreeObjectError,
    format_dirmeta,
    format_dirtree,
    format_regular_header,
    format_zlib_header,
)
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.tree.gc_pause import python_gc_paused
from cfsctl.tree.model import Directory, ExternalFile, InlineFile, SparseFile, Symlink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.ostree.objects import Xattrs
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.progress import Reporter
    from cfsctl.repository.objects.store import ObjectStore
    from cfsctl.tree.model import FileSystem, Leaf

TREE_ID: Final = "tree"
"""ID of the progress events of making objects."""

READ_BYTES: Final = 1 << 20
"""Bytes of an object that are read at a time to compute a checksum."""

_SELINUX: Final = b"security.selinux"


class TreeOptions(NamedTuple):
    """What is changed on the way into a commit.

    Attributes:
        uid: Owner of everything, or None to keep it.
        gid: Group of everything, or None to keep it.
        keeps_xattrs: Whether extended attributes are taken over.
    """

    uid: int | None = None
    gid: int | None = None
    keeps_xattrs: bool = True


AS_IT_IS: Final = TreeOptions()
"""Nothing is changed."""


class TreeObjects(NamedTuple):
    """The objects of a tree.

    Attributes:
        root_dirtree: Checksum of the root's dirtree.
        root_dirmeta: Checksum of the root's dirmeta.
        objects: All of them: data, and the ID of content that is an object.
        left_out: Paths of what no commit can hold.
        is_exact: Whether the commit says of the tree all but times and hard links.
    """

    root_dirtree: Checksum
    root_dirmeta: Checksum
    objects: dict[Checksum, StoredContent]
    left_out: list[bytes]
    is_exact: bool


def make_objects(
    filesystem: FileSystem,
    objects: ObjectStore,
    options: TreeOptions = AS_IT_IS,
    reporter: Reporter = silent,
) -> TreeObjects:
    """Return the objects of a tree; large content must be stored already, or is stored now.

    Args:
        filesystem: The tree.
        objects: Has the content of files that are not in the tree itself.
        options: What is changed.
        reporter: Told how many directories have been read.

    Raises:
        OstreeObjectError: A name, target, attribute or file that no commit can hold; the path is named.
        DigestMismatchError: An object has another size than the tree says.
        IntegrityError: An object is missing, or damaged.
    """
    with python_gc_paused():
        return _Maker(objects, options).make(filesystem, reporter)


class _Maker:
    """Makes the objects of one tree, children first and without recursion."""

    def __init__(self, store: ObjectStore, options: TreeOptions) -> None:
        self._store = store
        self._options = options
        self._inline_limit = inline_limit(store.algorithm)
        self._objects: dict[Checksum, StoredContent] = {}
        self._files: dict[int, Checksum] = {}
        self._left_out: list[bytes] = []
        self._is_exact = options == AS_IT_IS

    def make(self, filesystem: FileSystem, reporter: Reporter) -> TreeObjects:
        order = [(b"/", filesystem.root)]
        for path, directory in order:  # Grows while it is read: parents come before their children.
            if path.count(b"/") > MAX_DEPTH:
                raise OstreeObjectError(
                    f"{os.fsdecode(path[:250])}...: nested deeper than {MAX_DEPTH} directories",
                    field="dirtree",
                )
            order += [
                (os.path.join(path, name), node)
                for name, node in directory.entries.items()
                if isinstance(node, Directory)
            ]
        made: dict[int, tuple[Checksum, Checksum]] = {}
        reporter(Started(TREE_ID, len(order), Unit.ITEMS))
        for path, directory in reversed(order):
            reporter(Advanced(TREE_ID, len(made), len(order)))
            try:
                made[id(directory)] = self._make_directory(path, directory, made)
            except OstreeObjectError as error:
                raise error.about(os.fsdecode(path)) from error
        reporter(Done(TREE_ID, len(made)))
        root = made[id(filesystem.root)]
        is_exact = self._is_exact and not self._left_out
        return TreeObjects(*root, self._objects, sorted(self._left_out), is_exact)

    def _make_directory(
        self, path: bytes, directory: Directory, made: Mapping[int, tuple[Checksum, Checksum]]
    ) -> tuple[Checksum, Checksum]:
        files: list[tuple[bytes, Checksum]] = []
        dirs: list[tuple[bytes, Checksum, Checksum]] = []
        for name, node in directory.entries.items():
            if isinstance(node, Directory):
                dirs.append((name, *made[id(node)]))
                continue
            checksum = self._make_file(name, node)
            if checksum is None:
                self._left_out.append(os.path.join(path, name))
            else:
                files.append((name, checksum))
        uid, gid = self._owner(directory)
        meta = Dirmeta(uid, gid, directory.mode | stat.S_IFDIR, self._xattrs(directory.xattrs))
        return self._add(format_dirtree(files, dirs)), self._add(format_dirmeta(meta))

    def _add(self, data: bytes) -> Checksum:
        checksum = Checksum(hashlib.sha256(data).digest())
        self._objects[checksum] = (data, None)
        return checksum

    def _owner(self, node: Directory | Leaf) -> tuple[int, int]:
        uid, gid = self._options.uid, self._options.gid
        return node.uid if uid is None else uid, node.gid if gid is None else gid

    def _xattrs(self, xattrs: Mapping[bytes, bytes]) -> Xattrs:
        if not xattrs or not self._options.keeps_xattrs:
            return ()
        pairs = []
        for name, found in xattrs.items():
            value = found
            if name == _SELINUX and value and not value.endswith(b"\0"):
                value += b"\0"
            # Images of the original's making have the NUL already.
            has_nul = name.endswith(b"\0")
            if has_nul or not value:
                self._is_exact = False
            if value:
                pairs.append((name if has_nul else name + b"\0", value))
        return tuple(sorted(pairs))

    def _make_file(self, name: bytes, node: Leaf) -> Checksum | None:
        """Return the checksum of a file, which may have other names as well; None if none can be made."""
        known = self._files.get(id(node))
        if known is not None:
            return known
        try:
            checksum = self._make_new_file(node)
        except OstreeObjectError as error:
            raise error.about(repr(os.fsdecode(name))) from error
        if checksum is not None:
            self._files[id(node)] = checksum
        return checksum

    def _make_new_file(self, node: Leaf) -> Checksum | None:
        match node:
            case InlineFile():
                return self._make_regular(node, node.data)
            case ExternalFile() if node.size <= self._inline_limit:
                return self._make_regular(node, self._read_small(node))
            case ExternalFile():
                return self._make_external(node)
            case Symlink():
                owner = self._owner(node)
                mode = node.mode | stat.S_IFLNK
                xattrs = self._xattrs(node.xattrs)
                header = format_regular_header(*owner, mode, node.target, xattrs)
                checksum = Checksum(hashlib.sha256(header).digest())
                self._objects[checksum] = (format_zlib_header(0, *owner, mode, node.target, xattrs), None)
                return checksum
            case SparseFile():
                raise OstreeObjectError("Sparse files not supported in ostree commit", field="content")
            case _:
                return None

    def _headers(self, node: Leaf, size_bytes: int) -> tuple[bytes, bytes]:
        """Return what the checksum covers before the content, and what the commit stream has."""
        owner = self._owner(node)
        mode = node.mode | stat.S_IFREG
        xattrs = self._xattrs(node.xattrs)
        return (
            format_regular_header(*owner, mode, b"", xattrs),
            format_zlib_header(size_bytes, *owner, mode, b"", xattrs),
        )

    def _make_regular(self, node: Leaf, content: bytes) -> Checksum:
        regular, stored = self._headers(node, len(content))
        checksum = Checksum(hashlib.sha256(regular + content).digest())
        if len(content) <= self._inline_limit:
            self._objects[checksum] = (stored + content, None)
        else:
            self._objects[checksum] = (stored, self._store.ensure_bytes(content).object_id)
        return checksum

    def _read_small(self, node: ExternalFile) -> bytes:
        content = self._store.read(node.object_id)
        self._check_size(node, len(content))
        return content

    def _make_external(self, node: ExternalFile) -> Checksum:
        regular, stored = self._headers(node, node.size)
        digest = hashlib.sha256(regular)
        size = 0
        fd = self._store.open(node.object_id)
        try:
            while chunk := os.read(fd, READ_BYTES):
                digest.update(chunk)
                size += len(chunk)
        finally:
            os.close(fd)
        self._check_size(node, size)
        checksum = Checksum(digest.digest())
        self._objects[checksum] = (stored, node.object_id)
        return checksum

    @staticmethod
    def _check_size(node: ExternalFile, size_bytes: int) -> None:
        if size_bytes != node.size:
            what = f"size of object {node.object_id.hex()} in bytes"
            raise DigestMismatchError(what, expected=str(node.size), actual=str(size_bytes))
