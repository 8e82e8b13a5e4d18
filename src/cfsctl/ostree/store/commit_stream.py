"""Commit streams: one splitstream that holds everything a commit needs but large contents.

    header     8 bytes + 1024   number of the commit in the table, flags (0), 256 bucket ends
    checksums  32 bytes each    of all objects, ascending
    places     12 bytes each    offset of the data / 8, size of the data, number of an object or NONE
    data                        of each object, padded with zeros to a multiple of 8

All integers are 32 bits, little-endian; offsets count from the start of the data. Bucket end ``b`` is how
many checksums have a first byte of at most ``b``. The data of commit, dirtree and dirmeta is the OSTree
object itself; that of a file its header as an archive repository has it, followed by the content unless that
is an object of the repository, which then is named by its number among the splitstream's object
references. The named reference ``composefs.image`` is the EROFS image of the commit, if there is one.

A stream in the store may be forged. When a `CommitStream` is created, it checks the checksum of the commit
and the whole table, unless the caller knows that this was done before. Callers must verify what they read by
checksum, except through `CommitStream.get_metadata`.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from functools import cached_property
from operator import lt
from typing import TYPE_CHECKING, Final, NoReturn

from cfsctl.digest import Checksum
from cfsctl.errors import DigestMismatchError, FormatError
from cfsctl.limits import MAX_COMMIT_STREAM_BYTES
from cfsctl.ostree.objects import CHECKSUM_SIZE, Commit, ObjectKind, OstreeObjectError, parse_commit
from cfsctl.ostree.objects.held_objects import NO_OBJECT, Table
from cfsctl.ostree.store.stream_refs import DETACHED_REF, IMAGE_REF, RECORD_REF
from cfsctl.splitstream.format import ContentType
from cfsctl.splitstream.reader import Inline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.splitstream import SplitstreamReader

MAX_CONTENT_BYTES: Final = MAX_COMMIT_STREAM_BYTES
"""63,000 files make 14 MB."""

NO_REFS: Final[Mapping[str, ObjectID]] = {}

HEAD: Final = struct.Struct("<II256I")
PLACE: Final = struct.Struct("<III")
ALIGNMENT: Final = 8


class CommitStreamError(FormatError):
    """A splitstream whose content is not a commit stream."""


def _fail(field: str, expected: str, found: object) -> NoReturn:
    raise CommitStreamError(f"commit stream {field}: expected {expected}, found {found}", field=field)


class CommitStream:
    """A commit that is stored, with everything of it but large contents.

    Attributes:
        checksum: Name of the commit.
        commit_data: The commit as an object.
        object_refs: Objects of the repository that hold large contents.
        image: The commit's EROFS image, or None if the stream does not name one.
        detached: The object that is the commit's detached metadata, or None if none exists.
        is_partial: Whether this is not all of the commit.
        record: The object that says which signatures were found good, or None if none were looked at.
        named_refs: All objects that the stream keeps alive under a name, the three above among them.
        object_id: The splitstream object, where it was read from one.
    """

    is_partial = False
    named_refs: Mapping[str, ObjectID] = NO_REFS
    object_id: ObjectID | None = None

    def __init__(
        self,
        content: bytes,
        object_refs: Sequence[ObjectID],
        *,
        checksum: Checksum | None = None,
        image: ObjectID | None = None,
        detached: ObjectID | None = None,
        record: ObjectID | None = None,
        checks_table: bool = True,
    ) -> None:
        """Check the commit and the table.

        Args:
            content: The rebuilt stream.
            object_refs: The splitstream's object references.
            checksum: What the commit must be, or None to take what is found.
            image: The commit's image, or None.
            detached: Its detached metadata, or None.
            record: The record of its signatures, or None.
            checks_table: Whether to check the table now; otherwise that is left until it is used.

        Raises:
            CommitStreamError: No commit stream.
            DigestMismatchError: It holds another commit, or one that is not what its checksum says.
        """
        self.object_refs = object_refs
        self.image = image
        self.detached = detached
        self.record = record
        position, self._ends = _read_head(content)
        count = self._ends[-1]
        self._places_start = HEAD.size + count * CHECKSUM_SIZE
        self._data_start = self._places_start + count * PLACE.size
        if len(content) < self._data_start:
            _fail("table", f"{count} objects", f"{len(content) - HEAD.size} bytes")
        if position >= count:
            _fail("commit", f"the number of one of {count} objects", position)
        self._content = content
        if checks_table:
            _ = self._positions
        place = HEAD.size + position * CHECKSUM_SIZE
        self.checksum = Checksum(content[place : place + CHECKSUM_SIZE])
        self.commit_data = self._read_commit(position, checksum)

    @classmethod
    def read(
        cls,
        reader: SplitstreamReader,
        checksum: Checksum | None = None,
        content_type: ContentType = ContentType.OSTREE_COMMIT,
        *,
        checks_table: bool = True,
    ) -> CommitStream:
        """Read the commit that a splitstream holds; the reader is not needed afterwards.

        Args:
            reader: An open splitstream, borrowed.
            checksum: What the commit must be, or None to take what is found.
            content_type: What the splitstream must be; of a partial commit objects may be missing.
            checks_table: As for `CommitStream`.

        Raises:
            SplitstreamError: A damaged stream, or one with objects between the data.
            CommitStreamError: No commit stream, or one above 1 GiB.
            DigestMismatchError: It holds another commit, or one that is not what its checksum says.
        """
        if reader.content_type != content_type:
            _fail("content type", f"{content_type:#x}", f"{reader.content_type:#x}")
        content = reader.read_inline(MAX_CONTENT_BYTES)
        named = reader.named_refs
        stream = cls(
            content,
            reader.object_refs,
            checksum=checksum,
            image=named.get(IMAGE_REF),
            detached=named.get(DETACHED_REF),
            record=named.get(RECORD_REF),
            checks_table=checks_table,
        )
        stream.is_partial = content_type is ContentType.OSTREE_PARTIAL
        stream.named_refs = named
        return stream

    @cached_property
    def _positions(self) -> dict[Checksum, int]:
        """Numbers of the objects, by name; reads and checks the whole table."""
        content = self._content
        checksums = _read_checksums(content[HEAD.size : self._places_start], self._ends)
        self._read_places(content[self._places_start : self._data_start])
        # A dictionary finds an object in a third of the time of a search in its bucket.
        return dict(zip(checksums, range(len(checksums)), strict=True))

    def _read_places(self, table: bytes) -> None:
        """Read where the data of each object is, and check all of it at once."""
        numbers = array("I", table)
        if sys.byteorder == "big":
            numbers.byteswap()
        self._starts, self._sizes, self._numbers = numbers[0::3], numbers[1::3], numbers[2::3]
        available = len(self._content) - self._data_start
        ends = map(lambda start, size: start * ALIGNMENT + size, self._starts, self._sizes)
        end = max(ends, default=0)
        if end > available:
            _fail("place", f"data within {available} bytes", f"an end at {end}")
        number = max((number for number in self._numbers if number != NO_OBJECT), default=-1)
        if number >= len(self.object_refs):
            _fail("place", f"the number of one of {len(self.object_refs)} objects", number)

    def _read_commit(self, position: int, expected: Checksum | None) -> bytes:
        """Return the commit's data, verified."""
        if expected is not None and self.checksum != expected:
            raise DigestMismatchError("commit stream", expected=expected.hex(), actual=self.checksum.hex())
        start, size, number = PLACE.unpack_from(self._content, self._places_start + position * PLACE.size)
        if number != NO_OBJECT:
            _fail(f"object {self.checksum.hex()}", "a commit", "a file")
        start = self._data_start + start * ALIGNMENT
        data = self._content[start : start + size]
        _verify(self.checksum, data, ObjectKind.COMMIT)
        return data

    @property
    def images(self) -> set[ObjectID]:
        """The commit's images, in all formats that it was stored with."""
        return {
            object_id
            for name, object_id in self.named_refs.items()
            if name == IMAGE_REF or name.startswith(f"{IMAGE_REF}.")
        }

    @cached_property
    def commit(self) -> Commit:
        """The commit.

        Raises:
            OstreeObjectError: It is not valid, although its checksum is right.
        """
        try:
            return parse_commit(self.commit_data)
        except OstreeObjectError as error:
            raise error.about(f"commit object {self.checksum.hex()}") from error

    def __len__(self) -> int:
        """Return the number of objects."""
        return self._ends[-1]

    def __iter__(self) -> Iterator[Checksum]:
        """Yield the checksums of all objects, ascending."""
        return iter(self._positions)

    def find(self, checksum: Checksum) -> StoredContent | None:
        """Return an object's data, and the ID of content that is an object; None if it is missing.

        Nothing is verified.
        """
        position = self._positions.get(checksum)
        if position is None:
            return None
        start = self._data_start + self._starts[position] * ALIGNMENT
        number = self._numbers[position]
        data = self._content[start : start + self._sizes[position]]
        return data, None if number == NO_OBJECT else self.object_refs[number]

    def select(self, checksums: set[Checksum]) -> set[Checksum]:
        """Return those of the checksums that are here."""
        return checksums & self._positions.keys()

    @property
    def data_bytes(self) -> int:
        """Size of all data."""
        return len(self._content)

    @property
    def table(self) -> Table:
        """All objects as columns."""
        checksums = list(self._positions)
        data = memoryview(self._content)[self._data_start :]
        return Table(checksums, self._starts, self._sizes, self._numbers, self.object_refs, data)

    def as_dict(self) -> dict[Checksum, StoredContent]:
        """Return all objects as `write_commit_stream` takes them; nothing is verified."""
        return {checksum: found for checksum in self if (found := self.find(checksum))}

    def get_metadata(self, checksum: Checksum, kind: ObjectKind) -> bytes:
        """Return a commit, dirtree or dirmeta, verified.

        Raises:
            CommitStreamError: It is missing, or is a file.
            DigestMismatchError: It is not what its checksum says.
        """
        found = self.find(checksum)
        if found is None:
            self.fail_missing(checksum, kind)
        data, object_id = found
        if object_id is not None:
            _fail(f"object {checksum.hex()}", f"a {kind.label}", "a file")
        _verify(checksum, data, kind)
        return data

    def fail_missing(self, checksum: Checksum, kind: ObjectKind) -> NoReturn:
        """Raise the error for an object that the commit needs and the stream does not have."""
        _fail(f"of {self.checksum.hex()}", "all objects of the commit", f"no {kind.label} {checksum.hex()}")


def _read_head(content: bytes) -> tuple[int, tuple[int, ...]]:
    """Return the number of the commit and the bucket ends."""
    if len(content) < HEAD.size:
        _fail("header", f"at least {HEAD.size} bytes", len(content))
    position, flags, *ends = HEAD.unpack_from(content)
    if flags:
        _fail("flags", "0", f"{flags:#x}")
    for byte in range(1, 256):
        if ends[byte] < ends[byte - 1]:
            _fail("buckets", f"an end of at least {ends[byte - 1]}", ends[byte])
    return position, tuple(ends)


def has_object(reader: SplitstreamReader, checksum: Checksum) -> bool:
    """Return whether a stored commit has an object, reading no more of its stream than tells.

    Args:
        reader: An open splitstream, borrowed.
        checksum: The object.

    Raises:
        SplitstreamError, CommitStreamError: A damaged stream, or not a commit stream.
    """
    head = bytearray()
    first = last = needed = 0
    for chunk in reader.iter_chunks():
        if not isinstance(chunk, Inline):
            _fail("data", "inline data only", "an object")
        head += chunk.data
        if not needed and len(head) >= HEAD.size:
            _, ends = _read_head(bytes(head[: HEAD.size]))
            first, last = ends[checksum[0] - 1] if checksum[0] else 0, ends[checksum[0]]
            needed = HEAD.size + last * CHECKSUM_SIZE
        if needed and len(head) >= needed:
            break
    bucket = bytes(head[HEAD.size + first * CHECKSUM_SIZE : HEAD.size + last * CHECKSUM_SIZE])
    return any(
        bucket[place : place + CHECKSUM_SIZE] == checksum for place in range(0, len(bucket), CHECKSUM_SIZE)
    )


def _read_checksums(table: bytes, ends: Sequence[int]) -> list[Checksum]:
    """Return the checksums, which ascend and are in the buckets where they belong."""
    checksums = [
        Checksum(table[place : place + CHECKSUM_SIZE]) for place in range(0, len(table), CHECKSUM_SIZE)
    ]
    following = iter(checksums)
    next(following, None)
    if not all(map(lt, checksums, following)):
        _fail("checksums", "ascending order", "another one")
    for byte, end in enumerate(ends):
        if (end and checksums[end - 1][0] > byte) or (end < len(checksums) and checksums[end][0] <= byte):
            _fail("buckets", f"the checksums up to {byte:#04x} before {end}", "others")
    return checksums


def _verify(checksum: Checksum, data: bytes, kind: ObjectKind) -> None:
    actual = hashlib.sha256(data).digest()
    if actual != checksum:
        what = f"{kind.label} object {checksum.hex()}"
        raise DigestMismatchError(what, expected=checksum.hex(), actual=actual.hex())
