"""Print figures about the code: sizes, long and complex functions, imports between siblings, repeated lines.

Run it before and after a change of structure:

    .venv/bin/python tools/figures.py [--json]

Complexity and `noqa` counts come from ruff, imports from grimp (which import-linter installs).
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import grimp

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE = Path(__file__).resolve().parent.parent / "src" / "cfsctl"
LONG_FUNCTION_LINES = 40
MAX_COMPLEXITY = 10
WINDOW_LINES = 6
"""Lines in a row that count as repeated when they stand in two places."""


class Figures(TypedDict):
    """What the tool measures; all are counts."""

    modules: int
    lines: int
    functions: int
    functions_over_40_lines: int
    functions_over_complexity_10: int
    noqa: int
    repeated_lines: int
    sibling_imports: dict[str, int]


def main() -> int:
    """Print the figures of the sources."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="Print a JSON document.")
    as_json = parser.parse_args().json
    figures = measure(sorted(SOURCE.rglob("*.py")))
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if as_json else _format(figures))
    return 0


def measure(paths: list[Path]) -> Figures:
    """Return the figures of these modules."""
    texts = {path: path.read_text() for path in paths}
    lengths = [length for text in texts.values() for length in _function_lengths(text)]
    return Figures(
        modules=len(paths),
        lines=sum(text.count("\n") for text in texts.values()),
        functions=len(lengths),
        functions_over_40_lines=sum(length > LONG_FUNCTION_LINES for length in lengths),
        functions_over_complexity_10=_count_complex(),
        noqa=sum(len(re.findall(r"# noqa", text)) for text in texts.values()),
        repeated_lines=_count_repeated(texts.values()),
        sibling_imports=_count_sibling_imports(),
    )


def _function_lengths(text: str) -> list[int]:
    """Return the number of lines of each function, docstrings included."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, functions)
    ]


def _count_complex() -> int:
    """Return how many functions are more complex than the limit, by ruff's rule C901."""
    ruff = Path(sys.executable).parent / "ruff"
    limit = f"lint.mccabe.max-complexity={MAX_COMPLEXITY}"
    command = [str(ruff), "check", "--isolated", "--select", "C901", "--ignore-noqa", "--config", limit]
    ran = subprocess.run([*command, "--output-format", "json", str(SOURCE)], capture_output=True, check=False)
    return len(json.loads(ran.stdout))


def _count_repeated(texts: Iterable[str]) -> int:
    """Return how many lines belong to a run of `WINDOW_LINES` lines that stands in more than one place."""
    places: defaultdict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for number, text in enumerate(texts):
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith(("from ", "import ", "#"))]
        for start in range(len(lines) - WINDOW_LINES + 1):
            places[tuple(lines[start : start + WINDOW_LINES])].append((number, start))
    repeated = {
        (number, start + offset)
        for found in places.values()
        if len(found) > 1
        for number, start in found
        for offset in range(WINDOW_LINES)
    }
    return len(repeated)


def _count_sibling_imports() -> dict[str, int]:
    """Return, for each package, how many imports run between its direct children."""
    graph = grimp.build_graph("cfsctl", exclude_type_checking_imports=False)
    arrows: set[tuple[str, str, str]] = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            ours, theirs = importer.split("."), imported.split(".")
            shared = 0
            while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
                shared += 1
            if shared < min(len(ours), len(theirs)):
                arrows.add((".".join(ours[:shared]), ours[shared], theirs[shared]))
    counts = Counter(package for package, _, _ in arrows)
    return dict(sorted(counts.items()))


def _format(figures: Figures) -> str:
    rows = [(name.replace("_", " "), value) for name, value in figures.items() if name != "sibling_imports"]
    rows += [(f"sibling imports in {name}", value) for name, value in figures["sibling_imports"].items()]
    return "".join(f"{value:>8}  {name}\n" for name, value in rows)


if __name__ == "__main__":
    sys.exit(main())
