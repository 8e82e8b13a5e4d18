"""The parser: bytes in, events out, nothing else.

    HEADER ──▶ EXTENSION ──▶ SKIPPED (padding) ──▶ HEADER      long names and pax records
           ──▶ CONTENT ────▶ SKIPPED ──▶ HEADER                small regular file
           ──▶ BODY ───────▶ PADDING ──▶ HEADER                larger regular file
           ──▶ SKIPPED ────▶ HEADER                            anything else
           ──▶ TRAILER                                         two blocks of zeros

What is held is a header, one mebibyte of extensions at most, and small contents: never as much as an archive
claims. The time is linear in the bytes, however they are cut.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from cfsctl.oci.tar.blocks import BLOCK_BYTES, ZERO_BLOCK, Header, TarError, padding, parse_header
from cfsctl.oci.tar.entry import REGULAR_TYPES, Entry
from cfsctl.oci.tar.pax import PaxRecords
from cfsctl.tree.model import NO_XATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

INLINE_BYTES: Final = 64
"""Largest regular file that is kept inline."""

MAX_TRAILER_BYTES: Final = 64 << 20
"""Bytes that may follow the end of an archive: padding, of which tar writes 10 KiB unless told otherwise."""

MAX_EXTENSION_BYTES: Final = 1 << 20
"""Most bytes of extension headers before one entry, and of one global header."""

_MAX_SIZE: Final = (1 << 64) - BLOCK_BYTES
_LONG_NAME: Final = ord("L")
_LONG_LINK: Final = ord("K")
_PAX: Final = ord("x")
_GLOBAL: Final = ord("g")
_SPARSE: Final = ord("S")
_EXTENSION_NAMES: Final = {
    _LONG_NAME: "GNU long name entry",
    _LONG_LINK: "GNU long link entry",
    _PAX: "PAX extended header",
}


class Inline(NamedTuple):
    """Bytes that a layer stream keeps: headers, padding, small bodies and what stands behind the end."""

    data: memoryview


class Body(NamedTuple):
    """Bytes of the regular file whose entry, with `is_external`, came last."""

    data: memoryview


Event: TypeAlias = Inline | Body | Entry


_MAX_REMARKS: Final = 3
"""Most remarks of one kind: an archive may have a million of them."""

_AFTER_ZEROS: Final = "an entry after a single block of zeros, at which other programs stop"
_FORGOTTEN: Final = "a global header, before which a long name or extended header is lost, which others keep"
_BODY: Final = "an entry with a body of a type that has none"
_LARGE_ID: Final = "an owner or group of more than 32 bits, of which the lower ones count"


class _At(Enum):
    HEADER = 1
    EXTENSION = 2
    CONTENT = 3
    BODY = 4
    PADDING = 5
    SKIPPED = 6
    TRAILER = 7


_END_TEXTS: Final = {
    _At.HEADER: "unexpected EOF in tar stream",
    _At.EXTENSION: "unexpected EOF in tar stream",
    _At.PADDING: "unexpected EOF reading tar padding",
}


class TarParser:
    """Parses one archive.

    Attributes:
        offset: Bytes taken so far, with those that were skipped.
        remarks: What other programs read otherwise, as path and text; some of each kind.
    """

    def __init__(self) -> None:
        """Begin at the first header."""
        self.offset = 0
        self.remarks: list[tuple[bytes, str]] = []
        self._at = _At.HEADER
        self._left = 0  # bytes of what `_at` names, unless that is a header
        self._field = bytearray()  # the beginning of a header, of an extension or of a content
        self._extensions: dict[int, bytes] = {}
        self._extension_bytes = 0
        self._extension = 0  # type of the extension that is being read
        self._size = 0  # of the body that is being read
        self._entry: Entry | None = None  # waits for its content
        self._path = b""  # of the entry that came last, for messages
        self._after_zeros = False
        self._trailer_bytes = 0

    @property
    def is_ended(self) -> bool:
        """Whether the end of the archive was found; what follows has no meaning."""
        return self._at is _At.TRAILER

    def feed(self, data: bytes | memoryview) -> list[Event]:  # noqa: C901 - one loop, which is hot
        """Process the next bytes.

        Returns:
            What they are, in order: every byte is in one `Inline` or `Body`. The entry of a larger regular
            file comes between the two; any other comes when it is complete, and may precede the `Inline` it
            is in.

        Raises:
            TarError: They are not valid.
        """
        view = memoryview(data)
        events: list[Event] = []
        end = len(view)
        place = start = 0
        while place < end:
            at = self._at
            if at is _At.HEADER:
                stop = min(place + BLOCK_BYTES - len(self._field), end)
                block = self._collect(view[place:stop], BLOCK_BYTES)
                place = stop
                entry = None if block is None else self._take_header(block, self.offset + place - BLOCK_BYTES)
                if entry is not None:
                    if entry.is_external:
                        events.append(Inline(view[start:place]))
                        start = place
                    events.append(entry)
                continue
            if at is _At.TRAILER:
                self._count_trailer(end - place)
                place = end
                break
            stop = min(place + self._left, end)
            piece = view[place:stop]
            self._left -= stop - place
            place = stop
            if at is _At.BODY:
                events.append(Body(piece))
                start = place
            elif at is _At.CONTENT or at is _At.EXTENSION:
                self._field += piece
            if not self._left:
                entry = self._end_part(at)
                if entry is not None:
                    events.append(entry)
        if start < place:
            events.append(Inline(view[start:place]))
        self.offset += end
        return events

    def _count_trailer(self, size: int) -> None:
        self._trailer_bytes += size
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            limit = MAX_TRAILER_BYTES
            raise TarError(f"expected at most {limit} bytes after the end of the archive, found more")

    def _collect(self, piece: memoryview, size: int) -> bytes | None:
        """Return a whole field, or None while bytes are missing."""
        if not self._field and len(piece) == size:
            return bytes(piece)
        self._field += piece
        if len(self._field) < size:
            return None
        field = bytes(self._field)
        self._field.clear()
        return field

    def skip_body(self, size: int) -> None:
        """Record that the body of the entry that came last, which `is_external`, stands elsewhere.

        Args:
            size: Bytes of the body there.

        Raises:
            TarError: No such body is expected here, or it has another size.
        """
        if self._at is not _At.BODY or self._left != self._size:
            raise TarError("found an object where the archive has none", offset=self.offset)
        if size != self._size:
            raise TarError(f"expected an object of {self._size} bytes, found {size}", offset=self.offset)
        self.offset += size
        self._left = 0
        self._end_part(_At.BODY)

    def finish(self) -> None:
        """Record the end of the archive; the marker of its end may be missing.

        Raises:
            TarError: It ends in the middle of something.
        """
        at = self._at
        if at is _At.TRAILER:
            return
        is_clean = at is _At.HEADER and not (self._field or self._extensions or self._after_zeros)
        if not is_clean:
            text = _END_TEXTS.get(at, "unexpected EOF reading tar entry")
            if at is _At.HEADER or at is _At.EXTENSION or not self._path:
                raise TarError(text, offset=self.offset)
            name = self._path.decode("utf-8", "backslashreplace")
            raise TarError(f"entry '{name}': {text}", path=self._path, offset=self.offset)

    # Parts

    def _end_part(self, at: _At) -> Entry | None:
        """Continue after a complete part; return the entry that it completes."""
        if at is _At.EXTENSION:
            self._extensions[self._extension] = bytes(self._field)
            self._field.clear()
            self._expect_padding(_At.SKIPPED)
        elif at is _At.CONTENT:
            return self._end_content()
        elif at is _At.BODY:
            self._expect_padding(_At.PADDING)
        else:
            self._at = _At.HEADER
        return None

    def _end_content(self) -> Entry | None:
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.content = bytes(self._field)
        self._field.clear()
        self._expect_padding(_At.SKIPPED)
        return entry

    def _expect(self, at: _At, size: int) -> None:
        self._at = at if size else _At.HEADER
        self._left = size

    def _expect_padding(self, at: _At) -> None:
        self._expect(at, padding(self._size))

    # Headers

    def _take_header(self, block: bytes, offset: int) -> Entry | None:
        """Decode a header; return the entry if nothing is missing of it but what is external."""
        if block == ZERO_BLOCK:
            self._take_zeros()
            return None
        if self._after_zeros:
            self._remark(block[:100].partition(b"\0")[0], _AFTER_ZEROS)
            self._after_zeros = False
        try:
            header = parse_header(block)
            _check_size(header.size)
            if header.type == _GLOBAL or (header.type in _EXTENSION_NAMES and not header.is_v7):
                self._begin_extension(header)
                return None
            return self._begin_entry(self._make_entry(header, offset))
        except TarError as error:
            _refuse(error, block, offset)

    def _take_zeros(self) -> None:
        if not self._after_zeros:
            self._after_zeros = True  # the original goes on behind a single one
            return
        if self._extensions:
            raise TarError("metadata entries without a following actual entry", offset=self.offset)
        self._at = _At.TRAILER

    def _begin_extension(self, header: Header) -> None:
        size = self._size = header.size
        self._path = b""
        if header.type == _GLOBAL:
            _check_extension_bytes(size)
            if self._extensions:
                self._remark(b"", _FORGOTTEN)
            # As the original does: what was to go with the next entry is forgotten.
            self._extensions = {}
            self._extension_bytes = 0
            self._expect(_At.SKIPPED, size + padding(size))
            return
        if header.type in self._extensions:
            raise TarError(f"duplicate {_EXTENSION_NAMES[header.type]}")
        self._extension_bytes += size
        _check_extension_bytes(self._extension_bytes)
        self._extension = header.type
        self._at = _At.EXTENSION
        self._left = size
        if not size:
            self._end_part(_At.EXTENSION)

    def _begin_entry(self, entry: Entry) -> Entry | None:
        size = self._size = entry.size
        self._path = entry.path
        if entry.is_external:
            self._at = _At.BODY
            self._left = size
            return entry
        if size and entry.type in REGULAR_TYPES:
            self._entry = entry
            self._expect(_At.CONTENT, size)
            return None
        if size and entry.type not in REGULAR_TYPES:
            self._remark(entry.path, _BODY)
        self._expect(_At.SKIPPED, size + padding(size))
        return entry

    def _remark(self, path: bytes, text: str) -> None:
        if sum(text == other for _, other in self.remarks) < _MAX_REMARKS:
            self.remarks.append((path, text))

    def _make_entry(self, header: Header, offset: int) -> Entry:
        if header.type == _SPARSE and not header.is_v7:
            raise TarError("sparse tar entries are not supported")
        path, target, size = header.name, header.link_name, header.size
        uid, gid, mtime_s, mtime_ns = header.uid, header.gid, header.mtime_s, 0
        xattrs: Mapping[bytes, bytes] = NO_XATTRS
        if self._extensions:
            extensions, self._extensions, self._extension_bytes = self._extensions, {}, 0
            path = _strip_nul(extensions.get(_LONG_NAME), path)
            target = _strip_nul(extensions.get(_LONG_LINK), target)
            if _PAX in extensions:
                pax = PaxRecords(extensions[_PAX])
                path = _first(pax.sparse_name, pax.path, path)
                target = _first(pax.link_path, target)
                size = size if pax.size is None else pax.size
                uid = uid if pax.uid is None else pax.uid
                gid = gid if pax.gid is None else pax.gid
                if pax.has_large_id:
                    self._remark(path, _LARGE_ID)
                if pax.mtime_s is not None:
                    mtime_s, mtime_ns = pax.mtime_s, pax.mtime_ns
                xattrs = pax.xattrs
        if not path:
            raise TarError("entry has empty path")
        if header.has_large_id:
            self._remark(path, _LARGE_ID)
        _check_size(size)
        return Entry(
            header.type,
            path,
            target,
            size,
            header.mode,
            uid,
            gid,
            mtime_s,
            mtime_ns,
            header.device,
            xattrs,
            offset,
            is_external=size > INLINE_BYTES and header.type in REGULAR_TYPES,
        )


def _refuse(error: TarError, block: bytes, offset: int) -> NoReturn:
    """Raise an error with the name in the header at fault, as far as that can be told."""
    name = block[:100].partition(b"\0")[0]
    text = name.decode("utf-8", "backslashreplace")
    raise TarError(f"entry '{text}' at byte {offset}: {error}", path=name, offset=offset) from error


def _check_size(size: int) -> None:
    if size > _MAX_SIZE:
        raise TarError(f"invalid entry size: {size}")


def _check_extension_bytes(size: int) -> None:
    if size > MAX_EXTENSION_BYTES:
        raise TarError(f"metadata exceeds limit: {size} bytes > {MAX_EXTENSION_BYTES} bytes")


def _strip_nul(body: bytes | None, default: bytes) -> bytes:
    return default if body is None else body.removesuffix(b"\0")


def _first(*values: bytes | None) -> bytes:
    return next(value for value in values if value is not None)
