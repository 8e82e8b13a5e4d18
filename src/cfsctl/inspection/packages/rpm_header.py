"""The header of a package as a database of RPM has it.

    0    4   number of index entries, big-endian, as all that follows
    4    4   bytes of the store
    8   16   for each entry: tag, type, offset in the store, count
    ...      the store

Only the first value of a few tags is read; offsets and counts are checked before.
"""

from __future__ import annotations

import struct
from typing import Final

from cfsctl.inspection.packages.package import Package, PackageDatabaseError, to_text

_COUNTS: Final = struct.Struct(">II")
_ENTRY: Final = struct.Struct(">IIII")
_MAX_ENTRIES: Final = 1 << 16

_NAME, _VERSION, _RELEASE, _EPOCH = 1000, 1001, 1002, 1003
_SIZE, _ARCHITECTURE, _LONG_SIZE = 1009, 1022, 5009
_NUMBERS: Final = {4: struct.Struct(">I"), 5: struct.Struct(">Q")}
_STRING: Final = 6
_TYPES: Final = {_NAME: _STRING, _VERSION: _STRING, _RELEASE: _STRING, _ARCHITECTURE: _STRING} | {
    _EPOCH: 4,
    _SIZE: 4,
    _LONG_SIZE: 5,
}
_MAX_STRING: Final = 4096


def parse_header(blob: bytes) -> Package | None:
    """Return the package that a header describes; None for something else, such as a public key.

    Raises:
        PackageDatabaseError: It is not a header.
    """
    texts, numbers = _read_values(blob)
    name, version, release = texts.get(_NAME), texts.get(_VERSION), texts.get(_RELEASE)
    if not name or not version:
        raise PackageDatabaseError("rpm header: expected a name and a version, found none")
    if name == b"gpg-pubkey":
        return None
    size = numbers.get(_LONG_SIZE, numbers.get(_SIZE))
    full = b"%d:" % numbers[_EPOCH] if _EPOCH in numbers else b""
    full += version if release is None else version + b"-" + release
    architecture = to_text(texts.get(_ARCHITECTURE, b""), "arch")
    return Package(to_text(name, "name"), architecture, to_text(full, "version"), size)


def _read_values(blob: bytes) -> tuple[dict[int, bytes], dict[int, int]]:
    """Return the wanted values, by tag: texts and numbers."""
    if len(blob) < _COUNTS.size:
        raise PackageDatabaseError(f"rpm header: expected at least {_COUNTS.size} bytes, found {len(blob)}")
    entries, store_bytes = _COUNTS.unpack_from(blob)
    start = _COUNTS.size + entries * _ENTRY.size
    if entries > _MAX_ENTRIES or start + store_bytes > len(blob):
        raise PackageDatabaseError("rpm header: its index or store goes beyond its end")
    texts: dict[int, bytes] = {}
    numbers: dict[int, int] = {}
    for tag, kind, offset, count in _ENTRY.iter_unpack(blob[_COUNTS.size : start]):
        if tag not in _TYPES or tag in texts or tag in numbers:
            continue
        if kind != _TYPES[tag] or not count:
            raise PackageDatabaseError(f"rpm header: tag {tag} has type {kind}, expected {_TYPES[tag]}")
        if kind == _STRING:
            texts[tag] = _read_text(blob, start + offset, start + store_bytes)
        else:
            numbers[tag] = _read_number(blob, _NUMBERS[kind], start + offset, start + store_bytes)
    return texts, numbers


def _read_text(blob: bytes, at: int, end: int) -> bytes:
    stop = blob.find(b"\0", at, min(end, at + _MAX_STRING))
    if stop < 0:
        raise PackageDatabaseError("rpm header: a string does not end within the store")
    return blob[at:stop]


def _read_number(blob: bytes, number: struct.Struct, at: int, end: int) -> int:
    if at + number.size > end:
        raise PackageDatabaseError("rpm header: a number is not within the store")
    value: int = number.unpack_from(blob, at)[0]
    return value
