"""What a collection would free, and why the rest stays."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from cfsctl.inspection.storage.model import GarbageGroup, KeptReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.repository.gc.marks import CategoryMarks
    from cfsctl.repository.gc.survey import Survey

_MAX_FOLLOWED: Final = 500
"""Entries without a ref that are followed, to tell what belongs to each."""


def group_garbage(survey: Survey, rows: int) -> tuple[GarbageGroup, ...]:
    """Return what a collection would remove by the image or stream that it belongs to, the largest first."""
    left = {dead.object_id: dead.size for dead in survey.garbage.dead}
    found = []
    for links, entry in _iter_dead_entries(survey, left):
        mine = [left.pop(one) for one in survey.marker.reach(links, entry) if one in left]
        name = f"{links.category.name}/{entry}"
        found.append(GarbageGroup(name=name, objects=len(mine), size_bytes=sum(mine)))
    groups = heapq.nsmallest(rows, found, key=lambda group: (-group.size_bytes, group.name))
    objects = len(survey.garbage.dead) - sum(group.objects for group in groups)
    size = survey.garbage.result.bytes_removed - sum(group.size_bytes for group in groups)
    return (*groups, *([GarbageGroup(name="", objects=objects, size_bytes=size)] if objects else []))


def _iter_dead_entries(survey: Survey, dead: dict[ObjectID, int]) -> Iterator[tuple[CategoryMarks, str]]:
    """Yield entries that lead to garbage, streams before the images that they name."""
    followed = 0
    for links in (survey.marker.streams, survey.marker.images):
        for entry in sorted(links.entries):
            if links.entries[entry] in dead and followed < _MAX_FOLLOWED:
                followed += 1
                yield links, entry


def find_reasons(survey: Survey) -> tuple[KeptReason, ...]:
    """Return why objects stay: which kinds of refs lead to them, or what else does."""
    kinds, sizes, owners = survey.owners.kinds, survey.sizes, survey.owners
    objects, total = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    for object_id, index in owners.first.items():
        if object_id in sizes and object_id not in owners.mixed:
            objects[kinds[index]] += 1
            total[kinds[index]] += sizes[object_id]
    reasons = [
        KeptReason(what=kind, count=kinds.count(kind), only_bytes=total[kind], only_objects=objects[kind])
        for kind in sorted(objects)
    ]
    mixed = [sizes[one] for one in owners.mixed if one in sizes]
    if mixed:
        reasons.append(KeptReason(what="several", count=0, only_bytes=sum(mixed), only_objects=len(mixed)))
    others = [sizes[one] for one in survey.garbage.live if one in sizes and one not in owners.first]
    if others:
        mounts = len(survey.garbage.result.mounts)
        reasons.append(
            KeptReason(what="other", count=mounts, only_bytes=sum(others), only_objects=len(others))
        )
    return tuple(reasons)
