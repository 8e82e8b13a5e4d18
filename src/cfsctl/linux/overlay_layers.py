"""The layers of an overlay, as its options in mountinfo show them.

lowerdir=/a:/b::/c     separated by colons; what follows a double one holds nothing but content. A
                       backslash stands before a colon or a backslash of a path.
lowerdir+=/a           one each, in newer kernels
datadir+=/c            one each of those with nothing but content
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.linux.mountinfo import split_options

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH = re.compile(rb"(?:[^\\:]|\\.)*", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class Layers(NamedTuple):
    """The layers of an overlay.

    Attributes:
        lower: Paths of the layers below, the topmost first.
        data: Paths of those that hold nothing but content.
        has_upper: Whether changes go to a layer above.
        is_privileged: Whether only a privileged user can have made it. In a
            user namespace content cannot be in another layer than its name, or is found through
            ``user.overlay`` attributes, which our images have not.
    """

    lower: list[bytes]
    data: list[bytes]
    has_upper: bool
    is_privileged: bool


def parse_layers(options: bytes) -> Layers:
    """Return the layers that the options of an overlay name."""
    lower: list[bytes] = []
    data: list[bytes] = []
    names = set()
    has_metacopy = False
    for name, value in split_options(options):
        names.add(name)
        has_metacopy |= (name, value) == (b"metacopy", b"on")
        if name == b"datadir+":
            data.append(value)
        elif name == b"lowerdir+":
            lower.append(value)
        elif name == b"lowerdir":
            for path, is_data in _iter_paths(value):
                (data if is_data else lower).append(path)
    is_privileged = (bool(data) or has_metacopy) and b"userxattr" not in names
    return Layers(lower, data, b"upperdir" in names, is_privileged)


def _iter_paths(text: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the paths in the value of ``lowerdir``, and whether each is one of content only."""
    position, is_data = 0, False
    while True:
        match = _PATH.match(text, position)
        assert match is not None  # it matches nothing as well
        yield _ESCAPED.sub(rb"\1", match[0]), is_data
        position = match.end()
        if text[position : position + 2] == b"::":
            is_data = True
            position += 1
        if text[position : position + 1] != b":":
            return
        position += 1
