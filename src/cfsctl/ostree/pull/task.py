"""What every step of a pull works on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.ostree.objects.held_objects import HeldObjects
from cfsctl.ostree.plan import PullPlan
from cfsctl.ostree.pull.preparation import Preparation
from cfsctl.ostree.store.opened_streams import OpenedStreams
from cfsctl.ostree.store.refs import tag_ref
from cfsctl.ostree.tree.subpaths import parse_subpaths

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.delta.store import DeltaStore
    from cfsctl.ostree.pull.options import PullOptions
    from cfsctl.ostree.pull.target import Target
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.ostree.tree.subpaths import SubpathFilter
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository


class PullTask(NamedTuple):
    """One commit to pull.

    Attributes:
        repository: Where it goes.
        source: Where it comes from.
        checksum: The commit.
        tag: The tag that is to name it, or None.
        options: How it is pulled.
        report: Told about progress, and what was found damaged.
        part: The paths that are pulled, or None for all of it.
        plan: What is needed of it, and what has arrived.
        streams: Stored commits that were decoded, by this pull or by others.
        preparation: What is made of the tree before all files are here.
    """

    repository: Repository
    source: ObjectSource
    checksum: Checksum
    tag: str | None
    options: PullOptions
    report: Reporter
    part: SubpathFilter | None
    plan: PullPlan
    streams: OpenedStreams
    preparation: Preparation

    @property
    def tag_ref(self) -> str | None:
        """The ref that the tag is."""
        return None if self.tag is None else tag_ref(self.tag)

    @property
    def is_partial(self) -> bool:
        """Whether only some paths are pulled."""
        return self.part is not None

    @property
    def usable_deltas(self) -> DeltaStore | None:
        """Where to look for deltas; for a part of a commit nowhere, since a delta makes all of it."""
        return None if self.is_partial else self.options.deltas


def make_task(
    repository: Repository,
    source: ObjectSource,
    target: Target,
    options: PullOptions,
    report: Reporter,
    *,
    writes: bool = True,
    streams: OpenedStreams | None = None,
) -> PullTask:
    """Return the task to pull a commit that a source has.

    Raises:
        InvalidSubpathError: A subpath cannot be one.
    """
    part = parse_subpaths(options.subpaths)
    checksum, tag = target
    objects = HeldObjects(repository.objects) if writes else HeldObjects(forgets_data=part is None)
    return PullTask(
        repository=repository,
        source=source,
        checksum=checksum,
        tag=tag,
        options=options,
        report=report,
        part=part,
        plan=PullPlan(checksum, limits=options.limits, part=part, objects=objects),
        streams=OpenedStreams() if streams is None else streams,
        preparation=Preparation(options.xattr_names),
    )
