"""Only one module of the programs prints; everything else goes through it."""

from __future__ import annotations

import ast
from pathlib import Path

import cfsctl.cli

ROOT = Path(cfsctl.cli.__file__).parent.parent

MAY_TOUCH_STREAMS = {
    "cli/output.py",  # prints
    "cli/streams.py",  # prepares what is printed to
    "cli/errors.py",  # flushes
    "cli/render.py",  # asks for the encoding
    "cli/progress.py",  # asks whether it is a terminal
    "cli/progress_views.py",  # draws bars
    "cli/tools/mkcomposefs.py",  # asks whether it is a terminal
}


def uses_of_streams(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                found.append(f"print in line {node.lineno}")
            case ast.Attribute(value=ast.Name(id="click"), attr="echo" | "secho" | "echo_via_pager"):
                found.append(f"click.{node.attr} in line {node.lineno}")
            case ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr" | "stdin"):
                found.append(f"sys.{node.attr} in line {node.lineno}")
            case _:
                pass
    return found


def test_nothing_else_prints() -> None:
    modules = {str(path.relative_to(ROOT)): path for path in ROOT.rglob("*.py")}
    found = {name: uses_of_streams(path) for name, path in modules.items() if name not in MAY_TOUCH_STREAMS}
    assert {name: uses for name, uses in found.items() if uses} == {}
    assert modules.keys() >= MAY_TOUCH_STREAMS


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import sys, click\nprint(1)\nclick.echo(2)\nsys.stderr.write('3')\n")
    assert len(uses_of_streams(path)) == 3
