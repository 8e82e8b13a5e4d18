"""Explanations of image IDs as text and as JSON."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from cfsctl.digest import Algorithm, qualified
from cfsctl.inspection.report import iter_text, to_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.inspection.explain import Explanation, Nearest
    from cfsctl.inspection.sources import TreeInput

SHOWN_DIFFERENCES: Final = 20
"""Lines about the nearest tree that are printed; a comparison has them all."""


def iter_explanation(
    source: TreeInput, expected: ObjectID, explanation: Explanation | None, nearest: Nearest | None
) -> Iterator[str]:
    """Yield what was found out, a line each.

    Args:
        source: What was to be explained.
        expected: The image ID.
        explanation: How it is made, if that was found.
        nearest: The most similar tree, if no explanation was found but the image is available.
    """
    if explanation is not None:
        yield f"{qualified(expected)} is {source.description}: {explanation.describe()}"
        command = explanation.variant.command(Algorithm.of_digest(expected).hash_name)
        if command is not None and source.find_algorithm() is None:
            yield f"  {command}"
        return
    yield f"no known set of options gives {qualified(expected)} for {source.description}"
    if nearest is None:
        yield "name the image with --image to see what is different"
        return
    yield f"nearest: {nearest.describe()}"
    if not nearest.differences:
        yield "  nothing is different in the tree; the image was written in another way"
    lines = iter_text(nearest.differences)
    for line in islice(lines, SHOWN_DIFFERENCES):
        yield f"  {line}"
    more = sum(1 for _ in lines)
    if more:
        yield f"  and {more} more"


def explanation_document(
    expected: ObjectID, explanation: Explanation | None, nearest: Nearest | None
) -> dict[str, object]:
    """Return what was found out as a JSON document; see `iter_explanation`."""
    document: dict[str, object] = {"expected": qualified(expected), "explained": explanation is not None}
    if explanation is not None:
        document["description"] = explanation.describe()
        document["options"] = explanation.variant.as_dict()
        document["command"] = explanation.variant.command(Algorithm.of_digest(expected).hash_name)
    if nearest is not None:
        document["nearest"] = {
            "description": nearest.describe(),
            "differences": to_document(nearest.differences),
        }
    return document
