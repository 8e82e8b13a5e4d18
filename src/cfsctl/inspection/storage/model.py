"""What a report says. Paths and names of files are bytes, as in trees; nothing is escaped for any output."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.inspection.packages.package import Package
    from cfsctl.repository.gc.results import GcResult
    from cfsctl.repository.gc.stats import RefStats, Stats


class BlockKind(Enum):
    """What a block of space is."""

    STORE = "store"
    DIRECTORY = "directory"
    FILES = "files"
    REST = "rest"
    METADATA = "metadata"
    OTHER = "other"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceBlock:
    """A part of the space that objects take. Each object counts in one place.

    Attributes:
        kind: The store, a directory, the files in a directory itself, what is left of a directory, images
            and streams, objects that are in no tree that was read, or garbage.
        path: The directory; empty for what is none.
        size_bytes: Sizes of the objects.
        objects: How many there are.
        parts: What a directory or the store consists of, the largest first; empty if it was not looked into.
    """

    kind: BlockKind
    path: bytes
    size_bytes: int
    objects: int
    parts: tuple[SpaceBlock, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeObject:
    """One of the largest objects.

    Attributes:
        object_id: The object.
        size_bytes: Its size.
        path: A path that it has in a tree that was read, or None.
        role: What it is if it is no file of a tree: ``image``, ``stream``, ``garbage``, or empty.
        refs: How many refs lead to it.
        ref: One of them, or None.
    """

    object_id: ObjectID
    size_bytes: int
    path: bytes | None
    role: str
    refs: int
    ref: RefStats | None


class ChangeKind(Enum):
    """What became of an entry."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedEntry:
    """An entry that is not the same in two trees.

    Attributes:
        kind: What became of it.
        path: Where it is.
        old_bytes: The size of the file in the first tree; None if it is no file there.
        new_bytes: The same of the second tree.
        what: Its type if it is new or gone, else what changed about it.
    """

    kind: ChangeKind
    path: bytes
    old_bytes: int | None
    new_bytes: int | None
    what: str

    @property
    def weight(self) -> int:
        """How much there is to say about it: the bytes that came or went."""
        return max(self.old_bytes or 0, self.new_bytes or 0)


@dataclass(slots=True, kw_only=True)
class ChangeTally:
    """How much changed.

    Attributes:
        added: New entries.
        removed: Entries that are gone.
        content: Files with other content, or entries of another type.
        metadata: Entries of which only attributes changed.
        added_bytes: Sizes of files that are new or have other content, in the second tree.
        removed_bytes: Sizes of files that are gone or have other content, in the first tree.
    """

    added: int = 0
    removed: int = 0
    content: int = 0
    metadata: int = 0
    added_bytes: int = 0
    removed_bytes: int = 0

    @property
    def total(self) -> int:
        """Entries that are not the same."""
        return self.added + self.removed + self.content + self.metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedArea:
    """A directory near the root, and how much changed in it."""

    path: bytes
    tally: ChangeTally


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageChange:
    """A package that is not the same in two trees; of several versions at once, each is in the text.

    Attributes:
        kind: What became of it.
        name: Its name.
        architecture: What it is for, or empty.
        old: Version in the first tree, or None.
        new: Version in the second tree, or None.
        size_change: By how many bytes it grew, as it says; None if it does not.
    """

    kind: ChangeKind
    name: str
    architecture: str
    old: str | None
    new: str | None
    size_change: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeChanges:
    """What is different between two trees.

    Attributes:
        tally: How much changed.
        entries: The entries with the most bytes, these first.
        areas: The directories near the root with the most bytes, these first.
        packages: Packages that changed, by name.
        packages_left_out: How many more there are.
        databases: Paths of databases of packages that were read.
        problems: What could not be compared.
    """

    tally: ChangeTally
    entries: tuple[ChangedEntry, ...]
    areas: tuple[ChangedArea, ...]
    packages: tuple[PackageChange, ...] = ()
    packages_left_out: int = 0
    databases: tuple[bytes, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def entries_left_out(self) -> int:
        """How many entries changed that are not in `entries`."""
        return self.tally.total - len(self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedVersion:
    """Something that a ref names or has named.

    Attributes:
        name: Its ID: of an image, a commit, or a manifest.
        is_current: Whether the ref names it now.
        is_kept: Whether it is kept as an earlier target of the ref; else it is an ancestor that is stored.
        set_s: When the ref was set to it, in seconds since 1970; None if that is not known.
        made_s: When it was made, as it says; or None.
        version: Its version, as it says; or None.
        title: A line that it says about itself, or empty.
        size_bytes: Sizes of all objects that it needs; None if it is not stored.
        new_bytes: Of those, what the version before it does not need; None if there is none.
        changes: What is different from the version before it; None if they were not compared.
    """

    name: str
    is_current: bool
    is_kept: bool
    set_s: float | None
    made_s: float | None
    version: str | None
    title: str
    size_bytes: int | None
    new_bytes: int | None
    changes: TreeChanges | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefHistory:
    """The versions of a ref, the latest first.

    Attributes:
        kind: What kind of ref it is, as in `RefStats.kind_and_name`.
        name: Its name.
        versions: Its versions.
        left_out: How many earlier ones there are; of the ancestors of a commit, at least so many.
        problems: What could not be read.
    """

    kind: str
    name: str
    versions: tuple[ReportedVersion, ...]
    left_out: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageGroup:
    """Garbage that belongs together.

    Attributes:
        name: The image or stream that no ref leads to, below the repository; empty for all other garbage.
        objects: Its objects; those that several such entries need count for the first.
        size_bytes: Their sizes.
    """

    name: str
    objects: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReason:
    """Why objects are not collected.

    Attributes:
        what: Of refs the kind; ``several`` for what refs of more than one kind need; ``other`` for what no
            ref needs, but a mount, or a link that is not understood.
        count: How many refs there are of this kind; of ``other``, how many mounts.
        only_bytes: What is needed for this reason and for no other.
        only_objects: How many objects that are.
    """

    what: str
    count: int
    only_bytes: int
    only_objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """What takes up space in a repository, how its refs have changed, and what a collection would do.

    Attributes:
        path: The repository, as it was named.
        hash_name: The hash of its objects.
        made_s: When the report was made, in seconds since 1970.
        stats: Statistics, with all refs.
        space: All the space that objects take.
        trees_read: Trees that were looked into.
        trees_left_out: Trees that were not.
        largest: The largest objects, these first.
        histories: Refs with more than one version, those with the largest first.
        histories_left_out: How many more refs there are that have one.
        garbage: What a collection would free, the largest first.
        collection: What it would do.
        reasons: Why the rest stays.
        problems: What could not be read.
    """

    path: str
    hash_name: str
    made_s: int
    stats: Stats
    space: SpaceBlock
    trees_read: int
    trees_left_out: int
    largest: tuple[LargeObject, ...]
    histories: tuple[RefHistory, ...]
    histories_left_out: int
    garbage: tuple[GarbageGroup, ...]
    collection: GcResult
    reasons: tuple[KeptReason, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffReport:
    """What is different between two trees that a user has named.

    Attributes:
        old: The first tree, as the user named it.
        new: The second tree.
        changes: What is different.
        made_s: When the report was made, in seconds since 1970.
    """

    old: str
    new: str
    changes: TreeChanges
    made_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLimits:
    """How much a report has in it.

    Attributes:
        rows: Rows of a table.
        trees: Trees that are looked into, those of the largest refs first.
        comparisons: Pairs of versions that are compared.
        versions: Versions of one ref.
    """

    rows: int = 50
    trees: int = 32
    comparisons: int = 16
    versions: int = 12

    def __post_init__(self) -> None:
        """Refuse limits below zero, and no rows.

        Raises:
            ValueError: There is one.
        """
        if self.rows < 1 or self.versions < 1 or self.trees < 0 or self.comparisons < 0:
            raise ValueError("expected limits that are not below zero, and at least one row and version")


@dataclass(slots=True)
class PackagePair:
    """The versions of one package in two trees."""

    old: tuple[Package, ...] = field(default=())
    new: tuple[Package, ...] = field(default=())
