"""The blocks of a treemap: where each is, and what is written into it."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.inspection.storage.model import BlockKind
from cfsctl.pages import figures
from cfsctl.pages.treemap import Rect, squarify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.inspection.storage.model import SpaceBlock

LABELS: Final = {
    BlockKind.STORE: "all objects",
    BlockKind.METADATA: "images and streams",
    BlockKind.OTHER: "not in a tree that was read",
    BlockKind.GARBAGE: "garbage",
}
_TONES: Final = 6
"""Tones that directories of the root get in turn."""

_CHARACTER: Final = 7.0
_LINE: Final = 15.0
_MARGIN: Final = 6.0
_LEAST_LETTERS: Final = 5


class Picture(NamedTuple):
    """How large a treemap is, in units that are about one pixel.

    Attributes:
        name: What its elements are called.
        width: How wide it is.
        height: How high it is.
        least_area: A directory with less area than this is one block.
    """

    name: str
    width: int
    height: int
    least_area: float


WIDE: Final = Picture("wide", 1040, 560, 9000)
NARROW: Final = Picture("narrow", 360, 480, 12000)


class Block(NamedTuple):
    """A block that is drawn.

    Attributes:
        rect: Where it is; edges are rounded, so that blocks touch and do not overlap.
        tone: Its class of colours or patterns.
        title: What it is, whole.
        label: What is written into it, or empty.
        caption: Its size, if there is room for it.
        size_bytes: Its size.
    """

    rect: Rect
    tone: str
    title: str
    label: str
    caption: str
    size_bytes: int


def label_of(block: SpaceBlock) -> str:
    """Return what a part of the space is called."""
    if block.kind is BlockKind.FILES:
        return f"{figures.name(block.path)} (files in it)"
    if block.kind is BlockKind.REST:
        return f"{figures.name(block.path)} (smaller parts)"
    return LABELS.get(block.kind) or figures.name(block.path)


def iter_blocks(space: SpaceBlock, picture: Picture) -> Iterator[Block]:
    """Yield the blocks of a treemap, which fill it."""
    whole = Rect(0.0, 0.0, float(picture.width), float(picture.height))
    tones = {id(part): f"t{index % _TONES}" for index, part in enumerate(_iter_toned(space))}
    for part, rect in _lay(space, whole):
        yield from _iter_leaves(part, rect, part.kind.value, tones, space.size_bytes, picture.least_area)


def _iter_toned(space: SpaceBlock) -> Iterator[SpaceBlock]:
    """Yield the directories that get tones of their own: of one that takes most of the space, its parts."""
    pending = list(reversed(space.parts))
    while pending:
        part = pending.pop()
        if part.kind is BlockKind.DIRECTORY and part.parts and part.size_bytes > space.size_bytes / 2:
            pending += reversed(part.parts)
        elif part.kind not in LABELS:
            yield part


def _lay(block: SpaceBlock, area: Rect) -> list[tuple[SpaceBlock, Rect]]:
    parts = sorted((part for part in block.parts if part.size_bytes), key=lambda part: -part.size_bytes)
    return list(zip(parts, squarify([part.size_bytes for part in parts], area), strict=True))


def _iter_leaves(
    block: SpaceBlock, rect: Rect, tone: str, tones: dict[int, str], whole: int, least_area: float
) -> Iterator[Block]:
    """Yield a block, or the blocks in it; trees are no deeper than the survey made them."""
    tone = tones.get(id(block), tone)
    if rect.area >= least_area and len(block.parts) > 1:
        for part, inner in _lay(block, rect):
            yield from _iter_leaves(part, inner, tone, tones, whole, least_area)
        return
    while len(block.parts) == 1 and block.parts[0].kind is BlockKind.DIRECTORY:
        block = block.parts[0]  # a directory of nothing but a directory is shown as that
    title = f"{label_of(block)}: {figures.size(block.size_bytes)}, {figures.share(block.size_bytes, whole)}"
    snapped = _snap(rect)
    label = _fit(block, snapped)
    caption = figures.size(block.size_bytes)
    has_caption = bool(label) and snapped.height >= 2 * _LINE + _MARGIN and _fits(caption, snapped.width)
    yield Block(snapped, tone, title, label, caption if has_caption else "", block.size_bytes)


def _snap(rect: Rect) -> Rect:
    x, y = round(rect.x, 2), round(rect.y, 2)
    return Rect(
        x, y, round(round(rect.x + rect.width, 2) - x, 2), round(round(rect.y + rect.height, 2) - y, 2)
    )


def _fit(block: SpaceBlock, rect: Rect) -> str:
    """Return the longest form of a label that fits into a block."""
    if rect.height < _LINE + _MARGIN / 2:
        return ""
    forms = list(_iter_forms(block))
    return next((text for text in forms if _fits(text, rect.width)), "") or _cut(forms[-1], rect.width)


def _cut(text: str, width: float) -> str:
    """Return the beginning of a text, or nothing if that would be too little to tell what it is."""
    end = next((end for end in range(len(text), 0, -1) if _fits(f"{text[:end]}\u2026", width)), 0)
    return f"{text[:end]}\u2026" if end >= _LEAST_LETTERS else ""


def _iter_forms(block: SpaceBlock) -> Iterator[str]:
    """Yield the forms of a label, the longest first."""
    yield label_of(block)
    if block.kind is BlockKind.OTHER:
        yield from ("other objects", "other")
    elif block.kind is BlockKind.METADATA:
        yield from ("images, streams", "metadata")
    elif block.kind is not BlockKind.GARBAGE:
        names = block.path.split(b"/")
        mark = " \u2026" if block.kind is BlockKind.REST else "/*" if block.kind is BlockKind.FILES else ""
        yield figures.name(block.path) + mark
        for start in range(2, len(names)):
            yield f"\u2026/{figures.name(b'/'.join(names[start:]))}{mark}"
        yield figures.name(names[-1]) + mark


def _fits(text: str, width: float) -> bool:
    cells = sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)
    return cells * _CHARACTER + 2 * _MARGIN <= width
