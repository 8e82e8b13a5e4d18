"""``tar-split``: what an archive had beside the contents of its files, so that it can be reassembled.

One JSON object a line. Type 2 is a segment of the archive (headers, padding) in base64; type 1 stands for the
content of a file, which is elsewhere, with its name as the archive has it, its size and a checksum (which is
not compared, as the whole archive has a digest). Written by github.com/vbatts/tar-split.
"""

from __future__ import annotations

import binascii
import json
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FILE: Final = 1
_SEGMENT: Final = 2

MAX_LINE_BYTES: Final = 96 << 20
"""Longest line: the 64 MiB that may follow the end of an archive, in base64."""

_MAX_SIZE: Final = 1 << 53
_MAX_BRACKETS: Final = 1 << 16
"""Most brackets of a line: it is one object, but a name may have some."""


class TarSplitError(FormatError):
    """Lines that are not valid."""


class SplitFile(NamedTuple):
    """A place where the content of a file belongs.

    Attributes:
        name: The file, as the archive names it.
        size: Bytes of its content.
    """

    name: bytes
    size: int


def iter_tar_split(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | SplitFile]:
    """Yield the segments of an archive, and the files whose contents belong between them.

    Args:
        pieces: The unpacked lines, cut anywhere.

    Raises:
        TarSplitError: They are not valid.
    """
    for number, line in enumerate(_iter_lines(pieces)):
        yield from _parse_line(line, number)


def _iter_lines(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield lines; the time stays linear however the bytes are cut."""
    begun: list[bytes] = []
    length = 0
    for piece in pieces:
        *complete, rest = bytes(piece).split(b"\n")
        for line in complete:
            yield b"".join((*begun, line))
            begun.clear()
            length = 0
        if rest:
            begun.append(rest)
            length += len(rest)
        if length > MAX_LINE_BYTES:
            raise TarSplitError(f"tar-split: expected lines of at most {MAX_LINE_BYTES} bytes")
    if begun:
        yield b"".join(begun)


def _parse_line(line: bytes, number: int) -> Iterator[bytes | SplitFile]:
    if not line.strip():
        return
    # Base64 has none of these, but a line of nothing else would take thirty times its size in memory.
    if line.count(b"{") + line.count(b"[") > _MAX_BRACKETS:
        raise _wrong(number, "expected one object with text and numbers")
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TarSplitError(f"tar-split: line {number + 1}: expected JSON: {error}") from error
    if not isinstance(entry, dict):
        raise _wrong(number, "expected an object")
    # The writer counts its lines, so a line that was lost, or put elsewhere, is noticed here.
    if entry.get("position", number) != number:
        raise _wrong(number, f"expected position {number}, found {entry['position']!r}"[:120])
    kind = entry.get("type")
    if kind == _SEGMENT:
        yield _decode(entry.get("payload"), number)
    elif kind == _FILE:
        size = entry.get("size", 0)
        if type(size) is not int or not 0 <= size <= _MAX_SIZE:
            raise _wrong(number, "size: expected a number of bytes")
        if size:
            yield SplitFile(_find_name(entry, number), size)
    else:
        raise _wrong(number, "type: expected 1 (file) or 2 (segment)")


def _find_name(entry: dict[str, object], number: int) -> bytes:
    name = entry.get("name")
    if isinstance(name, str) and name:
        try:
            return name.encode()
        except UnicodeEncodeError as error:
            raise _wrong(number, "name: expected text") from error
    raw = entry.get("name_raw")  # of a name that is not UTF-8
    if not isinstance(raw, str) or not raw:
        raise _wrong(number, "expected the name of a file")
    return _decode(raw, number)


def _decode(text: object, number: int) -> bytes:
    if text is None:
        return b""
    if not isinstance(text, str):
        raise _wrong(number, "expected base64")
    try:
        return binascii.a2b_base64(text.encode(), strict_mode=True) if text else b""
    except ValueError as error:
        raise _wrong(number, "expected base64") from error


def _wrong(number: int, text: str) -> TarSplitError:
    return TarSplitError(f"tar-split: line {number + 1}: {text}")
