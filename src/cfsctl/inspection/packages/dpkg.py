"""The status file of dpkg: paragraphs of fields, separated by blank lines.

Format: deb-control(5) and dpkg(1). Only packages whose status is ``installed`` count. Files below
``status.d``, of images without a package manager, have no status, and count.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cfsctl.inspection.packages.package import Package, check_count, to_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_WANTED: Final = frozenset({b"package", b"version", b"architecture", b"status", b"installed-size"})
_PARAGRAPH_END: Final = re.compile(rb"\n[ \t]*\n")
_MAX_KIB: Final = 1 << 40
_DIGITS: Final = re.compile(rb"\d{1,13}", re.ASCII)


def parse_status(data: bytes | bytearray) -> list[Package]:
    """Return the packages that a status file says are installed.

    A paragraph without a name or a version is none of a package.

    Raises:
        PackageDatabaseError: They are too many, or a name is too long.
    """
    packages: list[Package] = []
    for fields in _iter_paragraphs(data):
        package = _make_package(fields)
        if package is not None:
            packages.append(package)
            check_count(len(packages))
    return packages


def _iter_paragraphs(data: bytes | bytearray) -> Iterator[dict[bytes, bytes]]:
    start = 0
    while start < len(data):
        match = _PARAGRAPH_END.search(data, start)
        end = len(data) if match is None else match.start()
        yield _read_fields(data, start, end)
        start = len(data) if match is None else match.end()


def _read_fields(data: bytes | bytearray, start: int, end: int) -> dict[bytes, bytes]:
    """Return the wanted fields of a paragraph; the first of a name counts. Lines that go on are skipped."""
    fields: dict[bytes, bytes] = {}
    while start < end:
        stop = data.find(b"\n", start, end)
        stop = end if stop < 0 else stop
        colon = data.find(b":", start, min(stop, start + 32))
        if colon > start and data[start] not in b" \t":
            name = bytes(data[start:colon]).lower()
            if name in _WANTED:
                fields.setdefault(name, bytes(data[colon + 1 : stop]).strip())
        start = stop + 1
    return fields


def _make_package(fields: dict[bytes, bytes]) -> Package | None:
    name, version = fields.get(b"package"), fields.get(b"version")
    words = fields.get(b"status", b"install ok installed").split(None, 3)
    if not name or not version or words[2:3] != [b"installed"]:
        return None
    architecture = to_text(fields.get(b"architecture", b""), "Architecture")
    size = fields.get(b"installed-size", b"")
    kib = int(size) if _DIGITS.fullmatch(size) and int(size) < _MAX_KIB else None
    return Package(
        to_text(name, "Package"),
        architecture,
        to_text(version, "Version"),
        None if kib is None else kib << 10,
    )
