r"""The splitstream file format, version 0: layout, names and limits, and no I/O.

All integers are little-endian, nothing is padded, and ranges are a start and an end in bytes from the
start of the file. This is the physical order in which a writer puts the sections; a reader finds them
by their ranges, and the order of the ranges inside the information differs.

    header        32 bytes    magic, version, flags, algorithm, block size, range of the information
    information   80 bytes    four ranges, content type, size of the rebuilt stream
    stream_refs               raw object IDs, named by named_refs
    object_refs               raw object IDs, named by number in the stream
    named_refs    zstd        ``<number>:<name>\0`` for each named reference, sorted by name
    stream        zstd        chunks: a signed 64-bit number n, then -n bytes if it is negative;
                              otherwise the whole content of object_refs[n] stands here

Files from before the layout was fixed have the 32 header bytes in another order; they are read and
never written.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple, NoReturn

from cfsctl.digest import LG_BLOCKSIZE, Algorithm
from cfsctl.errors import FormatError

MAGIC: Final = b"SplitStream"
VERSION: Final = 0

HEADER: Final = struct.Struct("<11sBHBBQQ")
"""Magic, version, flags, algorithm, base-2 logarithm of the block size, range of the information."""

OLD_HEADER: Final = struct.Struct("<QQH11sBBB")
"""Range of the information, flags, magic, version, algorithm, base-2 logarithm of the block size."""

INFO: Final = struct.Struct("<QQQQQQQQQQ")
"""Ranges of stream_refs, object_refs, stream and named_refs; content type; stream size."""

CHUNK: Final = struct.Struct("<q")
"""What each chunk starts with: minus the size of inline data, or the number of an object."""

MAX_OBJECT_REFS: Final = 1_500_000
MAX_STREAM_REFS: Final = 1 << 18
"""References of each kind: of all large files of a tree, and of what has a name, of which
`MAX_NAMED_REFS_BYTES` has room for less."""

MAX_NAMED_REFS_BYTES: Final = 1 << 22
"""Bytes of the named references, compressed or not, which a reader holds in memory: 50,000 names of layers;
an image has some hundreds."""

MAX_EMPTY_OBJECTS: Final = 1 << 20
"""Objects that a stream may have beyond one for each of its bytes. Real ones have none that are empty; a
small frame can unpack to thousands of millions of chunks."""

MAX_WINDOW_BYTES: Final = 1 << 23
"""Largest window that a zstd frame may ask memory for. Writers use 2 MiB; RFC 8878 recommends that
every decoder grants 8 MiB and none needs to grant more."""

FREE_STREAMED_BYTES: Final = 1 << 30
MAX_EXPANSION: Final = 1000
"""A compressed section may unpack to that many times its size, and to the former besides. What is kept in
streams (headers of archives, checksums) shrinks to a fiftieth at best, a crafted frame to a 30,000th."""

FREE_HELD_BYTES: Final = 64 << 20
MAX_HELD_EXPANSION: Final = 24
"""The same where all of it is held in memory. The checksums in a commit stream do not shrink, and are a tenth
of it or more."""

COMPRESSION_LEVEL: Final = 3
"""zstd's default. The ID of a stream depends on it, and on the version of the library."""


class SplitstreamError(FormatError):
    """Bytes that are not a valid splitstream, or a stream that is not what its information says."""


class ContentType(IntEnum):
    """What streams hold, as far as anybody has given it a number; any other number is legal too."""

    NONE = 0
    OCI_LAYER = 0x726579616C69636F
    OCI_CONFIG = 0x67666E6F6369636F
    OCI_MANIFEST = 0x66696E616D69636F
    OCI_BLOB = 0x626F6C625F69636F
    OCI_INDEX = 0x0078646E6969636F
    OSTREE_COMMIT = 0xAFE138C18C463EF1
    OSTREE_PARTIAL = 0xAFE138C18C463EF2
    OSTREE_SUMMARY = 0x7972616D6D75736F


class Range(NamedTuple):
    """A section of the file, in bytes from its start; `end` is behind the last byte."""

    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        """Size in bytes."""
        return self.end - self.start


class Info(NamedTuple):
    """Where the sections are, and what the stream is.

    Attributes:
        stream_refs: Array of the IDs that named_refs names.
        object_refs: Array of the IDs that chunks name.
        stream: The compressed chunks.
        named_refs: The compressed names.
        content_type: Number of the kind of content, see `ContentType`.
        stream_size: Size in bytes of the stream when rebuilt.
    """

    stream_refs: Range
    object_refs: Range
    stream: Range
    named_refs: Range
    content_type: int
    stream_size: int


def fail(field: str, expected: str, found: object, offset: int | None = None) -> NoReturn:
    """Raise the error for a field of a splitstream, or of one of its sections."""
    raise SplitstreamError(
        f"splitstream {field}: expected {expected}, found {found}", offset=offset, field=field
    )


def describe_content_type(content_type: int) -> str:
    """Return the name of a content type for a message, or its number."""
    try:
        return ContentType(content_type).name.lower().replace("_", " ")
    except ValueError:
        return f"{content_type:#018x}"


def parse_header(data: bytes | memoryview, algorithm: Algorithm) -> Range:
    """Decode the header in either layout and check everything that needs no other section.

    Flags are ignored, as the original does.

    Args:
        data: The first 32 bytes of the file, or less if it has less.
        algorithm: The repository's algorithm, which the header must name.

    Returns:
        The range of the information, which has not been checked.

    Raises:
        SplitstreamError: Too short, wrong magic, or a version, algorithm or block size we do not expect.
    """
    if len(data) < HEADER.size:
        fail("header", f"{HEADER.size} bytes", len(data), 0)
    magic, version, _flags, number, lg_blocksize, start, end = HEADER.unpack_from(data)
    if magic != MAGIC:
        start, end, _flags, old_magic, version, number, lg_blocksize = OLD_HEADER.unpack_from(data)
        if old_magic != MAGIC:
            fail("magic", repr(MAGIC), magic, 0)
    if version != VERSION:
        fail("version", str(VERSION), version, 11)
    if number != algorithm.value:
        fail("algorithm", f"{algorithm.value} ({algorithm.hash_name})", number, 14)
    if lg_blocksize != LG_BLOCKSIZE:
        fail("block size", f"2^{LG_BLOCKSIZE}", f"2^{lg_blocksize}", 15)
    return Range(start, end)


def parse_info(data: bytes | memoryview) -> Info:
    """Decode the information; its ranges have not been checked.

    Args:
        data: The information; more than 80 bytes is fine, as later versions might have them.

    Raises:
        SplitstreamError: Less than 80 bytes.
    """
    if len(data) < INFO.size:
        fail("information", f"at least {INFO.size} bytes", len(data))
    numbers = INFO.unpack_from(data)
    stream_refs, object_refs, stream, named_refs = (
        Range(*numbers[place : place + 2]) for place in range(0, 8, 2)
    )
    return Info(stream_refs, object_refs, stream, named_refs, *numbers[8:])


def streamed_limit(size_bytes: int) -> int:
    """Return how many bytes a compressed section of this size may unpack to."""
    return FREE_STREAMED_BYTES + MAX_EXPANSION * size_bytes


def held_limit(size_bytes: int) -> int:
    """Return the same for what is held in memory as a whole."""
    return FREE_HELD_BYTES + MAX_HELD_EXPANSION * size_bytes


def check_range(section: Range, name: str, file_size: int) -> None:
    """Check that a section lies within the file and behind the header.

    Raises:
        SplitstreamError: It does not.
    """
    start, end = section
    if not HEADER.size <= start <= end <= file_size:
        expected = f"a range from {HEADER.size} to {file_size} at most"
        fail(name, expected, f"{start} to {end}")


def format_head(
    algorithm: Algorithm,
    content_type: int,
    stream_size: int,
    sizes: tuple[int, int, int, int],
) -> bytes:
    """Encode header and information of a file with the sections in physical order and nothing between.

    Args:
        algorithm: The repository's algorithm.
        content_type: Number of the kind of content, 64 bits.
        stream_size: Size of the rebuilt stream in bytes.
        sizes: Sizes in bytes of stream_refs, object_refs, named_refs and stream.
    """
    end = HEADER.size + INFO.size
    ranges = []
    for size in sizes:
        ranges.append((end, end + size))
        end += size
    stream_refs, object_refs, named_refs, stream = ranges
    header = HEADER.pack(
        MAGIC, VERSION, 0, algorithm.value, LG_BLOCKSIZE, HEADER.size, HEADER.size + INFO.size
    )
    return header + INFO.pack(*stream_refs, *object_refs, *stream, *named_refs, content_type, stream_size)
