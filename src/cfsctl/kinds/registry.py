"""The kinds of streams that this program knows."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.kinds.kind import Remarks, StreamKind
    from cfsctl.repository import Repository


@cache
def stream_kinds() -> tuple[StreamKind, ...]:
    """Return all kinds, in the order in which they are asked for a name."""
    # Not above: each of them imports this module's neighbours, and few commands ask for any.
    from cfsctl.kinds.oci import OciKind
    from cfsctl.kinds.ostree import OstreeKind

    return (
        OstreeKind(),
        OciKind(),
    )


def find_claiming(name: str) -> StreamKind | None:
    """Return the kind that a content identifier says it is of, or None."""
    return next((kind for kind in stream_kinds() if kind.claims(name)), None)


def find_by_prefix(prefix: str) -> StreamKind | None:
    """Return the kind whose trees have a prefix, or None."""
    return next((kind for kind in stream_kinds() if prefix and kind.tree_prefix == prefix), None)


def prepare_collection(repository: Repository) -> None:
    """Remove names that are no longer needed; see `StreamKind.prepare_collection`."""
    for kind in stream_kinds():
        kind.prepare_collection(repository)


def find_remarks(repository: Repository) -> Remarks:
    """Return what all kinds say about their streams."""
    from cfsctl.kinds.kind import Remarks  # which the kinds have imported

    found = list(_iter_remarks(repository))
    lines = [line for remarks in found for line in remarks.lines]
    return Remarks(lines, {key: value for remarks in found for key, value in remarks.document.items()})


def _iter_remarks(repository: Repository) -> Iterator[Remarks]:
    for kind in stream_kinds():
        if (remarks := kind.find_remarks(repository)) is not None:
            yield remarks
