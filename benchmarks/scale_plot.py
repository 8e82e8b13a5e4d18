"""Draws the figures of `benchmarks.scale`, and writes their table into docs/explanation/scale.md.

    python -m benchmarks.scale_plot FILE [PAGE]

FILE is what `python -m benchmarks.scale --json FILE` wrote. The drawing goes beside the page, as scale.svg.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from xml.sax.saxutils import escape

from benchmarks.page import replace_marked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.scale import Figure

    Quantity = Literal["cpu_s", "peak_mb"]

PAGE: Final = Path(__file__).parents[1] / "docs" / "explanation" / "scale.md"

_WIDTH, _HEIGHT = 330, 280
_LEFT, _TOP = 60, 40
_PANEL: Final = _WIDTH + 90
_LEGEND: Final = 190
_COLOURS: Final = ("#0a7", "#37d", "#d62", "#a4c", "#c90", "#888", "#d36", "#58a")
"""Of a brightness that can be read on white and on black."""

_STYLE: Final = """
text { font: 12px sans-serif; fill: #222 }
.grid { stroke: #8884; fill: none } .axis { stroke: #888; fill: none }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }
"""
_TITLES: Final[dict[Quantity, str]] = {"cpu_s": "processor time, s", "peak_mb": "memory, MB"}


def jobs_of(figures: Sequence[Figure]) -> list[str]:
    """Return the jobs in the order of what they take in the largest repository."""
    largest = {figure["job"]: figure["cpu_s"] for figure in sorted(figures, key=lambda one: one["objects"])}
    return sorted(largest, key=lambda job: -largest[job])


def format_table(figures: Sequence[Figure]) -> str:
    """Return the table in Markdown: processor time and memory of each job by size."""
    sizes = sorted({figure["objects"] for figure in figures})
    found = {(figure["job"], figure["objects"]): figure for figure in figures}
    text = "| command | " + " | ".join(f"{size:,} objects" for size in sizes) + " |\n"
    text += "|---" * (len(sizes) + 1) + "|\n"
    for job in jobs_of(figures):
        cells = [found.get((job, size)) for size in sizes]
        shown = ["" if cell is None else f"{cell['cpu_s']:.2f} s, {cell['peak_mb']:.0f} MB" for cell in cells]
        text += f"| {job} | {' | '.join(shown)} |\n"
    return text


class _Panel:
    """A plot with two logarithmic axes."""

    def __init__(self, figures: Sequence[Figure], quantity: Quantity, offset: int) -> None:
        self._figures = figures
        self._quantity = quantity
        self._offset = offset + _LEFT
        sizes = [figure["objects"] for figure in figures]
        values = [max(figure[quantity], 1e-3) for figure in figures]
        self._across = (math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes))))
        self._up = (math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))))

    def _x(self, size: float) -> float:
        low, high = self._across
        return self._offset + (math.log10(size) - low) / max(1, high - low) * _WIDTH

    def _y(self, value: float) -> float:
        low, high = self._up
        return _TOP + _HEIGHT - (math.log10(max(value, 1e-3)) - low) / max(1, high - low) * _HEIGHT

    def draw(self) -> str:
        """Return the elements of the panel."""
        right, bottom = self._offset + _WIDTH, _TOP + _HEIGHT
        text = f'<text x="{self._offset}" y="{_TOP - 14}">{_TITLES[self._quantity]}</text>\n'
        for power in range(self._across[0], self._across[1] + 1):
            x = self._x(10.0**power)
            text += f'<path class="grid" d="M{x:.0f} {_TOP}V{bottom}"/>\n'
            text += f'<text x="{x:.0f}" y="{bottom + 18}" text-anchor="middle">{10**power:,}</text>\n'
        for power in range(self._up[0], self._up[1] + 1):
            y = self._y(10.0**power)
            text += f'<path class="grid" d="M{self._offset} {y:.0f}H{right}"/>\n'
            text += f'<text x="{self._offset - 6}" y="{y + 4:.0f}" text-anchor="end">{10.0**power:g}</text>\n'
        text += f'<path class="axis" d="M{self._offset} {_TOP}V{bottom}H{right}"/>\n'
        return text + "".join(map(self._draw_job, range(len(jobs_of(self._figures)))))

    def _draw_job(self, number: int) -> str:
        job, colour = jobs_of(self._figures)[number], _COLOURS[number % len(_COLOURS)]
        points = sorted(
            (figure["objects"], figure[self._quantity]) for figure in self._figures if figure["job"] == job
        )
        places = [(self._x(size), self._y(value)) for size, value in points]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in places)
        text = f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>\n'
        return text + "".join(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>\n' for x, y in places
        )


def draw(figures: Sequence[Figure]) -> str:
    """Return the drawing: time and memory by the number of objects, a line for each job."""
    width, height = 2 * _PANEL + _LEGEND, _HEIGHT + 90
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
    text += "<title>Processor time and memory of commands by the number of objects</title>\n"
    text += f"<style>{_STYLE}</style>\n"
    text += _Panel(figures, "cpu_s", 0).draw() + _Panel(figures, "peak_mb", _PANEL).draw()
    for number, job in enumerate(jobs_of(figures)):
        y, colour = _TOP + 12 + 20 * number, _COLOURS[number % len(_COLOURS)]
        text += f'<rect x="{2 * _PANEL}" y="{y - 9}" width="14" height="10" fill="{colour}"/>\n'
        text += f'<text x="{2 * _PANEL + 20}" y="{y}">{escape(job)}</text>\n'
    text += f'<text x="{_LEFT}" y="{_TOP + _HEIGHT + 38}">objects; both axes are logarithmic</text>\n'
    return text + "</svg>\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("page", type=Path, nargs="?", default=PAGE)
    arguments = parser.parse_args()
    figures: list[Figure] = json.loads(arguments.file.read_text())
    arguments.page.with_suffix(".svg").write_text(draw(figures))
    arguments.page.write_text(replace_marked(arguments.page.read_text(), format_table(figures)))


if __name__ == "__main__":
    main()
