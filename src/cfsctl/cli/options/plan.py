"""Print what a pull would do: ``--plan`` of the commands that pull."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.cli.output import print_document, print_line
from cfsctl.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    from cfsctl.cli.context import Session
    from cfsctl.cli.options.pull import PullArguments
    from cfsctl.ostree.delta.store import DeltaStore
    from cfsctl.ostree.pull.dry_run import PullEstimate
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.ostree.trust.policy import TrustPolicy


def plan_from(
    source: ObjectSource,
    session: Session,
    deltas: DeltaStore | None,
    trust: TrustPolicy | None,
    **arguments: Unpack[PullArguments],
) -> int:
    """Print what a pull from a source, which is closed afterwards, would do.

    Returns:
        The exit status: whether there is room, as far as is known.
    """
    from cfsctl.ostree.pull.pull import forecast  # noqa: PLC0415 - keeps --help quick

    found: list[PullEstimate] = []
    try:
        with session.open_repository() as repository:
            for ref in arguments["refs"] or source.list_ref_names():
                one = forecast(
                    repository,
                    source,
                    ref,
                    base_name=arguments["base_name"],
                    reporter=session.progress,
                    allow_downgrade=arguments["allow_downgrade"],
                    allow_unverified=arguments["allow_unverified"],
                    is_mirror=arguments["mirror"],
                    deltas=deltas,
                    trust=trust,
                    subpaths=arguments["subpaths"],
                    requires_composefs_digest=arguments["require_composefs_digest"],
                )
                if not arguments["as_json"]:
                    _show(one, is_first=not found)
                found.append(one)
    finally:
        source.close()
    if arguments["as_json"]:
        print_document({"plans": [one.as_dict() for one in found]})
    return ExitCode.NO_SPACE if any(one.has_room is False for one in found) else ExitCode.OK


def _show(found: PullEstimate, *, is_first: bool) -> None:
    if not is_first:
        print_line()
    for line in _lines(found):
        print_line(line)


def _lines(found: PullEstimate) -> Iterator[str]:
    yield f"commit  {found.commit.hex()}"
    if found.tag is not None:
        yield f"ref     {found.tag}"
    for one in found.verified:
        yield f"signed  {one.describe()}"
    if found.is_here:
        yield "fetch   nothing: the commit is here"
        return
    what = "objects" if found.delta is None else "delta parts and objects"
    size = "of unknown size" if found.fetch_bytes is None else f"of {found.fetch_bytes} bytes"
    yield f"fetch   {found.requests} {what} {size}"
    if found.delta is not None:
        yield f"delta   {found.delta.removeprefix('delta ')}, {found.delta_parts} parts"
    needed = "unknown" if found.needed_bytes is None else f"at most {found.needed_bytes} bytes"
    yield f"room    {needed} needed, {found.free_bytes} bytes free"
