r"""Unified kernel images: sections of a PE executable.

Format: PE/COFF, as far as sections are found by name:

    0x3c        u32   offset of the PE header
    PE header   "PE\0\0", then 20 bytes: number of sections at +2 (u16), size of the optional header
                at +16 (u16), which follows
    sections    40 bytes each: name (8 bytes, NUL padded), VirtualSize at +8, PointerToRawData at +20
"""

from __future__ import annotations

import struct
from typing import Final

from cfsctl.boot.os_release import boot_label, parse_os_release
from cfsctl.errors import FormatError

_PE_OFFSET: Final = struct.Struct("<I")
_COFF: Final = struct.Struct("<2xH12xH2x")
_SECTION: Final = struct.Struct("<8sI4xII16x")
"""name, VirtualSize, SizeOfRawData, PointerToRawData."""


class UkiError(FormatError):
    """A file that is not a unified kernel image, or lacks a section."""


class MissingSectionError(UkiError):
    """An executable without the section."""


def find_section(data: bytes | memoryview, name: bytes) -> bytes:
    """Return the content of the first section of a name.

    The content has the section's virtual size, and no more than the file holds for it.

    Raises:
        UkiError: The file is not a PE executable, or a header or the section lies outside of it.
        MissingSectionError: There is no section of this name.
    """
    for section_name, virtual_size, raw_size, start in _iter_sections(data):
        if section_name.rstrip(b"\0") == name:
            del (
                raw_size
            )  # smaller than the virtual size where a loader fills up with zeros; the original ignores it
            return bytes(_slice(data, start, virtual_size))
    raise MissingSectionError(f"UKI doesn't contain a '{name.decode()}' section")


def _iter_sections(data: bytes | memoryview) -> list[tuple[bytes, int, int, int]]:
    if len(data) < 0x40:
        raise _not_executable(len(data))
    (header,) = _PE_OFFSET.unpack(_slice(data, 0x3C, 4))
    if bytes(_slice(data, header, 4)) != b"PE\0\0":
        raise _not_executable(header)
    count, optional_size = _COFF.unpack(_slice(data, header + 4, _COFF.size))
    table = _slice(data, header + 4 + _COFF.size + optional_size, count * _SECTION.size)
    return list(_SECTION.iter_unpack(table))


def _slice(data: bytes | memoryview, start: int, size: int) -> memoryview:
    if start + size > len(data):
        raise _not_executable(start)
    return memoryview(data)[start : start + size]


def _not_executable(offset: int) -> UkiError:
    return UkiError("UKI is not valid EFI executable", offset=offset)


def read_text_section(data: bytes | memoryview, name: bytes) -> str:
    """Return a section as text, without NULs and white space at its end, which tools pad it with.

    Raises:
        UkiError: See `find_section`; or the section is not UTF-8.
    """
    content = find_section(data, name)
    try:
        return content.decode().rstrip("\0 \t\r\n")
    except UnicodeDecodeError as error:
        raise UkiError(f"UKI section '{name.decode()}' is not UTF-8", offset=error.start) from error


def read_cmdline(data: bytes | memoryview) -> str:
    """Return the kernel command line of a unified kernel image.

    Raises:
        UkiError: See `read_text_section`.
    """
    return read_text_section(data, b".cmdline")


def read_label(data: bytes | memoryview) -> str:
    """Return how a boot menu shows a unified kernel image.

    Raises:
        UkiError: See `read_text_section`; or its os-release has no name.
    """
    label = boot_label(parse_os_release(read_text_section(data, b".osrel")))
    if label is None:
        raise UkiError("No name information found in .osrel section")
    return label
