"""The file system tree that a commit describes.

Every file of a commit becomes one inode: its further occurrences, empty files and symbolic links included,
are hard links to it. Times are zero, since OSTree has none. The size of the tree is computed before the tree
is built, because a few dirtrees that share subtrees can expand to any number of paths.

Metadata, links and inline content are verified here. Content that is an object is verified by its own ID, but
its header is trusted as stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from cfsctl.ostree.limits import PlanLimits
from cfsctl.ostree.objects import (
    Dirtree,
    ObjectKind,
    OstreeObjectError,
    parse_dirtree,
    parse_stored_dirmeta,
)
from cfsctl.ostree.tree.graph import TreeGraph
from cfsctl.ostree.tree.leaves import Leaves
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.tree.gc_pause import python_gc_paused
from cfsctl.tree.model import Directory, FileSystem, Leaf

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Commit, Dirmeta
    from cfsctl.ostree.objects.stored_content import StoredContent

DEFAULT_LIMITS: Final = PlanLimits()

UPSTREAM_MADE: Final = (
    "made by composefs-rs, with names of attributes or devices in a form that OSTree does not have"
)


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
    leaves: Leaves | None = None,
) -> FileSystem:
    """Return the tree of a commit; `/usr/etc`, whiteouts and labels stay what they are.

    Args:
        stream: The commit.
        xattr_names: How names of extended attributes are taken over.
        limits: What the tree may ask for.
        note: Told once if objects are of composefs-rs's making, and no program of OSTree would read them.
        leaves: Nodes of files that were made before, for the same names of attributes. The commit must be
            known to have all of its files: those that have a node are not looked for.

    Raises:
        CommitStreamError: An object is missing, or of the wrong kind.
        OstreeObjectError: An object is not valid.
        DigestMismatchError: An object is not what its checksum says.
        LimitError: The tree is too large or too deep.
    """
    with python_gc_paused():
        return _Builder(stream, xattr_names, limits, note, leaves).build()


class _Builder:
    """Makes one tree."""

    def __init__(
        self,
        stream: CommitObjects,
        xattr_names: XattrNames,
        limits: PlanLimits,
        note: Callable[[str], object],
        leaves: Leaves | None,
    ) -> None:
        self._stream = stream
        self._note = note
        self._is_noted = False
        self._limits = limits
        self._leaves = leaves if leaves is not None else Leaves(xattr_names, self._note_upstream)
        self._trees: dict[Checksum, Dirtree] = {}
        self._metas: dict[Checksum, Dirmeta] = {}

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
        leaves = self._leaves.known
        pending = [(root.entries, root_dirtree)]
        while pending:
            entries, checksum = pending.pop()
            tree = self._trees[checksum]
            for name, file in tree.files:
                leaf = leaves.get(file)
                if leaf is None:
                    leaf = self._make_leaf(file)
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
        return Directory(mode & 0o7777, uid, gid, 0, 0, self._leaves.take_xattrs(xattrs))

    def _note_upstream(self) -> None:
        if not self._is_noted:
            self._is_noted = True
            self._note(f"commit {self._stream.checksum.hex()}: {UPSTREAM_MADE}")

    def _make_leaf(self, checksum: Checksum) -> Leaf:
        found = self._stream.find(checksum)
        if found is None:
            self._stream.fail_missing(checksum, ObjectKind.FILE)
        return self._leaves.make(checksum, *found)
