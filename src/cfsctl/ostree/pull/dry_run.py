"""Dry run of a pull: what would be fetched, with which delta, and whether there is enough space."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cfsctl.ostree.delta.choice import estimate_objects
from cfsctl.ostree.pull.find_bases import BaseFinder
from cfsctl.ostree.pull.get_commit import CommitGetter

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.delta.choice import Estimate
    from cfsctl.ostree.objects import Commit, ObjectKind
    from cfsctl.ostree.pull.task import PullTask
    from cfsctl.ostree.trust.verdict import ValidSignature
    from cfsctl.repository import Repository

IMAGE_SHARE: Final = 64
"""An image and a commit's stream together take less than one part in so many of what the files take.

At least `IMAGE_BYTES` are counted, so that an estimate is not too good."""

IMAGE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PullEstimate:
    """What a pull would do, as far as can be known before.

    Attributes:
        commit: The commit.
        tag: The tag that would name it, or None.
        is_here: Whether nothing has to be fetched.
        delta: The static delta that would be used, in words, or None.
        delta_parts: Parts of it that would be run.
        choice: Why that delta would be used, or the best one would not be; None if there is none, or
            nothing to compare it with.
        requests: Objects, parts and fallback objects to fetch.
        fetch_bytes: Bytes of all of them, as announced; None if unknown.
        store_bytes: Bytes of their content when it is stored; None if unknown.
        free_bytes: Bytes that are free where the repository is.
        verified: The signatures by which the commit is trusted, if any had to be.
    """

    commit: Checksum
    tag: str | None
    is_here: bool
    delta: str | None
    delta_parts: int
    requests: int
    fetch_bytes: int | None
    store_bytes: int | None
    free_bytes: int
    verified: tuple[ValidSignature, ...] = ()
    choice: str | None = None

    @property
    def needed_bytes(self) -> int | None:
        """Room that the pull needs, the image included; None if unknown."""
        if self.store_bytes is None:
            return None
        return self.store_bytes + max(IMAGE_BYTES, self.store_bytes // IMAGE_SHARE) if not self.is_here else 0

    @property
    def has_room(self) -> bool | None:
        """Whether there is room; None if unknown."""
        needed = self.needed_bytes
        return None if needed is None else needed <= self.free_bytes

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as a document."""
        return {
            "commit": self.commit.hex(),
            "tag": self.tag,
            "is_here": self.is_here,
            "delta": self.delta,
            "delta_parts": self.delta_parts,
            "choice": self.choice,
            "requests": self.requests,
            "fetch_bytes": self.fetch_bytes,
            "store_bytes": self.store_bytes,
            "needed_bytes": self.needed_bytes,
            "free_bytes": self.free_bytes,
            "has_room": self.has_room,
            "signatures": [one.as_dict() for one in self.verified],
            "verified": [one._asdict() for one in self.verified],
        }


def count_free_bytes(repository: Repository) -> int:
    """Return the number of free bytes on the repository's file system, for this user."""
    status = os.statvfs(repository.path)
    return status.f_bavail * status.f_frsize


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    """What would be fetched.

    Attributes:
        requests: Objects, parts and fallback objects.
        fetch_bytes: Bytes of all of them, as announced; None if unknown.
        store_bytes: Bytes of their content when it is stored; None if unknown.
        delta: The static delta that would be used, in words, or None.
        delta_parts: Parts of it that would be run.
    """

    requests: int
    fetch_bytes: int | None
    store_bytes: int | None
    delta: str | None = None
    delta_parts: int = 0


_NOTHING: Final = _Cost(requests=0, fetch_bytes=0, store_bytes=0)


def run_dry(task: PullTask) -> PullEstimate:
    """Find bases and get the commit as a pull does, and stop before what costs is fetched."""
    bases = BaseFinder(task, defers_look=False)
    # Whether the composefs digest is right, only the tree tells.
    also_check = _require_recorded if task.options.requires_composefs_digest else None
    getter = CommitGetter(task, bases, also_check)
    is_here = getter.find_here() is not None
    cost = _NOTHING if is_here else _cost_of_delta(task, getter) or _cost_of_objects(task, getter)
    return PullEstimate(
        commit=task.checksum,
        tag=task.tag,
        is_here=is_here,
        delta=cost.delta,
        delta_parts=cost.delta_parts,
        requests=cost.requests,
        fetch_bytes=cost.fetch_bytes,
        store_bytes=cost.store_bytes,
        free_bytes=count_free_bytes(task.repository),
        verified=getter.verifier.verified,
        choice=getter.choice,
    )


def _require_recorded(checksum: Checksum, commit: Commit) -> None:
    from cfsctl.ostree.tree.composefs_digest import require_recorded

    require_recorded(checksum, commit)


def _cost_of_delta(task: PullTask, getter: CommitGetter) -> _Cost | None:
    """Return what the delta costs that a pull would use, if it would use one."""
    deltas = task.usable_deltas
    if deltas is None:
        return None
    with contextlib.closing(getter.open_deltas(deltas)) as delta:
        candidate = getter.choose_delta(delta)
        if candidate is None:
            return None
        return _Cost(
            requests=candidate.estimate.requests,
            fetch_bytes=candidate.estimate.size_bytes,
            store_bytes=candidate.estimate.plain_bytes,
            delta=candidate.superblock.description,
            delta_parts=len(candidate.parts),
        )


def _cost_of_objects(task: PullTask, getter: CommitGetter) -> _Cost:
    """Return what fetching objects costs; where the commit does not say, its metadata are fetched."""
    plan = task.plan
    said: list[Estimate | None] = []

    def request() -> tuple[Checksum, ObjectKind] | None:
        if plan.commit is not None and not said:
            said.append(None if task.is_partial else estimate_objects(plan.commit, plan.is_in_base))
        return None if said and said[0] else plan.next_request()

    def deliver(checksum: Checksum, kind: ObjectKind, data: bytes) -> None:
        plan.deliver(checksum, kind, data)
        getter.accept_delivered(data)

    task.source.fetch_metadata(request, deliver)
    if said and (found := said[0]) is not None:
        return _Cost(requests=found.requests, fetch_bytes=found.size_bytes, store_bytes=found.plain_bytes)
    plan.check_tree()
    return _Cost(requests=plan.counts.metadata + len(plan.take_files()), fetch_bytes=None, store_bytes=None)
