"""Pull a commit from a source into the repository, with its image and its names.

    source ─▶ resolve the ref ─▶ nothing new? done                  parent
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

from cfsctl.ostree.pull.options import DEFAULT_OPTIONS, PullOptions, PullResult
from cfsctl.ostree.pull.target import resolve_target
from cfsctl.ostree.pull.unchanged import find_unchanged
from cfsctl.progress import silent

if TYPE_CHECKING:
    from cfsctl.ostree.pull.dry_run import PullEstimate
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.ostree.store.opened_streams import OpenedStreams
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

__all__ = ["PullOptions", "PullResult", "estimate_pull", "pull"]


def pull(
    repository: Repository,
    source: ObjectSource,
    ref_or_commit: str,
    options: PullOptions = DEFAULT_OPTIONS,
    reporter: Reporter = silent,
    streams: OpenedStreams | None = None,
) -> PullResult:
    """Bring a commit into the repository, and make the tag of its ref name it.

    Args:
        repository: Where it goes.
        source: Where it comes from.
        ref_or_commit: A ref of the source, which also becomes the tag, or 64 hex digits.
        options: How it is pulled.
        reporter: Told about progress, and what was found damaged.
        streams: Keeps stored commits that were decoded for further pulls; None keeps none.

    Returns:
        What was done. If a ref was given, its tag names the commit now, also if all was there before.

    Raises:
        SourceError, RefNotFoundError, ObjectMissingError, FetchError: The source lacks something, or does not
            answer as it should.
        FormatError, IntegrityError: Something is not valid; the message names the object.
        PolicyError: The commit must not have this ref, or is not signed as it has to be.
        CommitNotFoundError: There is no commit of the base name.
        InvalidSubpathError, SubpathNotFoundError: A subpath cannot be one, or the commit does not have it.
        OSError: Something could not be stored.
    """
    repository.check_writable()
    target = resolve_target(source, ref_or_commit)
    unchanged = find_unchanged(repository, target, options)
    if unchanged is not None:
        return unchanged
    from cfsctl.ostree.pull.run import run_pull  # half of what a daily pull takes, if it finds nothing new
    from cfsctl.ostree.pull.task import make_task

    return run_pull(make_task(repository, source, target, options, reporter, streams=streams))


def estimate_pull(
    repository: Repository,
    source: ObjectSource,
    ref_or_commit: str,
    options: PullOptions = DEFAULT_OPTIONS,
    reporter: Reporter = silent,
) -> PullEstimate:
    """Find out what `pull` with the same arguments would do, and change nothing.

    The commit is fetched and has to pass the same checks. If it says how large its objects are, or a delta is
    to be used, nothing else is fetched; else its metadata are, so that what is missing can be counted.

    Raises:
        CfsError: As `pull`, for all that comes before the content.
    """
    from cfsctl.ostree.pull.dry_run import run_dry  # most pulls just pull
    from cfsctl.ostree.pull.task import make_task

    target = resolve_target(source, ref_or_commit)
    return run_dry(make_task(repository, source, target, options, reporter, writes=False))
