"""Shell completion: the protocol between the scripts in `completions` and this program.

    _CFSCTL_COMPLETE=bash COMP_LINE=LINE COMP_POINT=POINT cfsctl
    _CFSCTL_COMPLETE=zsh|fish cfsctl WORD... LAST

A line is a value and, after a tab, its description; or it begins with byte 1 and says ``file`` or ``dir``,
which the shell completes itself. Bash gets no words on values, and of a value only what comes behind the
last colon or equals sign, since it takes those for the ends of words.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from click.shell_completion import CompletionItem, ShellComplete

from cfsctl.cli.app import cfsctl
from cfsctl.cli.output import write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

VARIABLE: Final = "_CFSCTL_COMPLETE"

_OWN: Final = "\x01"


def main(shell: str, arguments: Sequence[str], program: str = "cfsctl") -> int:
    """Print what the last word may be.

    Args:
        shell: Which one asks.
        arguments: All words but the program's; bash has them in the environment.
        program: The program that is typed.

    Returns:
        The exit status.
    """
    words = _bash_words() if shell == "bash" else list(arguments)
    *before, word = words or [""]
    if program == "cfsctl":
        items = complete(before, word)
    else:
        from cfsctl.cli.tools.completion import complete_tool  # the other programs are rarer

        items = complete_tool(program, before, word)
    lines = bash_lines(items, word) if shell == "bash" else item_lines(items)
    write_bytes(
        f"{line}\n".encode(errors="surrogateescape")
        for line in lines
        if line[1:].replace("\t", " ", 1).isprintable()
    )
    return 0


def complete(before: Sequence[str], word: str) -> list[CompletionItem]:
    """Return what may stand where `word` is, behind the words `before`."""
    return ShellComplete(cfsctl, {}, "cfsctl", VARIABLE).get_completions(list(before), word)


def item_lines(items: Iterable[CompletionItem]) -> Iterator[str]:
    """Yield a line for each item."""
    for item in items:
        if item.type == "plain":
            text = " ".join((item.help or "").split())
            yield f"{item.value}\t{text}" if text else str(item.value)
        else:
            yield f"{_OWN}{item.type}"


def bash_lines(items: Iterable[CompletionItem], word: str) -> Iterator[str]:
    """Yield a line for each item, for bash."""
    skipped = max(word.rfind(":"), word.rfind("=")) + 1
    for item in items:
        yield str(item.value)[skipped:] if item.type == "plain" else f"{_OWN}{item.type}"


def _bash_words() -> list[str]:
    """Return the words of the line up to the cursor, without the program's."""
    line = os.environ.get("COMP_LINE", "").encode()
    point = os.environ.get("COMP_POINT", "")
    text = line[: int(point) if point.isdigit() else len(line)].decode(errors="surrogateescape")
    words = _split(text)
    if not words or text[-1:].isspace():
        words.append("")
    return words[1:]


def _split(text: str) -> list[str]:
    """Return the words of a line whose last quote may still be open."""
    for end in ("", '"', "'"):
        try:
            return shlex.split(text + end)
        except ValueError:
            continue
    return text.split()
