"""Commit metadata as text for people: one ``key=value`` for each entry, in stored order.

The form is that of the original ``cfsctl ostree inspect --metadata``. Numbers are shown as stored,
without swapping bytes, since nothing in a commit says which order its writer meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl import gvariant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.ostree.objects import Commit


def iter_metadata_lines(metadata: Iterable[tuple[str, gvariant.Variant]]) -> Iterator[str]:
    """Yield ``key=value`` for each entry, without line ends and without escaping anything.

    Args:
        metadata: As `cfsctl.ostree.objects.Commit` has it.
    """
    for key, value in metadata:
        yield f"{key}={render_value(value)}"


def render_value(variant: gvariant.Variant) -> str:
    """Return the text of one value.

    Strings are themselves, booleans ``true`` or ``false``, ``u`` and ``t`` decimal, ``as`` is
    ``[a, b]``, ``ay`` hex; any other type is ``<TYPE:HEX>`` with the serialised value in hex.
    """
    value = variant.value
    match variant.type:
        case "s":
            return str(value)
        case "b":
            return "true" if value else "false"
        case "u" | "t":
            return str(value)
        case "as" if isinstance(value, list):
            return f"[{', '.join(map(str, value))}]"
        case "ay" if isinstance(value, bytes):
            return value.hex()
        case _:
            return f"<{variant.type}:{gvariant.encode(variant.type, value).hex()}>"


def json_value(variant: gvariant.Variant) -> str | int | bool | list[str]:
    """Return a value as JSON has it: a text, a number, a boolean, a list of texts; else as `render_value`."""
    value = variant.value
    match variant.type:
        case "b":
            return bool(value)
        case "u" | "t" if isinstance(value, int):
            return value
        case "as" if isinstance(value, list):
            return [str(item) for item in value]
        case _:
            return render_value(variant)


def version_of(commit: Commit) -> str | None:
    """Return the version that a commit has in its metadata, or None."""
    version = next((value.value for key, value in commit.metadata if key == "version"), None)
    return version if isinstance(version, str) else None
