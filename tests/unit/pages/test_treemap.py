"""Treemaps: what fills an area, in proportion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.inspection.storage.model import BlockKind, SpaceBlock
from cfsctl.pages.blocks import NARROW, WIDE, Picture, iter_blocks
from cfsctl.pages.treemap import Rect, squarify

SIZES = st.lists(st.integers(1, 10**12), min_size=1, max_size=40).map(
    lambda sizes: sorted(sizes, reverse=True)
)


@given(SIZES, st.floats(10, 2000), st.floats(10, 2000))
def test_areas_are_proportional_and_fill(sizes: list[int], width: float, height: float) -> None:
    area = Rect(3.0, 5.0, width, height)
    rects = squarify(sizes, area)
    for size, rect in zip(sizes, rects, strict=True):
        assert rect.area == pytest.approx(area.area * size / sum(sizes), rel=1e-6, abs=area.area * 1e-9)
        assert rect.x >= area.x - 1e-6
        assert rect.y >= area.y - 1e-6
        assert rect.x + rect.width <= area.x + width + 1e-6
        assert rect.y + rect.height <= area.y + height + 1e-6
    assert sum(rect.area for rect in rects) == pytest.approx(area.area)


@given(SIZES)
def test_nothing_overlaps(sizes: list[int]) -> None:
    rects = squarify(sizes, Rect(0.0, 0.0, 100.0, 60.0))
    for index, one in enumerate(rects):
        for other in rects[:index]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert across < 1e-6 or down < 1e-6


def test_example_of_the_paper() -> None:
    rects = squarify([6, 6, 4, 3, 2, 2, 1], Rect(0.0, 0.0, 6.0, 4.0))
    assert rects[0] == Rect(0.0, 0.0, 3.0, 2.0)
    assert rects[1] == Rect(0.0, 2.0, 3.0, 2.0)
    assert all(max(one.width / one.height, one.height / one.width) < 3.2 for one in rects)


def test_nothing_at_all() -> None:
    assert squarify([], Rect(0.0, 0.0, 1.0, 1.0)) == []


def block(size: int, path: bytes, *parts: SpaceBlock, kind: BlockKind = BlockKind.DIRECTORY) -> SpaceBlock:
    return SpaceBlock(kind=kind, path=path, size_bytes=size, objects=1, parts=parts)


@pytest.mark.parametrize("picture", [WIDE, NARROW])
def test_blocks_of_a_store(picture: Picture) -> None:
    usr = block(600, b"/usr", block(400, b"/usr/lib"), block(200, b"/usr/share"))
    space = block(
        1000,
        b"",
        usr,
        block(300, b"", kind=BlockKind.GARBAGE),
        block(100, b"/only", block(100, b"/only/below")),
        block(0, b"/empty"),
        kind=BlockKind.STORE,
    )
    found = list(iter_blocks(space, picture))
    assert [one.size_bytes for one in found] == [400, 200, 300, 100]
    for one in found:
        assert one.rect.area == pytest.approx(
            picture.width * picture.height * one.size_bytes / 1000, rel=0.01
        )
    assert found[0].tone != found[1].tone
    assert found[2].tone == "garbage"
    assert found[3].title.startswith("/only/below: 100 B, 10.0 %")


def test_labels_that_do_not_fit_are_shortened() -> None:
    parts = [block(1000 - 90 * index, f"/{'d' * 30}/{'x' * 20}{index}".encode()) for index in range(11)]
    total = sum(part.size_bytes for part in parts)
    space = block(total, b"", block(total, b"/" + b"d" * 30, *parts), kind=BlockKind.STORE)
    for one in iter_blocks(space, NARROW):
        assert len(one.label) * 7 <= one.rect.width
