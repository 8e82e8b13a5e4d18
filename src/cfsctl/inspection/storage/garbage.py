"""What a collection would free, and why the rest stays."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Final

from cfsctl.inspection.storage.model import GarbageGroup, KeptReason
from cfsctl.repository.gc.object_table import ABSENT, Mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.repository.gc.marks import CategoryMarks
    from cfsctl.repository.gc.object_table import ObjectTable
    from cfsctl.repository.gc.survey import Survey

_GARBAGE: Final = Mark.DEAD | Mark.TAKEN
_MAX_FOLLOWED: Final = 500
"""Entries without a ref that are followed, to tell what belongs to each."""


def group_garbage(survey: Survey, rows: int) -> tuple[GarbageGroup, ...]:
    """Return what a collection would remove by the image or stream that it belongs to, the largest first."""
    found = []
    for links, entry in _iter_dead_entries(survey):
        sizes = _take(survey.objects, survey.marker.reach(links, entry))
        name = f"{links.category.name}/{entry}"
        found.append(GarbageGroup(name=name, objects=len(sizes), size_bytes=sum(sizes)))
    groups = heapq.nsmallest(rows, found, key=lambda group: (-group.size_bytes, group.name))
    objects = survey.collection.objects_removed - sum(group.objects for group in groups)
    size = survey.collection.bytes_removed - sum(group.size_bytes for group in groups)
    return (*groups, *([GarbageGroup(name="", objects=objects, size_bytes=size)] if objects else []))


def _take(objects: ObjectTable, needed: Iterable[ObjectID]) -> list[int]:
    """Return the sizes of the garbage among objects that was not taken before."""
    taken = []
    for number in map(objects.find, needed):
        if number != ABSENT and objects.marks[number] & _GARBAGE == Mark.DEAD:
            objects.marks[number] |= Mark.TAKEN
            taken.append(objects.sizes[number])
    return taken


def _iter_dead_entries(survey: Survey) -> Iterator[tuple[CategoryMarks, str]]:
    """Yield entries that lead to garbage, streams before the images that they name."""
    followed = 0
    for links in (survey.marker.streams, survey.marker.images):
        for entry in sorted(links.entries):
            if followed >= _MAX_FOLLOWED:
                return
            number = survey.objects.find(links.entries[entry])
            if number != ABSENT and survey.objects.marks[number] & _GARBAGE == Mark.DEAD:
                followed += 1
                yield links, entry


def find_reasons(survey: Survey) -> tuple[KeptReason, ...]:
    """Return why objects stay: which kinds of refs lead to them, or what else does."""
    kinds = [ref.kind_and_name()[0] for ref in survey.stats.refs]
    objects, total = Counter[str](), Counter[str]()
    for size, owner, marks in zip(
        survey.objects.sizes, survey.objects.owners, survey.objects.marks, strict=True
    ):
        if marks & Mark.MIXED:
            what = "several"
        elif owner != ABSENT:
            what = f"ref {kinds[owner]}"
        elif marks & Mark.DEAD:
            continue
        else:
            what = "other"
        objects[what] += 1
        total[what] += size
    reasons = [_reason(kind, kinds.count(kind), f"ref {kind}", objects, total) for kind in sorted(set(kinds))]
    if objects["several"]:
        reasons.append(_reason("several", 0, "several", objects, total))
    if objects["other"]:
        reasons.append(_reason("other", len(survey.collection.mounts), "other", objects, total))
    return tuple(reasons)


def _reason(what: str, count: int, key: str, objects: Counter[str], total: Counter[str]) -> KeptReason:
    return KeptReason(what=what, count=count, only_bytes=total[key], only_objects=objects[key])
