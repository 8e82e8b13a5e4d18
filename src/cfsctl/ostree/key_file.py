"""Key files, as GLib's GKeyFile reads the parts of them that OSTree uses.

Lines end at newlines and nowhere else, and blanks are those of ASCII. Python's own idea of both is wider: a
title with U+2028 in it, as a server may send it, would begin a group.
"""

from __future__ import annotations

from typing import Final

BLANKS: Final = " \t\n\r\f"
"""What GLib takes for blanks (g_ascii_isspace)."""


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, which end at newlines only, without blanks around them."""
    return [line.strip(BLANKS) for line in text.split("\n")]


def parse_key_file(text: str) -> dict[str, dict[str, str]]:
    """Return the groups of a key file.

    A line is a comment (``#``), a ``[group]``, or ``key=value``, blanks around the equals sign ignored; of
    a key that occurs twice the last counts. Other lines are ignored.
    """
    groups: dict[str, dict[str, str]] = {}
    group: dict[str, str] = {}
    for line in split_lines(text):
        key, equals, value = line.partition("=")
        name, bracket, rest = line[1:].partition("]")
        if line.startswith("#"):
            continue
        if line.startswith("[") and bracket and not rest:
            group = groups.setdefault(name, {})
        elif equals:
            group[key.rstrip(BLANKS)] = value.lstrip(BLANKS)
    return groups
