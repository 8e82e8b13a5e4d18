"""Parser for key files, compatible with the parts of GLib's GKeyFile that OSTree uses.

Only newlines end lines, and only ASCII whitespace is stripped. Python's methods treat more characters as line
ends and
whitespace: a title that contains U+2028, sent by a server, could then start a new group.
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
