"""The pull of one commit as a state machine: no I/O, nothing trusted before its checksum agrees.

The caller asks `PullPlan.next_request` for metadata to fetch and `take_files` for content, delivers what has
arrived, and calls `check_complete` at the end. Rules:

1. An object counts as present if its SHA-256 equals its name and its structure is valid. Content is verified
by
   the importer (see `file_import`) and only recorded here.
2. Every object is requested at most once, and every dirtree is expanded once, even if the tree refers to it
   several times. A name that is used for objects of two kinds is refused.
3. Objects of a base are not requested. Metadata and inline content from a base are hashed again. Content that
is
   an object of the repository has its own fs-verity digest, which the owner of the base may still check
   (`take_back`). If a base's object is wrong, it counts as missing. What a base vouches for
   (`TrueBase.find_true`) is taken as it is, all files of a directory at once.
4. Bases may be added until the commit has been delivered and `next_request` is called again: the tree is
expanded
   there and when a dirtree is delivered, not when the commit arrives. So the caller can inspect the commit,
   refuse it or find its parent before anything of its tree is requested.
5. The entries and the depth of the whole tree are counted over the graph of dirtrees, without expanding it.
6. A large dirtree is expanded when the next request is asked for. So a caller that has enough to do with the
files of one stops asking, and what is known to be wanted stays small, whatever a repository contains.

A call in the wrong order raises `RuntimeError`, since it is a bug; all other errors are about received data.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Protocol, runtime_checkable

from cfsctl.errors import ReceivedDigestError
from cfsctl.ostree.limits import (
    MAX_EXCESS_BYTES,
    MAX_HELD_FILE_BYTES,
    ORDINARY_BYTES,
    LimitError,
    PlanLimits,
)
from cfsctl.ostree.objects import (
    Commit,
    ObjectKind,
    OstreeObjectError,
    iter_dirtree,
    parse_commit,
    parse_dirmeta,
    parse_dirtree,
    parse_zlib_file_header,
)
from cfsctl.ostree.objects.held_objects import HeldObjects
from cfsctl.ostree.store.in_memory import IncompleteError
from cfsctl.ostree.tree.graph import TreeGraph
from cfsctl.ostree.tree.subpaths import SubpathNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects import Dirtree
    from cfsctl.ostree.objects.held_objects import Lender
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.ostree.tree.subpaths import SubpathFilter

DEFAULT_LIMITS = PlanLimits()

_LARGE_DIRTREE_BYTES: Final = 256 << 10
"""A larger dirtree, of thousands of entries, waits until there is need for what it names."""

_FILE, _DIRTREE, _DIRMETA, _COMMIT = (
    ObjectKind.FILE,
    ObjectKind.DIRTREE,
    ObjectKind.DIRMETA,
    ObjectKind.COMMIT,
)


class ConflictError(OstreeObjectError):
    """One checksum that a commit uses for objects of two kinds."""


class Base(Protocol):
    """A commit that is stored already, as far as a plan needs it."""

    def find(self, checksum: Checksum) -> StoredContent | None:
        """Return the object's data and, for content that is an object of the repository, its ID.

        None if the base does not have it, or its content is not in the repository any more.
        """


@runtime_checkable
class TrueBase(Base, Protocol):
    """A base that may know objects about which nothing has to be checked.

    Attributes:
        lender: Has the objects that `find_true` names; None if there can be none.
    """

    lender: Lender | None

    def find_true(self, checksums: set[Checksum]) -> set[Checksum]:
        """Return those objects about which all is known; their contents may still be taken back."""


class Counts(NamedTuple):
    """How far a plan is.

    Attributes:
        metadata: Metadata objects that were fetched.
        files: Content objects that were fetched.
        wanted_files: Content objects to fetch, as far as known.
        from_base: Objects that a base had.
    """

    metadata: int
    files: int
    wanted_files: int
    from_base: int


class PullPlan:
    """The state of the objects of one commit: present, wanted, or requested.

    Attributes:
        commit_checksum: Name of the commit.
        commit: The commit, once it has arrived.
    """

    def __init__(
        self,
        commit_checksum: Checksum,
        *,
        limits: PlanLimits = DEFAULT_LIMITS,
        part: SubpathFilter | None = None,
        objects: HeldObjects | None = None,
    ) -> None:
        """Start with only the commit wanted.

        Args:
            commit_checksum: Name of the commit.
            limits: What it may ask for.
            part: The paths that are wanted of its tree, or None for all of it.
            objects: What has arrived is added to these; None keeps everything in memory.
        """
        self.commit_checksum = commit_checksum
        self.commit: Commit | None = None
        self._limits = limits
        self._part = part
        self._parts: dict[Checksum, SubpathFilter] = {}
        self._widened: list[Checksum] = []
        self._unexpanded: list[Checksum] = []
        self._bases: list[Base] = []
        self._true_bases: list[TrueBase] = []
        self._kinds: dict[Checksum, ObjectKind] = {commit_checksum: _COMMIT}
        self._wanted: list[Checksum] = [commit_checksum]
        self._wanted_files: list[Checksum] = []
        self._in_flight: dict[Checksum, ObjectKind] = {}
        self._objects = HeldObjects() if objects is None else objects
        self._graph = TreeGraph(limits, f"commit {commit_checksum.hex()}")
        self._is_tree_checked = False
        self._metadata_bytes = self._excess_bytes = 0
        self._metadata_fetched = 0
        self._files_fetched = 0
        self._files_asked = 0
        self._from_base = 0

    @property
    def objects(self) -> Mapping[Checksum, StoredContent]:
        """What has arrived so far, by name: data, and the ID of content that is an object.

        Data is the object itself for metadata; for content the header as an archive repository has
        it, followed by the plain content where that has no object of its own.
        """
        return self._objects

    @property
    def has_wanted_metadata(self) -> bool:
        """Whether `next_request` has something to do: to name an object, or to expand a dirtree."""
        return bool(self._wanted or self._widened or self._unexpanded)

    @property
    def counts(self) -> Counts:
        """How far the plan is."""
        return Counts(self._metadata_fetched, self._files_fetched, self._files_asked, self._from_base)

    def add_base(self, base: Base) -> None:
        """Take objects from this commit as well; earlier bases are asked first."""
        self._bases.append(base)
        if isinstance(base, TrueBase):
            self._true_bases.append(base)

    def is_in_base(self, checksum: Checksum) -> bool:
        """Return whether a base seems to have an object; only taking it from there verifies it."""
        return any(base.find(checksum) is not None for base in self._bases)

    # --- metadata -------------------------------------------------------------------------------

    def next_request(
        self, may_expand: Callable[[], bool] = lambda: True
    ) -> tuple[Checksum, ObjectKind] | None:
        """Return a metadata object to fetch, or None while nothing more is known to be wanted.

        Args:
            may_expand: Asked before a large dirtree is expanded, which can be done later as well.
        """
        while True:
            if self._widened:
                self._expand_again(self._widened.pop())
            elif self._unexpanded and may_expand():
                checksum = self._unexpanded.pop()
                self._expand_large(checksum, self._objects[checksum][0])
            elif self._wanted:
                checksum = self._wanted.pop()
                kind = self._kinds[checksum]
                if not self._take_from_base(checksum, kind):
                    self._in_flight[checksum] = kind
                    return checksum, kind
            else:
                return None

    def deliver(self, checksum: Checksum, kind: ObjectKind, data: bytes) -> None:
        """Take a metadata object that `next_request` asked for.

        Raises:
            ReceivedDigestError: It is not the object it should be.
            OstreeObjectError: Its structure is not valid.
            LimitError: The commit exceeds the plan's limits.
        """
        if self._in_flight.pop(checksum, None) is not kind:
            raise RuntimeError(f"{kind.label} object {checksum.hex()} was not asked for")
        actual = hashlib.sha256(data).digest()
        if actual != checksum:
            what = f"{kind.label} object {checksum.hex()}"
            raise ReceivedDigestError(what, expected=checksum.hex(), actual=actual.hex())
        self._metadata_fetched += 1
        self._accept(checksum, kind, data)

    def _take_from_base(self, checksum: Checksum, kind: ObjectKind) -> bool:
        for base in self._bases:
            found = base.find(checksum)
            if found and found[1] is None and hashlib.sha256(found[0]).digest() == checksum:
                self._from_base += 1
                self._accept(checksum, kind, found[0])
                return True
        return False

    def _accept(self, checksum: Checksum, kind: ObjectKind, data: bytes) -> None:
        """Parse a metadata object whose checksum is right, and want what it names."""
        self._metadata_bytes += len(data)
        if self._metadata_bytes > self._limits.max_metadata_bytes:
            raise LimitError(
                f"metadata of commit {self.commit_checksum.hex()}: "
                f"expected at most {self._limits.max_metadata_bytes} bytes, found more"
            )
        try:
            if kind is _DIRTREE and len(data) > _LARGE_DIRTREE_BYTES and self._part is None:
                self._take_large(checksum, data)
            elif kind is _DIRTREE:
                self._expand_dirtree(checksum, data)
            elif kind is _DIRMETA:
                parse_dirmeta(data)
            else:
                self._expand_commit(data)
        except ConflictError:
            raise
        except OstreeObjectError as error:
            raise error.about(f"{kind.label} object {checksum.hex()}") from error
        if kind is _DIRMETA:
            self._count_excess(len(data))
        self._objects.add(checksum, data, None)

    def _expand_commit(self, data: bytes) -> None:
        commit = parse_commit(data)
        self._want(commit.root_dirmeta, _DIRMETA)
        if self._part is None:
            self._want(commit.root_dirtree, _DIRTREE)
        else:
            self._want_part(commit.root_dirtree, self._part)
        self.commit = commit

    def _expand_dirtree(self, checksum: Checksum, data: bytes) -> None:
        tree = parse_dirtree(data)
        if self._part is not None:
            tree = self._select(checksum, tree)
        self._graph.add(checksum, tree)
        self._want_entries(checksum, tree)

    def _want_entries(self, checksum: Checksum, tree: Dirtree) -> None:
        """Want what some entries of a directory name."""
        self._is_tree_checked = False
        self._want_files([entry[1] for entry in tree.files])
        for name, dirtree, dirmeta in tree.dirs:
            self._want(dirmeta, _DIRMETA)
            if self._part is None:
                self._want(dirtree, _DIRTREE)
            else:
                self._want_part(dirtree, self._parts[checksum].below(name))

    def _take_large(self, checksum: Checksum, data: bytes) -> None:
        if self._objects.forgets_data:
            self._expand_large(checksum, data)
        else:
            self._unexpanded.append(checksum)

    def _expand_large(self, checksum: Checksum, data: bytes) -> None:
        """Expand a dirtree in pieces."""
        try:
            for number, piece in enumerate(iter_dirtree(data)):
                self._graph.add(checksum, piece, is_more=number > 0)
                self._want_entries(checksum, piece)
        except ConflictError:
            raise
        except OstreeObjectError as error:
            raise error.about(f"{_DIRTREE.label} object {checksum.hex()}") from error

    # A dirtree may occur at several paths of which different parts are wanted: what is wanted of it grows.

    def _want_part(self, dirtree: Checksum, part: SubpathFilter) -> None:
        known = self._parts.get(dirtree)
        merged = part if known is None else known.merged(part)
        if merged == known:
            return
        self._parts[dirtree] = merged
        self._want(dirtree, _DIRTREE)
        if dirtree in self._objects:
            self._widened.append(dirtree)

    def _expand_again(self, dirtree: Checksum) -> None:
        self._expand_dirtree(dirtree, self._objects[dirtree][0])

    def _select(self, dirtree: Checksum, tree: Dirtree) -> Dirtree:
        try:
            return self._parts[dirtree].select(tree)
        except SubpathNotFoundError as error:
            raise SubpathNotFoundError(f"commit {self.commit_checksum.hex()}: {error}") from error

    def _want(self, checksum: Checksum, kind: ObjectKind) -> None:
        known = self._kinds.get(checksum)
        if known is None:
            self._kinds[checksum] = kind
            self._wanted.append(checksum)
        elif known is not kind:
            self._conflict(checksum, known, kind)

    @staticmethod
    def _conflict(checksum: Checksum, one: ObjectKind, other: ObjectKind) -> NoReturn:
        raise ConflictError(
            f"object {checksum.hex()}: expected one kind, found it named as {one.label} and as {other.label}"
        )

    # --- content --------------------------------------------------------------------------------

    def _want_files(self, checksums: Sequence[Checksum]) -> None:
        """Add wanted content objects; some of them may have been wanted before."""
        kinds = self._kinds
        taken = self._take_true_files(checksums) if self._true_bases else set()
        for checksum in checksums if not taken else (one for one in checksums if one not in taken):
            known = kinds.get(checksum)
            if known is None:
                kinds[checksum] = _FILE
                if not (self._bases and self._take_file_from_base(checksum)):
                    self._wanted_files.append(checksum)
            elif known is not _FILE:
                self._conflict(checksum, known, _FILE)

    def _take_true_files(self, checksums: Sequence[Checksum]) -> set[Checksum]:
        """Take what bases vouch for, and return it; of that, nothing was wanted before."""
        new = set(checksums).difference(self._kinds)
        taken: set[Checksum] = set()
        for base in self._true_bases:
            if base.lender is not None and (found := base.find_true(new)):
                new -= found
                taken |= found
                self._kinds.update(dict.fromkeys(found, _FILE))
                self._objects.lend(base.lender, found)
                self._from_base += len(found)
        return taken

    def _take_file_from_base(self, checksum: Checksum) -> bool:
        for base in self._bases:
            found = base.find(checksum)
            if found and _is_sound_file(checksum, *found):
                self._objects.add(checksum, *found)
                self._from_base += 1
                return True
        return False

    def take_back(self, checksums: Iterable[Checksum]) -> None:
        """Add content objects to the wanted ones again, since the base's copies are damaged.

        Args:
            checksums: The objects; those that did not come from a base are ignored.
        """
        for checksum in checksums:
            if self._kinds.get(checksum) is _FILE and self._objects.remove(checksum):
                self._from_base -= 1
                self._wanted_files.append(checksum)

    def take_files(self) -> list[Checksum]:
        """Return the content objects that became known as wanted since the last call."""
        files, self._wanted_files = self._wanted_files, []
        self._files_asked += len(files)
        return files

    def deliver_files(self, files: Iterable[tuple[Checksum, bytes, ObjectID | None]]) -> None:
        """Record content that was verified and imported.

        Args:
            files: (checksum, header and inline content, ID of content that is an object).

        Raises:
            LimitError: More attributes than an image has room for.
        """
        objects = self._objects
        for checksum, data, object_id in files:
            if self._kinds.get(checksum) is not _FILE or checksum in objects:
                raise RuntimeError(f"file object {checksum.hex()} was not asked for")
            if len(data) > MAX_HELD_FILE_BYTES:
                raise LimitError(
                    f"file object {checksum.hex()}: expected at most {MAX_HELD_FILE_BYTES} bytes of header, "
                    f"found {len(data)}"
                )
            self._count_excess(len(data))
            objects.add(checksum, data, object_id)
            self._files_fetched += 1

    def _count_excess(self, size: int) -> None:
        """Count what an object has in attributes beyond what is usual: a tree holds all of them in memory."""
        if size > ORDINARY_BYTES:
            self._excess_bytes += size - ORDINARY_BYTES
            if self._excess_bytes > MAX_EXCESS_BYTES:
                raise LimitError(
                    f"attributes in commit {self.commit_checksum.hex()}: expected at most "
                    f"{ORDINARY_BYTES} bytes for each file and {MAX_EXCESS_BYTES} bytes besides, found more"
                )

    # --- the end --------------------------------------------------------------------------------

    def check_tree(self) -> None:
        """Check entries and depth of the whole tree, once all metadata has arrived.

        Raises:
            LimitError: The tree is too large or too deep.
        """
        if self.has_wanted_metadata or self._in_flight or self.commit is None:
            raise RuntimeError("the metadata is not complete yet")
        if not self._is_tree_checked:
            self._graph.check(self.commit.root_dirtree)
            self._is_tree_checked = True

    def iter_missing(self) -> Iterator[tuple[Checksum, ObjectKind]]:
        """Yield objects that are known to be part of the commit and are missing."""
        objects = self._objects
        return (item for item in self._kinds.items() if item[0] not in objects)

    def close(self) -> None:
        """Let go of what has arrived; may be called again."""
        self._objects.close()

    def check_complete(self) -> None:
        """Check that every object that the commit reaches is present.

        Raises:
            IncompleteError: Something is missing; the message names the first such object.
            LimitError: The tree is too large or too deep.
        """
        if not all(map(self._objects.__contains__, self._kinds)):
            missing = sum(1 for _ in self.iter_missing())
            checksum, kind = next(self.iter_missing())
            raise IncompleteError(
                f"commit {self.commit_checksum.hex()}: expected all of its objects, found {missing} missing, "
                f"the first of them {kind.label} object {checksum.hex()}"
            )
        self.check_tree()


def _is_sound_file(checksum: Checksum, data: bytes, object_id: ObjectID | None) -> bool:
    """Return whether a base's file is valid and, where its content is inline, what its name says."""
    try:
        header = parse_zlib_file_header(data)
    except OstreeObjectError:
        return False
    content = memoryview(data)[header.length_bytes :]
    if object_id is not None:
        # The content was verified when it was imported; since then, the object's own digest protects it.
        return not content and not header.is_symlink
    digest = hashlib.sha256(header.regular_header)
    digest.update(content)
    return len(content) == header.size_bytes and digest.digest() == checksum
