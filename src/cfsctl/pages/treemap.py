"""A squarified treemap: a rectangle for each part, with an area in proportion to its size.

Algorithm: Bruls, Huizing, van Wijk, "Squarified Treemaps" (2000). Rows are filled along the shorter side of
what is left, as long as that makes the worst rectangle of the row more like a square.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Rect(NamedTuple):
    """A rectangle.

    Attributes:
        x: Its left side.
        y: Its upper side.
        width: How wide it is.
        height: How high it is.
    """

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """What it covers."""
        return self.width * self.height


def squarify(sizes: Sequence[int], area: Rect) -> list[Rect]:
    """Return rectangles that fill an area, each in proportion to its size.

    Args:
        sizes: Sizes above zero, the largest first.
        area: What they fill.
    """
    total = sum(sizes)
    scale = area.area / total if total else 0.0
    areas = [size * scale for size in sizes]
    rects: list[Rect] = []
    left = area
    start = 0
    while start < len(areas):
        end = _row_end(areas, start, min(left.width, left.height))
        left = _lay_row(areas[start:end], left, rects, is_last=end == len(areas))
        start = end
    return rects


def _row_end(areas: Sequence[float], start: int, side: float) -> int:
    """Return where the row ends that begins at an index."""
    total = areas[start]
    worst = _worst(total, areas[start], areas[start], side)
    end = start + 1
    while end < len(areas):
        total += areas[end]
        grown = _worst(total, areas[start], areas[end], side)
        if grown > worst:
            break
        worst = grown
        end += 1
    return end


def _worst(total: float, largest: float, smallest: float, side: float) -> float:
    """Return the worst ratio of the sides of a rectangle in a row."""
    if total <= 0 or smallest <= 0 or side <= 0:
        return float("inf")
    square = side * side / (total * total)
    return max(square * largest, 1 / (square * smallest))


def _lay_row(areas: Sequence[float], left: Rect, rects: list[Rect], *, is_last: bool) -> Rect:
    """Add the rectangles of a row, and return what is left of the area."""
    total = sum(areas)
    is_column = left.width >= left.height
    side = left.height if is_column else left.width
    depth = (left.width if is_column else left.height) if is_last else (total / side if side else 0.0)
    at = 0.0
    for index, one in enumerate(areas):
        length = side - at if index == len(areas) - 1 else (one / total * side if total else 0.0)
        if is_column:
            rects.append(Rect(left.x, left.y + at, depth, length))
        else:
            rects.append(Rect(left.x + at, left.y, length, depth))
        at += length
    if is_column:
        return Rect(left.x + depth, left.y, left.width - depth, left.height)
    return Rect(left.x, left.y + depth, left.width, left.height - depth)
