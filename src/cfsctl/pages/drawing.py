"""Draw reports."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from cfsctl.inspection.storage.model import StoreReport
from cfsctl.pages.templating import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.inspection.storage.model import DiffReport
    from cfsctl.repository.gc.stats import RefStats

KINDS: Final = {
    "image": "image",
    "commit": "OSTree commit",
    "part": "part of a commit",
    "oci": "OCI image",
    "artifact": "OCI artifact",
    "kept": "kept earlier version",
    "stream": "stream",
}
"""What kinds of refs are called."""


def iter_page(report: StoreReport | DiffReport, rows: int) -> Iterator[bytes]:
    """Yield the page of a report in pieces, in UTF-8.

    Args:
        report: What it says.
        rows: Refs that are listed, the largest first.
    """
    if isinstance(report, StoreReport):
        refs = _largest_refs(report.stats.refs, rows)
        return fill("store.html", report=report, refs=refs, kinds=KINDS)
    return fill("diff.html", report=report)


def _largest_refs(refs: list[RefStats], rows: int) -> list[RefStats]:
    return heapq.nsmallest(rows, refs, key=lambda ref: (-ref.bytes, ref.name))
