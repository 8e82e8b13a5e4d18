"""``cfsctl doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, print_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.library.findings import Finding

_NAME_WIDTH = 11
_INDENT = " " * 22


@click.command("doctor", cls=Command)
@json_option()
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """Report what this machine can do, what is missing, and how to fix it.

    Examines the kernel, the repository or the place where it would be, its file system, and the optional
    parts. Needs no repository and changes nothing. The exit status is 0 whatever is missing; scripts read
    the states from --json.
    """
    from cfsctl.library.doctor import examine_machine

    findings = examine_machine(session.place_of_repository())
    if as_json:
        print_document(_document(list(findings)))
        return
    missing = 0
    for finding in findings:
        missing += finding.state.value == "missing" and finding.is_needed
        for line in _lines(finding):
            print_line(line)
    print_line()
    print_line(_conclude(missing))


def _document(findings: list[Finding]) -> dict[str, object]:
    return {
        "missing": [one.name for one in findings if one.state.value == "missing" and one.is_needed],
        "findings": [
            {
                "name": one.name,
                "state": one.state.value,
                "found": one.found,
                "advice": one.advice,
                "needed": one.is_needed,
            }
            for one in findings
        ],
    }


def _lines(finding: Finding) -> Iterator[str]:
    """Yield what was found, and in lines of their own what to do, none wider than a terminal."""
    from textwrap import wrap

    is_optional = finding.state.value == "missing" and not finding.is_needed
    state = "optional" if is_optional else finding.state.value
    head = f"{state:<9} {finding.name:<{_NAME_WIDTH}} "
    width = _find_width()
    yield from wrap(finding.found, width, initial_indent=head, subsequent_indent=_INDENT)
    if finding.advice is not None:
        yield from wrap(
            finding.advice, width, initial_indent=f"{_INDENT}-> ", subsequent_indent=f"{_INDENT}   "
        )


def _find_width() -> int:
    from shutil import get_terminal_size

    return max(60, min(get_terminal_size().columns, 120))


def _conclude(missing: int) -> str:
    if missing:
        noun = "thing is" if missing == 1 else "things are"
        return f"{missing} {noun} missing that most users need; lines with -> say what to do."
    return "Nothing is missing that most users need."
