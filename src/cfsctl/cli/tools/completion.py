"""What may come next on the command lines of the other programs, from their own help texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TERM: Final = re.compile(r"  (\S.*?)(?:  +(.*)|$)")
"""A line of a list in a help text: the term, and what it is."""

_CHOICES: Final = {
    "--hash": ("sha256", "sha512"),
    "--erofs-version": ("0", "1", "2"),
    "--min-version": ("0", "1"),
    "--max-version": ("0", "1"),
    "-t": ("composefs",),
}
_DIRECTORIES: Final = frozenset({"--digest-store", "--basedir"})


def complete_tool(program: str, before: Sequence[str], word: str) -> list[CompletionItem]:
    """Return what may stand where `word` is.

    Args:
        program: Name of the program.
        before: The words before, without the program.
        word: The word, as far as it is typed.
    """
    usage = _usage_of(program)
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        return _complete_value(option, value, f"{option}=")
    last = before[-1] if before else ""
    if last == "-o":
        return _complete_mount_options(usage, word)
    if last in _CHOICES or last in _DIRECTORIES:
        return _complete_value(last, word, "")
    if word.startswith("-"):
        return [
            CompletionItem(name, help=text) for name, text in _iter_options(usage) if name.startswith(word)
        ]
    commands = dict(_iter_list(usage, "Commands"))
    if commands and not any(one in commands for one in before):
        return [CompletionItem(name, help=text) for name, text in commands.items() if name.startswith(word)]
    return [CompletionItem(word, "file")]


def _usage_of(program: str) -> str:
    from importlib import import_module  # only when a key is pressed

    name = program.replace("-", "_").replace(".", "_")
    usage: str = import_module(f"cfsctl.cli.tools.{name}").USAGE
    return usage


def _complete_value(option: str, value: str, prefix: str) -> list[CompletionItem]:
    if option in _CHOICES:
        return [CompletionItem(prefix + one) for one in _CHOICES[option] if one.startswith(value)]
    return [CompletionItem(value, "dir" if option in _DIRECTORIES else "file")]


def _complete_mount_options(usage: str, word: str) -> list[CompletionItem]:
    done, comma, rest = word.rpartition(",")
    return [
        CompletionItem(f"{done}{comma}{name}", help=text)
        for name, text in _iter_list(usage, "Mount options")
        if name.startswith(rest)
    ]


def _iter_options(usage: str) -> Iterator[tuple[str, str]]:
    for term, text in _iter_terms(usage, "Options"):
        for name in term.split(", "):
            yield name.split()[0], text


def _iter_list(usage: str, heading: str) -> Iterator[tuple[str, str]]:
    """Yield the first words of the terms of a list; of one with a value, up to its equals sign."""
    for term, text in _iter_terms(usage, heading):
        for name in term.split(", "):
            first = name.split()[0]
            yield first[: first.find("=") + 1] or first, text


def _iter_terms(usage: str, heading: str) -> Iterator[tuple[str, str]]:
    is_inside = False
    for line in usage.split("\n"):
        if not line.startswith(" "):
            is_inside = line.startswith(heading)
        elif is_inside and (found := _TERM.fullmatch(line)) and not line.startswith("   "):
            yield found[1], found[2] or ""
