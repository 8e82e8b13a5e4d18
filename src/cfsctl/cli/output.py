r"""All output of the programs goes to standard output and standard error through this module.

A line may contain file names, responses of servers or messages of other programs, which could manipulate a
terminal. So these are escaped: control characters (C0, C1), invisible characters and those that change the
direction of text, line separators, and bytes that are not text (``\xNN``). In JSON, the same characters are
escaped as ``\uNNNN``, so that its meaning does not change. Only binary results (dumps, images and streams)
are printed unchanged.
"""

from __future__ import annotations

import os
import re
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from cfsctl.text import escape_controls, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TextIO

_MAX_MESSAGE: Final = 2000
"""Characters of a message; longer messages contain too much external text."""

_MESSAGE_END: Final = 500
"""Of those, how many are from its end, where the reason often is."""


def print_line(text: str = "") -> None:
    """Print a line of a result."""
    print_lines((text,))


def print_lines(lines: Iterable[str]) -> None:
    """Print lines of a result; what is not text, and a newline in a line, is escaped."""
    write = sys.stdout.write
    for line in lines:
        write(f"{printable(line)}\n")
    sys.stdout.flush()


def print_formatted(text: str) -> None:
    """Print lines of a result in which the caller has escaped everything that is not its own."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_block(text: str) -> None:
    """Print lines of a result as one text."""
    print_lines(text.split("\n"))


SCHEMA_VERSION: Final = 1
"""Of the documents of this program; raised when a key changes its meaning or goes, not when one is added."""


def print_document(document: Mapping[str, object], *, is_original: bool = False) -> None:
    """Print a result as JSON, which is always UTF-8.

    Args:
        document: The result.
        is_original: Print it as the original does, which has no version of its documents.
    """
    versioned = document if is_original else {"schema_version": SCHEMA_VERSION, **document}
    write_bytes((format_json(versioned).encode(), b"\n"))
    sys.stdout.flush()


def print_document_list(documents: Sequence[Mapping[str, object]]) -> None:
    """Print a result that is a list as JSON, which is always UTF-8."""
    write_bytes((format_json(documents).encode(), b"\n"))
    sys.stdout.flush()


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def output_encoding() -> str:
    """Return the encoding of standard output."""
    return sys.stdout.encoding or "ascii"


def write_bytes(chunks: Iterable[bytes | bytearray | memoryview]) -> None:
    """Write a result that is bytes to standard output, as they come."""
    for chunk in chunks:
        write_chunk(chunk)


def write_chunk(chunk: bytes | bytearray | memoryview) -> None:
    """Write a part of a result that is bytes to standard output."""
    sys.stdout.flush()
    sys.stdout.buffer.write(chunk)


class Level(IntEnum):
    """How much a message matters: what syslog has, and one more."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7
    TRACE = 8


class Stamps:
    """What stands before each line on standard error.

    Attributes:
        with_time: The time.
    """

    __slots__ = ("_is_journal", "with_time")

    def __init__(self) -> None:
        """Have no times; whether standard error is the journal is found out with the first line."""
        self.with_time = False
        self._is_journal: bool | None = None

    def before(self, level: Level) -> str:
        """Return what to print before a line of this level."""
        if self._is_journal is None:
            self._is_journal = is_journal()
        priority = f"<{min(level, Level.DEBUG)}>" if self._is_journal else ""
        return f"{priority}{_format_now()} " if self.with_time else priority


STAMPS: Final = Stamps()


def is_journal() -> bool:
    """Return whether standard error goes to systemd's journal, which takes the priority of each line.

    Format: sd-daemon(3), and JOURNAL_STREAM in systemd.exec(5).
    """
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def _format_now() -> str:
    """Return the time by the local clock, with its offset, as RFC 3339 has it."""
    from datetime import datetime  # only if asked for

    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def tell(text: str, level: Level = Level.NOTICE) -> None:
    """Print a message on standard error, in one line; of a very long one, its beginning and its end."""
    tell_lines((text,), level)


def tell_lines(lines: Iterable[str], level: Level = Level.NOTICE) -> None:
    """Print messages on standard error, a line each."""
    stamp = STAMPS.before(level)
    _write_error("".join(f"{stamp}{printable(shorten(hide_credentials(line)))}\n" for line in lines))


def tell_block(text: str) -> None:
    """Print a long text of our own on standard error."""
    stamp = STAMPS.before(Level.NOTICE)
    _write_error("".join(f"{stamp}{line}\n" for line in escape_controls(text).split("\n")))


def tell_document(document: Mapping[str, object]) -> None:
    """Print a message for programs on standard error, as JSON in one line."""
    cut = {"schema_version": SCHEMA_VERSION} | {
        key: shorten(hide_credentials(value)) if isinstance(value, str) else value
        for key, value in document.items()
    }
    priority = f"<{Level.ERROR.value}>" if is_journal() else ""
    _write_error(f"{priority}{format_json_line(cut)}\n")


_CREDENTIALS: Final = re.compile(r"(?<=://)[^\s/?#'\"@]*:[^\s/'\"@]*@")


def hide_credentials(text: str) -> str:
    """Return a message without user names and passwords of URLs, wherever it has them from.

    What knows that it has a URL leaves them out itself; but a URL can also stand where a path was expected.
    """
    return _CREDENTIALS.sub("", text) if "://" in text else text


def _write_error(text: str) -> None:
    stream: TextIO = sys.stderr
    stream.write(text)  # at once, so that lines of several processes do not mix
    stream.flush()


def shorten(text: str) -> str:
    """Return a message, with the middle omitted if it is very long."""
    if len(text) <= _MAX_MESSAGE:
        return text
    begin = text[: _MAX_MESSAGE - _MESSAGE_END]
    return f"{begin} ... ({len(text) - _MAX_MESSAGE} characters left out) ... {text[-_MESSAGE_END:]}"


def format_json(document: Mapping[str, object] | Sequence[Mapping[str, object]]) -> str:
    """Return a document as the original prints it: two spaces of indent, keys in their given order."""
    import json  # most results are text

    return _escape_json(json.dumps(document, indent=2, ensure_ascii=False))


def format_json_line(document: Mapping[str, object]) -> str:
    """Return a document in one line of ASCII."""
    import json

    return _escape_json(json.dumps(document))


def _escape_json(text: str) -> str:
    """Escape what JSON allows as it is and a terminal might act upon."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escape_in_json(ord(c)) for c in text)


def _escape_in_json(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
