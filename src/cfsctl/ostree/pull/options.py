"""Options and result of a pull."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cfsctl.ostree.limits import PlanLimits
from cfsctl.ostree.tree.xattr_names import XattrNames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.delta.store import DeltaStore
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
        is_partial: Whether the commit is partial.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """How a commit is pulled.

    Attributes:
        base_name: A stored commit (tag, ID or prefix) whose objects need not be fetched.
        also_bases: Further commits whose objects need not be fetched, asked from the last one on.
        subpaths: Pull only what is at these paths; what was pulled of the commit before stays.
        trust: What the commit has to prove; what a summary has to, its source sees to.
        allow_downgrade: Let the tag go back in time.
        allow_unverified: Let the tag be moved from a commit that was verified to one that is not.
        requires_composefs_digest: Refuse a commit without libostree's composefs digest, or with a wrong one.
        is_mirror: The source has named the ref, and not the user.
        xattr_names: How names of extended attributes go into the image.
        deltas: Where to look for static deltas; None takes none.
        only_delta: Fail if no delta can be used.
        from_scratch: Take nothing from stored streams, so that one that is wrong is replaced.
        workers: Number of processes for content; 0 works in this one, None uses all processors.
        limits: What a commit may ask for.
    """

    base_name: str | None = None
    also_bases: Sequence[Checksum] = ()
    subpaths: Sequence[str] = ()
    trust: TrustPolicy | None = None
    allow_downgrade: bool = False
    allow_unverified: bool = False
    requires_composefs_digest: bool = False
    is_mirror: bool = False
    xattr_names: XattrNames = XattrNames.STRIPPED
    deltas: DeltaStore | None = None
    only_delta: bool = False
    from_scratch: bool = False
    workers: int | None = None
    limits: PlanLimits = field(default_factory=PlanLimits)

    def __post_init__(self) -> None:
        """Check the paths, before anything is opened.

        Raises:
            InvalidSubpathError: One of them cannot be a path within a tree.
        """
        if self.subpaths:
            from cfsctl.ostree.tree.subpaths import parse_subpaths  # most pulls are whole

            parse_subpaths(self.subpaths)


DEFAULT_OPTIONS: Final = PullOptions()
