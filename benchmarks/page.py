"""Writes figures into a page of the documentation, between markers.

    python -m benchmarks.page FILE [PAGE]

FILE is what `python -m benchmarks --json FILE` wrote, PAGE is docs/explanation/performance.md by default.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.declaration import OURS
from benchmarks.verdict import describe_aim, format_summary, lines_of

if TYPE_CHECKING:
    from benchmarks.verdict import Document, JudgedRow, Line

PAGE: Final = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
_BEGIN: Final = "<!-- begin of what benchmarks.page writes -->\n"
_END: Final = "<!-- end of what benchmarks.page writes -->\n"


class NoMarkersError(Exception):
    """A page that does not say where figures belong."""


def replace_marked(page: str, text: str) -> str:
    """Return the page with the text in place of what stands between its markers.

    Raises:
        NoMarkersError: It has none.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise NoMarkersError(f"expected the lines {_BEGIN.strip()!r} and {_END.strip()!r}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def format_page(document: Document) -> str:
    """Return the table, the machine, and what limits each row, in Markdown."""
    machine = "; ".join(f"{name}: {value}" for name, value in document["machine"].items())
    versions = "; ".join(f"{name}: {value}" for name, value in document["versions"].items())
    sizes = "" if document["scale"] == 1 else f" All sizes are {document['scale']:g} of what rows say."
    text = f"Measured on {document['date']}, medians of up to {document['rounds']} rounds.{sizes}\n\n"
    text += f"Machine: {machine}.\n\nPrograms: {versions}.\n\n"
    text += "| work | ours, s (MB) | peers, s (MB) | ratio | aim | verdict | what limits it |\n"
    text += "|---|---|---|---|---|---|---|\n"
    return text + "".join(map(_format_row, document["rows"])) + "\n" + format_summary(document)


def _format_row(row: JudgedRow) -> str:
    lines = [line for line in lines_of(row) if line.wall]
    ours = "".join(_took(line) for line in lines if line.program == OURS)
    peers = [line for line in lines if line.program != OURS]
    aims = row["aims"]
    cells = [
        row["row"],
        ours or "not measured",
        "<br>".join(f"{line.program} {_took(line)}" for line in peers),
        "<br>".join(line.ratio for line in peers),
        "<br>".join(describe_aim(aim) + (f" of {aim['against']}" if aim["against"] else "") for aim in aims),
        "<br>".join(aim["verdict"] for aim in aims),
        row["limit"],
    ]
    return f"| {' | '.join(cells)} |\n"


def _took(line: Line) -> str:
    return f"{line.wall} ({line.memory})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("page", type=Path, nargs="?", default=PAGE)
    arguments = parser.parse_args()
    document: Document = json.loads(arguments.file.read_text())
    try:
        arguments.page.write_text(replace_marked(arguments.page.read_text(), format_page(document)))
    except NoMarkersError as error:
        raise SystemExit(f"{arguments.page}: {error}") from error


if __name__ == "__main__":
    main()
