"""The splitstream format, version 0: tables, limits and the two headers.

    0     header       magic, version, flags, algorithm, lg block size, range of the info section
    32    info         four ranges, content type, size of the stream
    112   stream_refs  digests of other streams that this one keeps alive
          object_refs  digests of objects that this one refers to
          named_refs   zstd: "<index into stream_refs>:<name>" NUL ...
          stream       zstd: chunks, each an i64 and, when that is negative, as many bytes

Everything is little-endian, nothing is aligned, and a range is a half-open pair of file offsets. A
reader takes the sections wherever the ranges say they are; a writer puts them in this order. Files of
before the layout was fixed have the fields of the header in another order.

Format: composefs, splitstream version 0.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from cfsctl.digest import LG_BLOCKSIZE, Algorithm
from cfsctl.errors import FormatError

MAGIC: Final = b"SplitStream"
VERSION: Final = 0

HEADER: Final = Struct("<11sBHBB2Q")
"""magic, version, flags, algorithm, lg block size, info range."""

OLD_HEADER: Final = Struct("<2QH11sBBB")
"""info range, flags, magic, version, algorithm, lg block size."""

INFO: Final = Struct("<8Q2Q")
"""Ranges of stream_refs, object_refs, stream, named_refs; content type; stream size."""

CHUNK: Final = Struct("<q")
"""Minus the number of inline bytes that follow, or an index into object_refs."""

MAX_NAMED_REFS_BYTES: Final = 16 << 20
"""Most bytes of decompressed named references; an image of a thousand layers has some 200 kB."""

MAX_WINDOW_BYTES: Final = 8 << 20
"""Largest zstd window that is accepted, which RFC 8878 asks every decoder to support; writers use 2 MiB."""

COMPRESSION_LEVEL: Final = 3
"""What zstd's default level stands for; the level decides about the bytes and thereby the object ID."""


class ContentType(IntEnum):
    """What a stream contains; other values are legal, and only guard against opening the wrong kind."""

    NONE = 0
    OCI_LAYER = int.from_bytes(b"ocilayer", "little")
    OCI_CONFIG = int.from_bytes(b"ociconfg", "little")
    OCI_MANIFEST = int.from_bytes(b"ocimanif", "little")
    OCI_BLOB = int.from_bytes(b"oci_blob", "little")
    OSTREE_COMMIT = 0xAFE138C18C463EF1
    OSTREE_SUMMARY = int.from_bytes(b"osummary", "little")


class SplitstreamError(FormatError):
    """Bytes that are no splitstream, or a splitstream of another kind than expected."""


class Range(NamedTuple):
    """A section: half-open, in bytes from the start of the file."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.end - self.start


class Info(NamedTuple):
    """Where the sections are, and what the stream is."""

    stream_refs: Range
    object_refs: Range
    stream: Range
    named_refs: Range
    content_type: int
    stream_size: int


def parse_header(data: bytes, algorithm: Algorithm) -> Range:
    """Decode the header in either of its layouts and check what needs no other section.

    Args:
        data: The first 32 bytes of the file.
        algorithm: Hash algorithm of the repository.

    Returns:
        The range of the info section, not yet compared with the size of the file.

    Raises:
        SplitstreamError: Too short, no splitstream, another version, algorithm or block size.
    """
    if len(data) < HEADER.size:
        raise SplitstreamError(
            f"splitstream: expected a header of {HEADER.size} bytes, found {len(data)}", offset=0
        )
    magic, version, _, algorithm_number, lg_blocksize, start, end = HEADER.unpack_from(data)
    if magic != MAGIC:
        start, end, _, magic, version, algorithm_number, lg_blocksize = OLD_HEADER.unpack_from(data)
    if magic != MAGIC:
        raise SplitstreamError(
            "splitstream: expected the magic 'SplitStream', found none", offset=0, field="magic"
        )
    if version != VERSION:
        raise SplitstreamError(f"splitstream: expected version {VERSION}, found {version}", field="version")
    if algorithm_number != algorithm.value:
        raise SplitstreamError(
            f"splitstream: expected fs-verity algorithm {algorithm.value} ({algorithm.hash_name}), "
            f"found {algorithm_number}",
            field="algorithm",
        )
    if lg_blocksize != LG_BLOCKSIZE:
        raise SplitstreamError(
            f"splitstream: expected fs-verity block size 2^{LG_BLOCKSIZE}, found 2^{lg_blocksize}",
            field="lg_blocksize",
        )
    return Range(start, end)


def parse_info(data: bytes) -> Info:
    """Decode the info section; the ranges are not yet compared with the size of the file.

    Raises:
        SplitstreamError: Too short.
    """
    if len(data) < INFO.size:
        raise SplitstreamError(
            f"splitstream: expected an info section of {INFO.size} bytes or more, found {len(data)}",
            field="info",
        )
    numbers = INFO.unpack_from(data)
    stream_refs, object_refs, stream, named_refs = (Range(numbers[i], numbers[i + 1]) for i in range(0, 8, 2))
    return Info(stream_refs, object_refs, stream, named_refs, content_type=numbers[8], stream_size=numbers[9])


def format_header(algorithm: Algorithm) -> bytes:
    """Return the header that writers put at offset 0."""
    start = HEADER.size
    return HEADER.pack(MAGIC, VERSION, 0, algorithm.value, LG_BLOCKSIZE, start, start + INFO.size)


def format_info(info: Info) -> bytes:
    """Return the info section."""
    return INFO.pack(
        *info.stream_refs,
        *info.object_refs,
        *info.stream,
        *info.named_refs,
        info.content_type,
        info.stream_size,
    )


def check_range(section: Range, file_size: int, field: str) -> None:
    """Refuse a section that is not inside the file, or that lies in the header.

    Raises:
        SplitstreamError: The range is reversed, starts in the header or ends beyond the file.
    """
    if not HEADER.size <= section.start <= section.end <= file_size:
        raise SplitstreamError(
            f"splitstream: section {field}: expected a range within bytes {HEADER.size} to {file_size} "
            f"of the file, found {section.start} to {section.end}",
            field=field,
        )
