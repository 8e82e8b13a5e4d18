"""Print what a pull would do: ``--plan`` of the commands that pull."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.cli.output import print_document, print_line, print_lines
from cfsctl.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    import cfsctl


def print_estimates(estimates: Iterator[cfsctl.PullEstimate], *, as_json: bool) -> int:
    """Print what pulls would do.

    Returns:
        The exit status: whether there is room, if known.
    """
    found: list[cfsctl.PullEstimate] = []
    for one in estimates:
        if not as_json:
            if found:
                print_line()
            print_lines(_lines(one))
        found.append(one)
    if as_json:
        print_document({"plans": [one.as_dict() for one in found]})
    return ExitCode.NO_SPACE if any(one.has_room is False for one in found) else ExitCode.OK


def _lines(found: cfsctl.PullEstimate) -> Iterator[str]:
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
    if found.choice is not None:
        yield f"choice  the best delta is {found.choice}"
    needed = "unknown" if found.needed_bytes is None else f"at most {found.needed_bytes} bytes"
    yield f"room    {needed} needed, {found.free_bytes} bytes free"
