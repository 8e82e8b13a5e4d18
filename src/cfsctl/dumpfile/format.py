r"""The dump file format: fields, limits and escapes.

Format: `composefs-dump(5)`. One line per path, fields separated by one space, parents before children:

    PATH SIZE MODE NLINK UID GID RDEV MTIME PAYLOAD CONTENT DIGEST [KEY=VALUE ...]

Bytes outside of printable ASCII, space and backslash are written as ``\\ \n \r \t \xNN``, and so is ``=``
in attributes. PATH, PAYLOAD and CONTENT are ``-`` when empty, and ``\x2d`` when they are that character.
"""

from __future__ import annotations

import re
from typing import Final

from cfsctl import limits
from cfsctl.errors import FormatError


class DumpfileError(FormatError):
    """Text that is not a dump, or no dump of a tree.

    Attributes:
        line: Number of the line at fault, from 1; None if no line is.
    """

    def __init__(self, message: str, *, line: int | None = None, field: str | None = None) -> None:
        """Prefix the message with line and field."""
        place = "dump"
        if line is not None:
            place += f" line {line}"
        if field is not None:
            place += f", {field}"
        super().__init__(f"{place}: {message}", field=field)
        self.line = line


FIELDS: Final = (
    "PATH",
    "SIZE",
    "MODE",
    "NLINK",
    "UID",
    "GID",
    "RDEV",
    "MTIME",
    "PAYLOAD",
    "CONTENT",
    "DIGEST",
)
XATTRS_FIELD: Final = "KEY=VALUE"

MAX_LINE: Final = 4 << 20
"""Bytes of a line. All that an inode can hold, each byte escaped, is far less."""

MAX_DEPTH: Final = limits.MAX_DEPTH

MAX_PATH: Final = limits.MAX_PATH_BYTES
"""Bytes of an unescaped path. The original writes longer ones than the 4096 that it reads; deep trees of
directories that are opened one below the other do have them."""

MAX_NAME: Final = limits.MAX_NAME_BYTES
MAX_TARGET: Final = limits.MAX_TARGET_BYTES
"""Bytes of a link target. The original refuses more than 1024 in a dump, though it writes them."""

MAX_CONTENT: Final = 512
"""Bytes of inline content; the original's limit."""

MAX_CONTENT_C: Final = 5000
"""The same of the C tools."""

MAX_PAYLOAD: Final = 4096
"""Bytes of the path to an object."""

MAX_PAYLOAD_C: Final = 4095
MAX_FILE_SIZE: Final = limits.MAX_FILE_BYTES
MAX_XATTR_NAME: Final = limits.MAX_XATTR_NAME_BYTES
MAX_XATTR_VALUE: Final = limits.MAX_XATTR_VALUE_BYTES
MAX_XATTR_NAMES: Final = 65535
"""Bytes of all attribute names of a line together."""

MAX_XATTR_TEXT_C: Final = 65535
"""Bytes of all attributes of a line as they are written; limit of the C tools."""

MAX_XATTR_TOTAL_C: Final = 32767
"""What the attributes of a node may count together for the C tools: see `XATTR_COST_C`."""

XATTR_HEADER_COST_C: Final = 12
XATTR_COST_C: Final = 7
"""What an attribute counts besides its name and value."""

# Escapes

_SAFE: Final = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("\\"))
_SAFE_LINES: Final = _SAFE + b"\n"
_SAFE_IN_XATTRS: Final = _SAFE.replace(b"=", b"")
_ESCAPED: Final = {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
_WRITTEN: Final = tuple(
    chr(byte) if byte in _SAFE else _ESCAPED.get(byte, f"\\x{byte:02x}") for byte in range(256)
)
_WRITTEN_IN_XATTRS: Final = tuple("\\x3d" if byte == ord("=") else _WRITTEN[byte] for byte in range(256))

_WELL_ESCAPED: Final = re.compile(rb"[^\\]*+(?:\\(?:[\\nrt]|x[0-9a-fA-F]{2})[^\\]*+)*+")


def escape(data: bytes) -> str:
    """Return a path, or a part of one, as a dump has it."""
    if not data.translate(None, _SAFE):
        return data.decode("ascii")
    return "".join([_WRITTEN[byte] for byte in data])


def escape_names(names: list[bytes]) -> list[str]:
    """Return the names of one directory, each as `escape` would."""
    joined = b"\n".join(names)
    if joined.translate(None, _SAFE_LINES) or joined.count(b"\n") != len(names) - 1:
        return [escape(name) for name in names]
    return joined.decode("ascii").split("\n")  # all at once takes a quarter of the time


def escape_value(data: bytes) -> str:
    """Return a whole field: ``-`` where there is nothing, and no ``-`` where there is one."""
    if not data:
        return "-"
    return "\\x2d" if data == b"-" else escape(data)


def escape_in_xattr(data: bytes) -> str:
    """Return the name or the value of an attribute as a dump has it."""
    if not data.translate(None, _SAFE_IN_XATTRS):
        return data.decode("ascii")
    return "".join([_WRITTEN_IN_XATTRS[byte] for byte in data])


def unescape(text: bytes) -> bytes:
    """Return what `text` stands for.

    Raises:
        ValueError: A backslash that no escape begins with.
    """
    if b"\\" not in text:
        return text
    good = _WELL_ESCAPED.match(text)
    end = good.end() if good else 0
    if end != len(text):
        raise ValueError(f"invalid escape {printable(text[end : end + 4])}")
    # Python reads these escapes just so, and others that are not here any more.
    return text.decode("unicode_escape").encode("latin-1")


def printable(text: bytes) -> str:
    """Return text of a dump for a message: quoted, and short however long it is."""
    if len(text) > 60:
        text = text[:50] + b"..."
    shown = text.decode("utf-8", "backslashreplace")
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return f'"{shown}"'
