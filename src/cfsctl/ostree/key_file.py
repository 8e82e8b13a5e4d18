"""Key files, as GLib's GKeyFile reads the parts of them that OSTree uses."""

from __future__ import annotations


def parse_key_file(text: str) -> dict[str, dict[str, str]]:
    """Return the groups of a key file.

    A line is a comment (``#``), a ``[group]``, or ``key=value``, blanks around the equals sign ignored; of
    a key that occurs twice the last counts. Other lines are ignored.
    """
    groups: dict[str, dict[str, str]] = {}
    group: dict[str, str] = {}
    for raw in text.splitlines():
        line = raw.strip()
        key, equals, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            group = groups.setdefault(line[1:-1], {})
        elif equals and not line.startswith("#"):
            group[key.rstrip()] = value.lstrip()
    return groups
