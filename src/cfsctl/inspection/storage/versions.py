"""The versions of refs: what each names and has named before, with sizes, and what changed between two.

Versions of a ref are its target, the earlier targets that are kept, and for commits the stored ancestors of
its target. Of trees, only those of two versions are held at a time.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError
from cfsctl.inspection.storage.changes import summarize
from cfsctl.inspection.storage.model import RefHistory, ReportedVersion
from cfsctl.kinds.registry import find_claiming
from cfsctl.repository.history.kept import IMAGE_STREAM, HistoryKey, list_all_kept, time_of_ref
from cfsctl.repository.history.moves import current_target, describe_target, ref_of
from cfsctl.repository.names.images import IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.inspection.contents.reading import ContentReader
    from cfsctl.inspection.packages.find import Packages
    from cfsctl.inspection.storage.model import ReportLimits, TreeChanges
    from cfsctl.kinds.kind import Reading, StoredVersion
    from cfsctl.repository import Repository
    from cfsctl.repository.gc.survey import Survey
    from cfsctl.tree.model import FileSystem

_COUNTED_ANCESTORS: Final = 20
"""Ancestors of a commit that are looked up beyond those that are reported, to say that there are more."""

_DIRECTORIES: Final = {"image": IMAGES, "commit": "ostree", "oci": "oci"}
"""Directory of the history of each kind of ref that has one."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A version before anything was measured: an entry of images or streams."""

    entry: str
    set_s: float | None
    is_kept: bool


@dataclass(frozen=True, slots=True)
class _Tree:
    """A tree and its packages, in the meantime between two comparisons."""

    root: FileSystem
    packages: Packages


class HistoryReader:
    """Reads the histories of refs."""

    def __init__(
        self,
        repository: Repository,
        survey: Survey,
        reading: Reading,
        reader: ContentReader,
        limits: ReportLimits,
    ) -> None:
        """Read nothing yet.

        Args:
            repository: The repository, open.
            survey: What is known about it.
            reading: How trees are read.
            reader: Reads databases of packages.
            limits: How much is read.
        """
        self._repository = repository
        self._survey = survey
        self._reading = reading
        self._reader = reader
        self._limits = limits
        self._comparisons = limits.comparisons
        self._problems: list[str] = []

    def read(self) -> tuple[tuple[RefHistory, ...], int]:
        """Return the histories of the largest refs that have one, and how many more refs have one."""
        found = list(self._iter_histories())
        largest = heapq.nlargest(self._limits.rows, found, key=lambda one: one[0])
        histories = tuple(self._read_history(*one[1:]) for one in largest)
        return histories, len(found) - len(histories)

    def _iter_histories(self) -> Iterator[tuple[int, str, HistoryKey, list[_Target], int]]:
        """Yield size, kind, key and versions of each ref that has several, and how many were left out."""
        kept = list_all_kept(self._repository)
        for ref in self._survey.stats.refs:
            kind, name = ref.kind_and_name()
            if kind not in _DIRECTORIES:
                continue
            key = HistoryKey(_DIRECTORIES[kind], name)
            current = current_target(self._repository, key)
            if current is None:
                continue
            set_s = time_of_ref(self._repository, key.directory, ref_of(key)) / 1e6
            earlier = [one for one in kept.get(key, ()) if one.target != current]
            targets = [_Target(current, set_s, is_kept=False)]
            targets += [_Target(one.target, one.set_us / 1e6, is_kept=True) for one in earlier]
            targets += islice(self._iter_ancestors(targets), self._limits.versions + _COUNTED_ANCESTORS)
            if len(targets) > 1:
                left_out = max(0, len(targets) - self._limits.versions)
                yield ref.bytes, kind, key, targets[: self._limits.versions], left_out

    def _iter_ancestors(self, targets: list[_Target]) -> Iterator[_Target]:
        """Yield the stored ancestors of what a ref names that are not among its earlier targets."""
        known = {target.entry for target in targets}
        entry = self._find_parent(targets[0].entry)
        while entry is not None and entry in self._survey.marker.streams.entries:
            if entry not in known:
                known.add(entry)
                yield _Target(entry, None, is_kept=False)
            entry = self._find_parent(entry)

    def _find_parent(self, entry: str) -> str | None:
        version = self._find_version(entry)
        return None if version is None else version.parent

    def _find_version(self, entry: str) -> StoredVersion | None:
        kind = find_claiming(entry)
        try:
            return None if kind is None else kind.find_version(self._repository, entry)
        except (CfsError, OSError) as error:
            self._problems.append(f"{entry}: {error}")
            return None

    def _read_history(self, kind: str, key: HistoryKey, targets: list[_Target], left_out: int) -> RefHistory:
        self._problems = []
        versions: list[ReportedVersion] = []
        older: set[ObjectID] | None = None
        tree: _Tree | None = None
        # From the oldest on, so that each needs only the one before.
        for index, target in reversed(list(enumerate(targets))):
            needed = self._measure(key, target)
            version = self._describe(key, target, is_current=index == 0)
            size, new = self._sizes(needed, older)
            version = replace(version, size_bytes=size, new_bytes=new)
            if self._comparisons > 0:
                read = self._read_tree(key, target)
                if tree is not None and read is not None:
                    self._comparisons -= 1
                    version = replace(version, changes=self._compare(tree, read))
                tree = read
            versions.append(version)
            older = needed
        problems = tuple(dict.fromkeys(self._problems))
        return RefHistory(
            kind=kind, name=key.name, versions=tuple(reversed(versions)), left_out=left_out, problems=problems
        )

    def _describe(self, key: HistoryKey, target: _Target, *, is_current: bool) -> ReportedVersion:
        said = None if key.directory == IMAGES else self._find_version(target.entry)
        return ReportedVersion(
            name=describe_target(self._repository, key.directory, target.entry),
            is_current=is_current,
            is_kept=target.is_kept,
            set_s=target.set_s,
            made_s=None if said is None else said.made_s,
            version=None if said is None else said.version,
            title="" if said is None else said.title,
            size_bytes=None,
            new_bytes=None,
            changes=None,
        )

    def _measure(self, key: HistoryKey, target: _Target) -> set[ObjectID] | None:
        """Return all objects that a version needs, or None if it is not stored."""
        marker = self._survey.marker
        if key.directory == IMAGES and target.entry in marker.images.entries:
            return marker.reach(marker.images, target.entry)
        entry = f"{IMAGE_STREAM}{target.entry}" if key.directory == IMAGES else target.entry
        return marker.reach(marker.streams, entry) if entry in marker.streams.entries else None

    def _sizes(
        self, needed: set[ObjectID] | None, older: set[ObjectID] | None
    ) -> tuple[int | None, int | None]:
        """Return the size of a version, and of what the one before it does not need."""
        size_of = self._survey.objects.size_of
        if needed is None:
            return None, None
        total = sum(map(size_of, needed))
        new = None if older is None else sum(size_of(one) for one in needed if one not in older)
        return total, new

    def _read_tree(self, key: HistoryKey, target: _Target) -> _Tree | None:
        """Return the tree of a version, or None if there is none that can be read."""
        from cfsctl.inspection.packages.find import find_packages  # few refs have a history

        try:
            root = self._open_tree(key, target)
        except (CfsError, OSError) as error:
            self._problems.append(f"{target.entry}: {error}")
            return None
        return None if root is None else _Tree(root, find_packages(root, self._reader))

    def _open_tree(self, key: HistoryKey, target: _Target) -> FileSystem | None:
        if key.directory == IMAGES:
            from cfsctl.erofs.read.tree import read_image  # few refs have a history

            with self._repository.images.map(target.entry) as data:
                return read_image(data, self._repository.algorithm)
        version = self._find_version(target.entry)
        return None if version is None else version.tree.read(self._reading, self._problems.append)

    def _compare(self, old: _Tree, new: _Tree) -> TreeChanges:
        from cfsctl.inspection.diff import iter_differences  # few refs have a history

        differences = iter_differences(old.root, new.root)
        return summarize(differences, self._limits.rows, (old.packages, new.packages))
