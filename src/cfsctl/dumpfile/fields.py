"""Single fields of a dump's lines."""

from __future__ import annotations

import stat
from binascii import Error as HexError
from binascii import unhexlify
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from cfsctl.digest import ObjectID
from cfsctl.dumpfile import format as limits
from cfsctl.dumpfile.format import XATTRS_FIELD, DumpfileError, printable, unescape
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.model import NO_XATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import Algorithm

_TYPES: Final = frozenset(
    (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
)
_MAX_MEMO: Final = 1 << 16
"""Values of one field that are remembered; more than a tree usually has of them."""

_U32: Final = (1 << 32) - 1
_MAX_SECONDS: Final = (1 << 63) - 1
_MAX_DIGITS: Final = 32
_MAX_NSEC: Final = 999_999_999

T = TypeVar("T")


class FieldParser:
    """Reads fields; every failure names the line.

    The tables remember fields already parsed; the caller may look there first.

    Attributes:
        modes: File type and permission bits by MODE.
        ids: Numbers by UID or GID.
        xattrs: Attributes by all KEY=VALUE fields of a line.
    """

    def __init__(self, algorithm: Algorithm, dialect: Dialect) -> None:
        """Start with empty tables."""
        self._algorithm = algorithm
        self._is_c = dialect is Dialect.C
        self._number = 0
        self.modes: dict[bytes, tuple[int, int]] = {}
        self.ids: dict[bytes, int] = {}
        self.xattrs: dict[bytes, Mapping[bytes, bytes]] = {}

    def _fail(self, message: str, field: str | None = None) -> NoReturn:
        raise DumpfileError(message, line=self._number, field=field)

    def _unescape(self, text: bytes, field: str) -> bytes:
        try:
            return unescape(text)
        except ValueError as error:
            raise DumpfileError(str(error), line=self._number, field=field) from error

    def _payload(self, text: bytes, limit: int, *, at_least: int = 1) -> bytes:
        payload = self._unescape(text, "PAYLOAD")
        if not at_least <= len(payload) <= limit:
            self._fail(f"{len(payload)} bytes; expected {at_least} to {limit}", "PAYLOAD")
        if b"\0" in payload:
            self._fail(f"{printable(text)} has a NUL in it", "PAYLOAD")
        return payload

    def _content(self, text: bytes, size: int) -> bytes:
        if text == b"-":
            return b""
        content = self._unescape(text, "CONTENT")
        limit = limits.MAX_CONTENT_C if self._is_c else limits.MAX_CONTENT
        if len(content) > limit:
            self._fail(f"{len(content)} bytes, more than {limit}", "CONTENT")
        if len(content) != size:
            self._fail(f"{len(content)} bytes, but SIZE is {size}", "CONTENT")
        return content

    def _digest(self, text: bytes) -> ObjectID | None:
        if text == b"-" or (self._is_c and not text):
            return None
        try:
            digest = unhexlify(text)
        except HexError as error:
            raise DumpfileError(
                f"{printable(text)} is not hexadecimal: {error}", line=self._number, field="DIGEST"
            ) from error
        if len(digest) != self._algorithm.digest_size:
            self._fail(
                f"expected {2 * self._algorithm.digest_size} hexadecimal digits of "
                f"{self._algorithm.hash_name}, found {len(text)}",
                "DIGEST",
            )
        return ObjectID(digest)

    def _object_in(self, payload: bytes) -> ObjectID | None:
        """Return the object whose path a payload ends in; anything may stand before it."""
        size = self._algorithm.digest_size
        tail = payload[-(2 * size + 1) :]
        if len(tail) != 2 * size + 1 or tail[2:3] != b"/":
            return None
        try:
            return ObjectID(unhexlify(tail[:2] + tail[3:]))
        except HexError:
            return None

    def _integer(self, text: bytes, limit: int, field: str) -> int:
        if not text.isdigit() or len(text) > _MAX_DIGITS or int(text) > limit:
            self._fail(f"expected a decimal number up to {limit}, found {printable(text)}", field)
        return int(text)

    def _id(self, text: bytes, field: str) -> int:
        known = self.ids.get(text)
        if known is None:
            known = self._integer(text, _U32, field)
            remember(self.ids, text, known)
        return known

    def _mode(self, text: bytes) -> int:
        if not text or text.translate(None, b"01234567") or len(text) > _MAX_DIGITS:
            self._fail(f"expected an octal number, found {printable(text)}", "MODE")
        mode = int(text, 8)
        if mode > _U32 or stat.S_IFMT(mode) not in _TYPES:
            self._fail(f"{printable(text)} has no known file type", "MODE")
        return mode

    def parse_time(self, text: bytes, number: int) -> tuple[int, int]:
        """Return seconds and nanoseconds of MTIME.

        Raises:
            DumpfileError: It is not a valid time.
        """
        self._number = number
        seconds, dot, nanoseconds = text.partition(b".")
        if not dot:
            self._fail(f"expected seconds.nanoseconds, found {printable(text)}", "MTIME")
        sign = -1 if seconds.startswith(b"-") else 1
        return (
            sign * self._integer(seconds.removeprefix(b"-"), _MAX_SECONDS, "MTIME"),
            self._integer(nanoseconds, _MAX_NSEC, "MTIME"),
        )

    def parse_xattrs(self, text: bytes, number: int) -> Mapping[bytes, bytes]:
        """Return the attributes in all KEY=VALUE fields of a line.

        Raises:
            DumpfileError: They are wrong.
        """
        self._number = number
        if self._is_c and len(text) > limits.MAX_XATTR_TEXT_C:
            self._fail(f"{len(text)} bytes, more than {limits.MAX_XATTR_TEXT_C}", XATTRS_FIELD)
        pairs = text.split(b" ")
        if self._is_c and not pairs[-1]:
            pairs.pop()  # the C tool takes a space at the end
        xattrs: dict[bytes, bytes] = {}
        for pair in pairs:
            name, value = self._xattr(pair)
            # Of a repeated name one original keeps the greatest value, the other the last.
            if self._is_c or name not in xattrs or value > xattrs[name]:
                xattrs[name] = value
        self._check_total(xattrs)
        remember(self.xattrs, text, xattrs)
        return xattrs or NO_XATTRS

    def _xattr(self, pair: bytes) -> tuple[bytes, bytes]:
        name_text, equals, value_text = pair.partition(b"=")
        if not equals:
            self._fail(f"no '=' in {printable(pair)}", XATTRS_FIELD)
        name = self._unescape(name_text, XATTRS_FIELD)
        value = self._unescape(value_text, XATTRS_FIELD)
        if not 0 < len(name) <= limits.MAX_XATTR_NAME or b"\0" in name:
            self._fail(
                f"{printable(name_text)} has {len(name)} bytes; expected 1 to {limits.MAX_XATTR_NAME}, "
                "none of them NUL",
                XATTRS_FIELD,
            )
        if len(value) > limits.MAX_XATTR_VALUE:
            self._fail(
                f"the value of {printable(name_text)} has {len(value)} bytes, more than "
                f"{limits.MAX_XATTR_VALUE}",
                XATTRS_FIELD,
            )
        return name, value

    def _check_total(self, xattrs: Mapping[bytes, bytes]) -> None:
        total = sum(map(len, xattrs))
        limit = limits.MAX_XATTR_NAMES
        if self._is_c:
            total += limits.XATTR_HEADER_COST_C + sum(map(len, xattrs.values()))
            total += limits.XATTR_COST_C * len(xattrs)
            limit = limits.MAX_XATTR_TOTAL_C
        if total > limit:
            self._fail(f"attributes count {total} bytes together, more than {limit}", XATTRS_FIELD)


def remember(memo: dict[bytes, T], text: bytes, value: T) -> None:
    """Store what a field stands for, unless so many are kept that memory matters."""
    if len(memo) < _MAX_MEMO:
        memo[text] = value
