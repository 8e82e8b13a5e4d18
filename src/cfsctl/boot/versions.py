"""Order of versions.

Format: the UAPI group's version format (UAPI.10): digits compare as numbers, letters as text, ``~`` comes
before everything, also before the end, ``^`` after the end, and ``-`` and ``.`` separate.
"""

from __future__ import annotations

import re
from typing import Final

_PART: Final = re.compile(r"[0-9]+|[A-Za-z]+|[~^.-]")

_TILDE, _END, _DASH, _CARET, _DOT, _TEXT, _NUMBER = range(7)
_SEPARATORS: Final = {"~": _TILDE, "-": _DASH, "^": _CARET, ".": _DOT}


def version_key(version: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts versions, the oldest first; characters without a meaning are skipped."""
    return [*map(_key_of, _PART.findall(version)), (_END, 0, "")]


def _key_of(part: str) -> tuple[int, int, str]:
    if part in _SEPARATORS:
        return _SEPARATORS[part], 0, ""
    if part.isdigit():
        digits = part.lstrip("0")
        # By length and text: numbers of thousands of digits are not converted.
        return _NUMBER, len(digits), digits
    return _TEXT, 0, part
