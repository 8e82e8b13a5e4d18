"""Short IDs: the beginning of an ID, as lists print it, typed by a user in place of all of it.

    1a2b3c4d    sha512:1a2b3c4d    @1a2b3c4d    @sha256:1a2b3c4d

One rule for images, commits, streams, objects, manifests, configs and layers: at least four hexadecimal
digits, and only one ID of the kind that is looked for begins with them. If there are more, the error lists
them. A name of the same spelling always comes first; callers look for names before they call this.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import ExitCode, RepositoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MIN_DIGITS: Final = 4
"""Digits of the shortest beginning that is taken for an ID; less is more likely a mistyped name."""

SHOWN_DIGITS: Final = 12
"""Digits of an ID that lists print, unless more are needed to tell two apart."""

_SHORT_ID: Final = re.compile(r"(@?)(?:(sha256|sha512):)?([0-9a-fA-F]{1,128})")
_MAX_LISTED: Final = 8
"""Candidates that a message names."""


class AmbiguousIdError(RepositoryError):
    """A prefix of more than one ID."""

    exit_code = ExitCode.NOT_FOUND


class ShortId(NamedTuple):
    """What was typed for an ID.

    Attributes:
        hash_name: The hash before the colon, or None.
        digits: The digits in lower case.
        is_marked: Whether something besides digits says that this is an ID.
    """

    hash_name: str | None
    digits: str
    is_marked: bool


def parse_short_id(text: str, min_digits: int = MIN_DIGITS) -> ShortId | None:
    """Return the beginning of an ID that a text can be, or None for any other text."""
    match = _SHORT_ID.fullmatch(text)
    if match is None or len(match[3]) < min_digits:
        return None
    return ShortId(match[2], match[3].lower(), bool(match[1] or match[2]))


def choose_id(
    digits: str, ids: Iterable[str], what: str, describe: Callable[[str], str | None] = lambda _: None
) -> str | None:
    """Return the only ID that begins with some digits, or None if none does.

    Args:
        digits: Lower-case hexadecimal digits.
        ids: All IDs of the kind, in lower-case hexadecimal; more than once makes no difference.
        what: What an ID is called in the message.
        describe: Returns what else an ID is known by, for the message.

    Raises:
        AmbiguousIdError: More than one does; the message lists them.
    """
    matches = sorted({one for one in ids if one.startswith(digits)})
    if len(matches) > 1:
        raise AmbiguousIdError(
            f"ambiguous {what} '{digits}': {len(matches)} match: {_list(matches, describe)}",
            hint="type more digits",
        )
    return matches[0] if matches else None


def _list(matches: list[str], describe: Callable[[str], str | None]) -> str:
    shown = matches[:_MAX_LISTED]
    length = max(SHOWN_DIGITS, distinct_length(matches))
    named = [(one[:length], describe(one)) for one in shown]
    words = [short if name is None else f"{short} ({name})" for short, name in named]
    left = len(matches) - len(shown)
    return ", ".join(words) + (f" and {left} more" if left else "")


def distinct_length(ids: Iterable[str]) -> int:
    """Return the number of digits that tell all of these IDs apart; 0 for fewer than two."""
    ordered = sorted(set(ids))
    return max((_common(one, other) + 1 for one, other in pairwise(ordered)), default=0)


def _common(one: str, other: str) -> int:
    """Return how many digits two texts begin with that are the same."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))
