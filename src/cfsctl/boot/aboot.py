"""Android boot images and ukiboot payloads.

Format: the Android boot image header, version 2, 1660 bytes, little-endian:

     0  magic "ANDROID!"          8  kernel size, address      16  ramdisk size, address
    24  second size, address     32  tags address              36  page size
    40  header version           44  OS version                48  name, 16 bytes
    64  command line, 512 bytes  576  ID, 32 bytes            608  more of the command line, 1024 bytes
  1632  recovery dtbo size (u32), offset (u64)               1644  header size
  1648  dtb size (u32), address (u64)

The components follow from the second page on in the order kernel, ramdisk, second, recovery dtbo, dtb, each
padded to whole pages.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cfsctl.boot.uki import find_section
from cfsctl.errors import FormatError

MAGIC: Final = b"ANDROID!"
HEADER_SIZE: Final = 1660
_VERSION: Final = 2
_HEADER: Final = struct.Struct("<8s10I16s512s32s1024sIQIIQ")
assert _HEADER.size == HEADER_SIZE


class AbootError(FormatError):
    """A payload that is neither an Android boot image nor a unified kernel image."""


class PayloadKind(Enum):
    """What a payload is."""

    ANDROID = "android"
    UKI = "uki"


@dataclass(frozen=True, slots=True)
class AndroidHeader:
    """Header of an Android boot image; sizes in bytes.

    Attributes:
        page_size: What components are padded to.
        sizes: Sizes of the components by name, in their order; 0 for one that is missing.
        cmdline: Both fields of the command line, joined, without what follows their first NUL.
    """

    page_size: int
    sizes: dict[str, int]
    cmdline: bytes

    def find_component(self, name: str) -> tuple[int, int]:
        """Return offset and size of a component within the file.

        Raises:
            AbootError: The image has no such component.
        """
        offset = self.page_size
        for component, size in self.sizes.items():
            if component == name:
                if not size:
                    break
                return offset, size
            offset += -(-size // self.page_size) * self.page_size
        raise AbootError(f"component {name} is not present", field=name)


def parse_header(data: bytes | memoryview) -> AndroidHeader:
    """Return the header at the start of an Android boot image.

    Raises:
        AbootError: The header is cut off, of another version, or has sizes that cannot be.
    """
    if len(data) < HEADER_SIZE:
        raise AbootError(f"Android boot image header: expected {HEADER_SIZE} bytes, found {len(data)}")
    fields = _HEADER.unpack_from(data)
    _, kernel, _, ramdisk, _, second, _, _, page_size, version, _ = fields[:11]
    _, cmdline, _, more, dtbo, _, header_size, dtb, _ = fields[11:]
    if version != _VERSION:
        raise AbootError(f"unsupported Android boot header version {version}", offset=40)
    if not page_size or not HEADER_SIZE <= header_size <= page_size:
        raise AbootError(
            f"invalid Android boot image header: header of {header_size} bytes, pages of {page_size}",
            offset=36,
        )
    return AndroidHeader(
        page_size=page_size,
        sizes={"kernel": kernel, "ramdisk": ramdisk, "second": second, "recovery_dtbo": dtbo, "dtb": dtb},
        cmdline=cmdline.split(b"\0")[0] + more.split(b"\0")[0],
    )


def identify(data: bytes | memoryview) -> PayloadKind:
    """Return what a payload is, after checking what has to be there.

    Raises:
        AbootError: The header of an Android boot image is invalid.
        UkiError: Anything else that is not a PE executable with ``.linux`` and ``.initrd``.
    """
    if bytes(data[: len(MAGIC)]) == MAGIC:
        parse_header(data)
        return PayloadKind.ANDROID
    for name in (b".linux", b".initrd"):
        find_section(data, name)
    return PayloadKind.UKI
