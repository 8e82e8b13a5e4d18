"""What is different between two trees, in numbers and with the largest entries."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Final

from cfsctl.inspection.contents.place import is_file
from cfsctl.inspection.diff import TYPE_NAMES, Added, Attribute, Changed, Removed, file_size
from cfsctl.inspection.storage.model import (
    ChangedArea,
    ChangedEntry,
    ChangeKind,
    ChangeTally,
    PackageChange,
    PackagePair,
    TreeChanges,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.inspection.diff import Difference, Entry
    from cfsctl.inspection.packages.find import Packages
    from cfsctl.inspection.packages.package import Package

_CONTENT: Final = frozenset({Attribute.CONTENT, Attribute.TYPE, Attribute.TARGET, Attribute.DEVICE})
"""Attributes that make an entry another thing, not the same with another label."""

_AREA_DEPTH: Final = 2
_MAX_AREAS: Final = 10_000
_SHOWN_AREAS: Final = 12


def summarize(
    differences: Iterable[Difference], rows: int, packages: tuple[Packages, Packages] | None = None
) -> TreeChanges:
    """Return what is different between two trees.

    Args:
        differences: As `cfsctl.inspection.diff.iter_differences` yields them; only some are held.
        rows: Entries and packages that are kept, those with the most bytes.
        packages: The packages of both trees.
    """
    tally = ChangeTally()
    areas: dict[bytes, ChangeTally] = {}
    entries = heapq.nsmallest(rows, _count(differences, tally, areas), key=_order)
    largest = heapq.nsmallest(_SHOWN_AREAS, areas.items(), key=lambda item: (-_bytes_of(item[1]), item[0]))
    changed = [] if packages is None else list(iter_package_changes(*packages))
    return TreeChanges(
        tally=tally,
        entries=tuple(entries),
        areas=tuple(ChangedArea(path=path, tally=found) for path, found in largest),
        packages=tuple(islice(changed, rows)),
        packages_left_out=max(0, len(changed) - rows),
        databases=() if packages is None else tuple(sorted({*packages[0].databases, *packages[1].databases})),
        problems=() if packages is None else _join_problems(*packages),
    )


def _join_problems(old: Packages, new: Packages) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*old.problems, *new.problems)))


def _order(entry: ChangedEntry) -> tuple[int, bytes]:
    return -entry.weight, entry.path


def _bytes_of(tally: ChangeTally) -> int:
    return tally.added_bytes + tally.removed_bytes


def _count(
    differences: Iterable[Difference], tally: ChangeTally, areas: dict[bytes, ChangeTally]
) -> Iterator[ChangedEntry]:
    for difference in differences:
        entry, is_content = _describe(difference)
        area = _area_of(entry.path)
        if area not in areas and len(areas) >= _MAX_AREAS:
            area = b"/"
        for counted in (tally, areas.setdefault(area, ChangeTally())):
            _add(counted, entry, is_content=is_content)
        yield entry


def _area_of(path: bytes) -> bytes:
    """Return the directory near the root that an entry is in."""
    return b"/" + b"/".join(path.split(b"/")[1:-1][:_AREA_DEPTH])


def _add(tally: ChangeTally, entry: ChangedEntry, *, is_content: bool) -> None:
    tally.added += entry.kind is ChangeKind.ADDED
    tally.removed += entry.kind is ChangeKind.REMOVED
    tally.content += entry.kind is ChangeKind.CHANGED and is_content
    tally.metadata += entry.kind is ChangeKind.CHANGED and not is_content
    if is_content:
        tally.added_bytes += entry.new_bytes or 0
        tally.removed_bytes += entry.old_bytes or 0


def _describe(difference: Difference) -> tuple[ChangedEntry, bool]:
    match difference:
        case Added(path, node):
            kind = TYPE_NAMES[node.file_type]
            return _entry(ChangeKind.ADDED, path, None, node, kind), True
        case Removed(path, node):
            kind = TYPE_NAMES[node.file_type]
            return _entry(ChangeKind.REMOVED, path, node, None, kind), True
        case Changed(path, changes):
            names = ", ".join(dict.fromkeys(change.attribute.value for change in changes))
            is_content = any(change.attribute in _CONTENT for change in changes)
            old, new = (difference.old, difference.new) if is_content else (None, None)
            return _entry(ChangeKind.CHANGED, path, old, new, names), is_content


def _entry(kind: ChangeKind, path: bytes, old: Entry | None, new: Entry | None, what: str) -> ChangedEntry:
    return ChangedEntry(kind=kind, path=path, old_bytes=_size(old), new_bytes=_size(new), what=what)


def _size(node: Entry | None) -> int | None:
    return file_size(node) if node is not None and is_file(node) else None


def iter_package_changes(old: Packages, new: Packages) -> Iterator[PackageChange]:
    """Yield the packages that are not the same, by name and architecture."""
    pairs: dict[tuple[str, str], PackagePair] = {}
    for key, packages in old.installed.items():
        pairs[key] = PackagePair(old=packages)
    for key, packages in new.installed.items():
        pairs.setdefault(key, PackagePair()).new = packages
    for key in sorted(pairs):
        pair = pairs[key]
        before, after = _versions(pair.old), _versions(pair.new)
        if before != after:
            kind = ChangeKind.ADDED if before is None else ChangeKind.CHANGED
            yield PackageChange(
                kind=ChangeKind.REMOVED if after is None else kind,
                name=key[0],
                architecture=key[1],
                old=before,
                new=after,
                size_change=_size_change(pair),
            )


def _versions(packages: tuple[Package, ...]) -> str | None:
    return ", ".join(package.version for package in packages) or None


def _size_change(pair: PackagePair) -> int | None:
    sizes = [package.size_bytes for package in (*pair.old, *pair.new)]
    if None in sizes:
        return None
    return sum(size or 0 for size in sizes[len(pair.old) :]) - sum(
        size or 0 for size in sizes[: len(pair.old)]
    )
