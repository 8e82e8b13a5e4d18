"""Dry run of a pull: what would be fetched, with which delta, and whether there is enough space."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cfsctl.ostree.delta.choice import Estimate, estimate_objects
from cfsctl.ostree.pull.run import PullRun

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Commit, ObjectKind
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.ostree.trust.verdict import ValidSignature
    from cfsctl.repository import Repository

IMAGE_SHARE: Final = 64
"""An image and a commit's stream together take less than one part in so many of what the files take.

At least `IMAGE_BYTES` are counted, so that a forecast is not too good."""

IMAGE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class PullEstimate:
    """What a pull would do, as far as can be known before.

    Attributes:
        commit: The commit.
        tag: The tag that would name it, or None.
        is_here: Whether nothing has to be fetched.
        delta: The static delta that would be used, in words, or None.
        delta_parts: Parts of it that would be run.
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
        """Return the forecast as a document."""
        return {
            "commit": self.commit.hex(),
            "tag": self.tag,
            "is_here": self.is_here,
            "delta": self.delta,
            "delta_parts": self.delta_parts,
            "requests": self.requests,
            "fetch_bytes": self.fetch_bytes,
            "store_bytes": self.store_bytes,
            "needed_bytes": self.needed_bytes,
            "free_bytes": self.free_bytes,
            "has_room": self.has_room,
            "verified": [one._asdict() for one in self.verified],
        }


def count_free_bytes(repository: Repository) -> int:
    """Return how many bytes are free where the repository is, for whoever runs this."""
    status = os.statvfs(repository.path)
    return status.f_bavail * status.f_frsize


class PullEstimateRun(PullRun):
    """A pull that stops before it fetches what costs."""

    def forecast(self) -> PullEstimate:
        """Find out what `run` would do."""
        if self._find_here() is not None:
            return self._make_forecast(Estimate(0, 0), is_here=True)
        deltas = self._usable_deltas
        if deltas is not None:
            with contextlib.closing(self._make_delta_pull(deltas)) as delta:
                candidate = self._choose_delta(delta)
                if candidate is not None:
                    what = candidate.superblock.description
                    return self._make_forecast(candidate.estimate, what, len(candidate.parts))
        return self._make_forecast(self._count_objects())

    def _accept(
        self,
        commit: Commit,
        data: bytes,
        stored: CommitStream | None = None,
        embedded: bytes | None = None,
        *,
        needs_bases: bool = True,
    ) -> None:
        """Look at the commit as a pull does; whether its composefs digest is right, only its tree tells."""
        super()._accept(commit, data, stored, embedded, needs_bases=needs_bases)
        if self._options.requires_composefs_digest:
            from cfsctl.ostree.tree.composefs_digest import require_recorded  # noqa: PLC0415 - rare

            require_recorded(self._checksum, commit)

    def _count_objects(self) -> Estimate:
        """Return what fetching objects costs; sizes below zero are not known."""
        plan = self._plan
        said: list[Estimate | None] = []

        def request() -> tuple[Checksum, ObjectKind] | None:
            if plan.commit is not None and not said:
                is_all = self._options.part is None
                said.append(estimate_objects(plan.commit, plan.is_in_base) if is_all else None)
            return None if said and said[0] else plan.next_request()

        def deliver(checksum: Checksum, kind: ObjectKind, data: bytes) -> None:
            plan.deliver(checksum, kind, data)
            if not self._is_accepted and plan.commit is not None:
                self._accept(plan.commit, data)

        self._source.fetch_metadata(request, deliver)
        if said and said[0]:
            return said[0]
        plan.check_tree()
        return Estimate(-1, plan.counts.metadata + len(plan.take_files()), -1)

    def _make_forecast(
        self, estimate: Estimate, delta: str | None = None, delta_parts: int = 0, *, is_here: bool = False
    ) -> PullEstimate:
        is_known = estimate.size_bytes >= 0
        return PullEstimate(
            self._checksum,
            self._tag,
            is_here,
            delta,
            delta_parts,
            estimate.requests,
            estimate.size_bytes if is_known else None,
            estimate.plain_bytes if is_known else None,
            count_free_bytes(self._repository),
            self._admission.verified,
        )
