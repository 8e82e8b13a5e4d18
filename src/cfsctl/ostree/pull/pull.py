"""Pull a commit from a source into the repository, with its image and its names.

    source ─▶ resolve the ref                                       parent
           ─▶ metadata ─▶ PullPlan: verified, expanded              parent
           ─▶ content  ─▶ FileImporter: verified, stored            workers
    plan complete ─▶ tree ─▶ images ─▶ commit stream                parent
    barrier ─▶ images/<id>, streams/ostree-commit-<hex>, then the tag

Until the barrier, only objects have names. So an interrupted pull never leaves a partial commit under a
commit's name, only objects that the next pull reuses or a collection removes. Of a stored commit, only
missing objects are fetched. What a failed pull has fetched is stored under a separate name, and is not
fetched again either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.ostree.plan import DEFAULT_LIMITS
from cfsctl.ostree.pull.options import PullOptions, PullResult
from cfsctl.ostree.pull.run import PullRun
from cfsctl.ostree.store.refs import (
    parse_commit_id,
    tag_ref,
)
from cfsctl.ostree.tree.subpaths import parse_subpaths
from cfsctl.ostree.tree.to_tree import XattrNames
from cfsctl.progress import silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.digest import Checksum
    from cfsctl.ostree.delta.store import DeltaStore
    from cfsctl.ostree.limits import PlanLimits
    from cfsctl.ostree.pull.dry_run import PullEstimate
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

__all__ = ["PullResult", "forecast", "pull"]


def pull(
    repository: Repository,
    source: ObjectSource,
    ref_or_commit: str,
    *,
    base_name: str | None = None,
    reporter: Reporter = silent,
    workers: int | None = None,
    xattr_names: XattrNames = XattrNames.STRIPPED,
    allow_downgrade: bool = False,
    limits: PlanLimits = DEFAULT_LIMITS,
    deltas: DeltaStore | None = None,
    only_delta: bool = False,
    subpaths: Sequence[str] = (),
    also_bases: Sequence[Checksum] = (),
    requires_composefs_digest: bool = False,
    trust: TrustPolicy | None = None,
    from_scratch: bool = False,
    allow_unverified: bool = False,
    is_mirror: bool = False,
) -> PullResult:
    """Bring a commit into the repository, and make the tag of its ref name it.

    Args:
        repository: Where it goes.
        source: Where it comes from.
        ref_or_commit: A ref of the source, which also becomes the tag, or 64 hex digits.
        base_name: A stored commit (tag, ID or prefix) whose objects need not be fetched.
        reporter: Told about progress, and about what was found damaged.
        workers: Number of processes for content; 0 works in this one, None uses all processors.
        xattr_names: How names of extended attributes go into the image.
        allow_downgrade: Let the tag go back in time.
        limits: What a commit may ask for.
        deltas: Where to look for static deltas; None takes none.
        only_delta: Fail if no delta can be used.
        requires_composefs_digest: Refuse a commit without libostree's composefs digest, or with a wrong one.
        also_bases: Further commits whose objects need not be fetched, asked from the last one on.
        subpaths: Pull only what is at these paths; what was pulled of the commit before stays.
        trust: What the commit has to prove; what a summary has to, its source sees to.
        from_scratch: Take nothing from stored streams, so that one that is wrong is replaced.
        allow_unverified: Let the tag be moved from a commit that was verified to one that is not.
        is_mirror: The source has named the ref, and not the user.

    Returns:
        What was done. If a ref was given, its tag names the commit now, also if all was there before.

    Raises:
        SourceError, FetchError: The source lacks something, or does not answer as it should.
        FormatError, IntegrityError: Something is not valid; the message names the object.
        PolicyError: The commit must not have this ref, or is not signed as it has to be.
        CommitNotFoundError: There is no commit of the base name.
        InvalidSubpathError, SubpathNotFoundError: A subpath is none, or the commit does not have it.
        OSError: Something could not be stored.
    """
    part = parse_subpaths(subpaths)
    repository.check_writable()
    options = PullOptions(
        base_name,
        workers,
        xattr_names,
        allow_downgrade,
        limits,
        deltas,
        only_delta,
        part,
        also_bases,
        requires_composefs_digest,
        trust,
        from_scratch,
        allow_unverified,
        is_mirror,
    )
    return PullRun(repository, source, *_resolve(source, ref_or_commit), options, reporter).run()


def forecast(
    repository: Repository,
    source: ObjectSource,
    ref_or_commit: str,
    *,
    base_name: str | None = None,
    reporter: Reporter = silent,
    allow_downgrade: bool = False,
    limits: PlanLimits = DEFAULT_LIMITS,
    deltas: DeltaStore | None = None,
    subpaths: Sequence[str] = (),
    requires_composefs_digest: bool = False,
    trust: TrustPolicy | None = None,
    allow_unverified: bool = False,
    is_mirror: bool = False,
) -> PullEstimate:
    """Find out what `pull` with the same arguments would do, and change nothing.

    The commit is fetched and has to pass the same checks. If it says how large its objects are, or a delta is
    to be used, nothing else is fetched; else its metadata are, so that what is missing can be counted.

    Raises:
        CfsError: As `pull`, for all that comes before the content.
    """
    from cfsctl.ostree.pull.dry_run import PullEstimateRun  # noqa: PLC0415 - most pulls just pull

    options = PullOptions(
        base_name,
        workers=0,
        xattr_names=XattrNames.STRIPPED,
        allow_downgrade=allow_downgrade,
        limits=limits,
        deltas=deltas,
        only_delta=False,
        part=parse_subpaths(subpaths),
        also_bases=(),
        requires_composefs_digest=requires_composefs_digest,
        trust=trust,
        allow_unverified=allow_unverified,
        is_mirror=is_mirror,
    )
    return PullEstimateRun(repository, source, *_resolve(source, ref_or_commit), options, reporter).forecast()


def _resolve(source: ObjectSource, ref_or_commit: str) -> tuple[Checksum, str | None]:
    """Return the commit that a user names, and the tag that names it then."""
    checksum = parse_commit_id(ref_or_commit)
    if checksum is not None:
        # Nothing is looked up in the summary then; if it must be signed, it must be all the same.
        if check_summary := getattr(source, "check_summary", None):
            check_summary()
        return checksum, None
    tag_ref(ref_or_commit)  # Refused before anything is asked for.
    return source.resolve_ref(ref_or_commit), ref_or_commit
