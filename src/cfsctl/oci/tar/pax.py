"""Extended headers of pax: records ``<length> <key>=<value>`` with a newline, the length counting itself."""

from __future__ import annotations

import re
from typing import Final

from cfsctl.oci.tar.blocks import TarError, to_signed

XATTR_PREFIX: Final = b"SCHILY.xattr."
_SPARSE_PREFIX: Final = b"GNU.sparse."
_NUMBER: Final = re.compile(rb"\+?[0-9]+")
_MAX_64: Final = (1 << 64) - 1
_MASK_32: Final = (1 << 32) - 1
_MAX_DIGITS: Final = 40
"""More are not a number of 64 bits, unless they are zeros that nobody writes."""

_FRACTION_DIGITS: Final = 9


class PaxRecords:
    """What the records of one extended header say about the entry behind it.

    Attributes:
        path: Path, or None.
        sparse_name: Path as GNU's sparse files have it, or None.
        link_path: Target of a link, or None.
        size: Bytes of the body, or None.
        uid: Owner, or None.
        gid: Group, or None.
        mtime_s: Modification time, or None.
        mtime_ns: Its nanoseconds.
        xattrs: Extended attributes.
        has_large_id: Whether owner or group have lost bits.
    """

    __slots__ = (
        "_sparse",
        "gid",
        "has_large_id",
        "link_path",
        "mtime_ns",
        "mtime_s",
        "path",
        "size",
        "sparse_name",
        "uid",
        "xattrs",
    )

    def __init__(self, body: bytes) -> None:
        """Decode the body of an extended header.

        Raises:
            TarError: It is not valid, or it makes the entry a sparse file.
        """
        self.path: bytes | None = None
        self.sparse_name: bytes | None = None
        self.link_path: bytes | None = None
        self.size: int | None = None
        self.uid: int | None = None
        self.gid: int | None = None
        self.has_large_id = False
        self.mtime_s: int | None = None
        self.mtime_ns = 0
        self.xattrs: dict[bytes, bytes] = {}
        self._sparse: dict[bytes, bytes] = {}
        self._read(body)
        if self._sparse:
            self._check_sparse()

    def _read(self, body: bytes) -> None:
        place = 0
        while place < len(body):
            blank = body.find(b" ", place, place + _MAX_DIGITS)
            size = _parse_unsigned(body[place:blank]) if blank >= 0 else None
            if size is None:
                return  # like composefs-rs: anything after this no longer belongs to the list
            end = place + size
            if end > len(body) or end <= blank + 1 or body[end - 1] != 0x0A:
                raise TarError("PAX error: malformed PAX extension record")
            key, equals, value = body[blank + 1 : end - 1].partition(b"=")
            if not equals:
                raise TarError("PAX error: malformed PAX extension record")
            self._take(key, value)
            place = end

    def _take(self, key: bytes, value: bytes) -> None:
        if not key.isascii():
            _check_key(key)
        if key.startswith(XATTR_PREFIX):
            self.xattrs[key[len(XATTR_PREFIX) :]] = value
        elif key.startswith(_SPARSE_PREFIX):
            self._sparse[key[len(_SPARSE_PREFIX) :]] = value
        elif key == b"path":
            self.path = value
        elif key == b"linkpath":
            self.link_path = value
        elif key == b"mtime":
            self._take_mtime(value)
        elif key == b"size":
            self.size = _parse_number("size", value)
        elif key == b"uid":
            self.uid = self._take_id("uid", value)
        elif key == b"gid":
            self.gid = self._take_id("gid", value)

    def _take_id(self, key: str, value: bytes) -> int:
        number = _parse_number(key, value)
        self.has_large_id = self.has_large_id or number > _MASK_32
        return number & _MASK_32

    def _take_mtime(self, value: bytes) -> None:
        seconds, _, fraction = value.partition(b".")
        number = _parse_unsigned(seconds)
        if number is None:
            raise _invalid("mtime", value)
        if self.mtime_s is None:  # of repeated times the original takes the first fraction
            self.mtime_ns = _parse_fraction(fraction)
        self.mtime_s = to_signed(number)

    def _check_sparse(self) -> None:
        found = self._sparse
        is_version_1 = found.get(b"major") == b"1" and found.get(b"minor") == b"0"
        if is_version_1 or b"map" in found or (b"offset" in found and b"numbytes" in found):
            raise TarError("sparse tar entries are not supported")
        self.sparse_name = found.get(b"name")


def _check_key(key: bytes) -> None:
    try:
        key.decode()
    except UnicodeDecodeError as error:
        raise TarError(f"PAX error: invalid UTF-8 in PAX key: {key[:80]!r}") from error


def _parse_unsigned(text: bytes) -> int | None:
    """Return a decimal number of 64 bits, with one plus before it at most; None for anything else."""
    if len(text) > _MAX_DIGITS or not _NUMBER.fullmatch(text):
        return None
    number = int(text)
    return number if number <= _MAX_64 else None


def _parse_number(key: str, value: bytes) -> int:
    number = _parse_unsigned(value)
    if number is None:
        raise _invalid(key, value)
    return number


def _invalid(key: str, value: bytes) -> TarError:
    text = value[:80].decode("utf-8", "backslashreplace")
    return TarError(f'invalid PAX {key} value: "{text}"')


def _parse_fraction(text: bytes) -> int:
    """Return nanoseconds: nine characters count, and what is not a number is 0, as in the original."""
    digits = text[:_FRACTION_DIGITS]
    number = _parse_unsigned(digits)
    return 0 if number is None else number * 10 ** (_FRACTION_DIGITS - len(digits))
