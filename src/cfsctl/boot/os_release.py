"""``os-release``: what an operating system calls itself.

Format: os-release(5), read as the original reads it: the last definition of a key wins, and a value that
cannot be unquoted counts as missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES: Final = 1 << 20


def parse_os_release(text: str) -> dict[str, str]:
    """Return the values by key; lines that are not assignments are skipped."""
    values: dict[str, str] = {}
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if not equals or line.lstrip().startswith("#"):
            continue
        unquoted = unquote(value.strip())
        if unquoted is None:
            values.pop(key, None)
        else:
            values[key] = unquoted
    return values


def unquote(value: str) -> str | None:
    """Return a value without its quotes, as a shell would; None if a quote does not end."""
    out: list[str] = []
    at = 0
    while at < len(value):
        char = value[at]
        at += 1
        if char == "'":
            end = value.find("'", at)
            if end < 0:
                return None
            out.append(value[at:end])
            at = end + 1
        elif char == '"':
            closed = _read_double_quoted(value, at, out)
            if closed is None:
                return None
            at = closed
        else:
            out.append(char)
    return "".join(out)


def _read_double_quoted(value: str, at: int, out: list[str]) -> int | None:
    """Append what stands in double quotes; return the offset behind them, or None if they do not end."""
    while at < len(value):
        char = value[at]
        if char == '"':
            return at + 1
        if char == "\\":
            at += 1
            if at == len(value):
                return None
        out.append(value[at])
        at += 1
    return None


def boot_label(values: Mapping[str, str]) -> str | None:
    """Return how a boot menu shows this system, for example ``Fedora Linux 42``; None without any name."""
    name = _first(values, "PRETTY_NAME", "NAME", "ID")
    version = _first(values, "VERSION_ID", "VERSION")
    return name if name is None or version is None else f"{name} {version}"


def _first(values: Mapping[str, str], *keys: str) -> str | None:
    return next((values[key] for key in keys if key in values), None)
