"""Options and result of a pull."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.delta.store import DeltaStore
    from cfsctl.ostree.limits import PlanLimits
    from cfsctl.ostree.tree.subpaths import SubpathFilter
    from cfsctl.ostree.tree.to_tree import XattrNames
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.ostree.trust.verdict import ValidSignature


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull did.

    Attributes:
        commit: The commit.
        stream_id: Its splitstream object.
        image_id: Its image in the default format.
        tag: The tag that names it now, or None.
        metadata_fetched: Commits, dirtrees and dirmetas that came from the source.
        files_fetched: Content objects that came from the source.
        received_bytes: Size of all of them, as they came.
        stored_objects: Content that was new in the repository.
        stored_bytes: Size of that.
        is_partial: Whether only a part of the commit is here.
        delta_parts: Parts of a static delta that made some of these objects.
        verified: The signatures by which the commit is trusted, if any had to be.
    """

    commit: Checksum
    stream_id: ObjectID
    image_id: ObjectID
    tag: str | None
    metadata_fetched: int = 0
    files_fetched: int = 0
    received_bytes: int = 0
    stored_objects: int = 0
    stored_bytes: int = 0
    delta_parts: int = 0
    is_partial: bool = False
    verified: tuple[ValidSignature, ...] = ()


class PullOptions(NamedTuple):
    """How a commit is pulled; see `cfsctl.ostree.pull.pull.pull`."""

    base_name: str | None
    workers: int | None
    xattr_names: XattrNames
    allow_downgrade: bool
    limits: PlanLimits
    deltas: DeltaStore | None
    only_delta: bool
    part: SubpathFilter | None
    also_bases: Sequence[Checksum]
    requires_composefs_digest: bool
    trust: TrustPolicy | None
    from_scratch: bool = False
    allow_unverified: bool = False
    is_mirror: bool = False
