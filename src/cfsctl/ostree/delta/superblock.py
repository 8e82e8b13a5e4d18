"""Superblocks: what a delta is made of, and the commit that it leads to.

    (a{sv} t ay ay (commit) ay a(uayttay) a(yaytt))

Metadata, time, from, to, the new commit, deltas to apply first, parts, fallback objects. Inline parts are
values in the metadata; they are left where they are. The integers of parts and fallbacks are in the byte
order of the machine that made the delta: by an old mistake, and said in the metadata since 2016.

    signed delta  (t ay a{sv})     magic, superblock, signatures over exactly its bytes

A superblock that was parsed is one whose embedded commit has the checksum that it claims.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.errors import ReceivedDigestError
from cfsctl.ostree.byte_order import swap32, swap64
from cfsctl.ostree.delta.format import (
    MAX_DELTA_OBJECTS,
    MAX_SUPERBLOCK_FILE_BYTES,
    MAX_SUPERBLOCK_HELD_BYTES,
    MAX_SUPERBLOCK_VALUES,
    DeltaError,
    delta_directory,
    describe_delta,
    fail,
)
from cfsctl.ostree.delta.framing import align, iter_elements, read_member_ends
from cfsctl.ostree.objects import (
    CHECKSUM_SIZE,
    MAX_METADATA_SIZE,
    ObjectKind,
    OstreeObjectError,
    parse_commit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.ostree.delta.views import ByteView
    from cfsctl.ostree.objects import Commit

SIGNED_MAGIC: Final = b"OSTSGNDT"

ENDIANNESS_KEY: Final = "ostree.endianness"

_ENTRY_SIZE: Final = 1 + CHECKSUM_SIZE
"""Bytes of an object in a part's list: type and checksum."""

_KINDS: Final = {1: ObjectKind.FILE, 2: ObjectKind.DIRTREE, 3: ObjectKind.DIRMETA}
"""What a part may make, by libostree's number; the commit is in the superblock."""

_INLINE_END: Final = b"\0(yay)"
"""Ends a variant that holds an inline part."""

Entry: TypeAlias = "tuple[ObjectKind, Checksum]"


class Part(NamedTuple):
    """A part as the superblock announces it.

    Attributes:
        checksum: SHA-256 of the part as it is stored.
        size_bytes: Its size; only a hint, see `Superblock`.
        content_bytes: Bytes of the objects that it makes, without targets of links; a hint as well.
        objects: What it makes, in this order.
    """

    checksum: bytes
    size_bytes: int
    content_bytes: int
    objects: tuple[Entry, ...]


class Fallback(NamedTuple):
    """A content object that has to be fetched by itself.

    Attributes:
        checksum: Its name.
        size_bytes: Size of its ``.filez``; a hint.
        content_bytes: Size of its content; a hint.
    """

    checksum: Checksum
    size_bytes: int
    content_bytes: int


@dataclass(frozen=True, slots=True)
class Superblock:
    """A delta, with the commit it leads to. Sizes are for estimates and ceilings: nothing proves them.

    Attributes:
        from_checksum: The commit it starts from, or None.
        to_checksum: The commit it leads to.
        commit_data: That commit as an object, verified.
        commit: The same, parsed.
        parts: Its parts by number.
        fallbacks: What it does not contain.
        inline: Parts that are in the superblock, by number.
        commitmeta: Detached metadata of the commit as ``a{sv}`` when the delta was made, or None.
    """

    from_checksum: Checksum | None
    to_checksum: Checksum
    commit_data: bytes
    commit: Commit
    parts: tuple[Part, ...]
    fallbacks: tuple[Fallback, ...]
    inline: Mapping[int, ByteView]
    commitmeta: bytes | None

    @property
    def description(self) -> str:
        """What messages call the delta."""
        return describe_delta(self.from_checksum, self.to_checksum)


class SignedDelta(NamedTuple):
    """A delta in its wrapper.

    Attributes:
        superblock: What is signed.
        signatures: The signatures, ``a{sv}``.
    """

    superblock: ByteView
    signatures: bytes


def unwrap(view: ByteView) -> SignedDelta | None:
    """Return the content of a signed delta, or None for one without wrapper.

    Raises:
        DeltaError: A wrapper that is broken.
    """
    if view.size < len(SIGNED_MAGIC) or view.read(0, len(SIGNED_MAGIC)) != SIGNED_MAGIC:
        return None
    (end,), table = read_member_ends(view, 1, "signed delta")
    if end < len(SIGNED_MAGIC):
        fail("signed delta", "a superblock after the magic", f"its end at {end}")
    start = align(view, end, table, "signed delta")
    if table - start > MAX_SUPERBLOCK_HELD_BYTES:
        fail("signatures", f"at most {MAX_SUPERBLOCK_HELD_BYTES} bytes", table - start)
    return SignedDelta(view.window(len(SIGNED_MAGIC), end), view.read(start, table - start))


def parse_superblock(view: ByteView) -> Superblock:
    """Return what a superblock says; a signed one is unwrapped first, its signatures are not checked.

    Args:
        view: The file; inline parts stay in it.

    Raises:
        DeltaError: Not a superblock, or one that contradicts itself.
        ReceivedDigestError: The commit in it is another one than it says.
        OstreeObjectError: The commit in it is not valid.
    """
    if view.size > MAX_SUPERBLOCK_FILE_BYTES:
        fail("superblock", f"at most {MAX_SUPERBLOCK_FILE_BYTES} bytes", view.size)
    if not view.size:
        fail("superblock", "bytes", "none")
    signed = unwrap(view)
    return _Parser(view if signed is None else signed.superblock).parse()


class _Parser:
    """Parses one superblock."""

    def __init__(self, view: ByteView) -> None:
        self._view = view
        self._inline: dict[int, ByteView] = {}
        self._swap: bool | None = None
        self._commitmeta: bytes | None = None

    def parse(self) -> Superblock:
        view = self._view
        ends, table = read_member_ends(view, 6, "superblock")
        metadata_end, from_end, to_end, commit_end, first_end, parts_end = ends
        time_start = align(view, metadata_end, table, "superblock")
        start = _read_id(self._read(time_start + 8, from_end), "from", may_be_empty=True)
        target = _read_id(self._read(from_end, to_end), "to", may_be_empty=False)
        assert target is not None
        commit_data = self._read(align(view, to_end, table, "superblock"), commit_end, MAX_METADATA_SIZE)
        commit = _check_commit(target, commit_data)
        if first_end != commit_end:
            fail("deltas to apply first", "none", f"{first_end - commit_end} bytes")
        part_data = self._read(align(view, first_end, table, "superblock"), parts_end)
        fallback_data = self._read(align(view, parts_end, table, "superblock"), table)
        parts = _decode("a(uayttay)", part_data, "parts")
        self._read_metadata(view.window(0, metadata_end), delta_directory(start, target), len(parts))
        return Superblock(
            start,
            target,
            commit_data,
            commit,
            self._make_parts(cast("list[_RawPart]", parts), target),
            self._make_fallbacks(fallback_data),
            self._inline,
            self._commitmeta,
        )

    def _read(self, start: int, end: int, limit: int = MAX_SUPERBLOCK_HELD_BYTES) -> bytes:
        if end < start:
            fail("superblock", f"an end offset of at least {start}", end)
        if end - start > limit:
            fail("superblock", f"a member of at most {limit} bytes", end - start)
        return self._view.read(start, end - start)

    # Metadata

    def _read_metadata(self, view: ByteView, directory: str, count: int) -> None:
        """Check the metadata, of which only inline parts may be large."""
        held = 0
        for entry in iter_elements(view, "metadata"):
            (key_end,), table = read_member_ends(entry, 1, "metadata")
            held += key_end
            if held > MAX_SUPERBLOCK_HELD_BYTES:
                fail("metadata", f"at most {MAX_SUPERBLOCK_HELD_BYTES} bytes without inline parts", "more")
            key = entry.read(0, key_end)
            number = _parse_part_key(key, directory)
            if number is not None:
                start = align(entry, key_end, table, "metadata")
                self._add_inline(number, entry.window(start, table), count)
                continue
            held += entry.size - key_end
            if held > MAX_SUPERBLOCK_HELD_BYTES:
                fail("metadata", f"at most {MAX_SUPERBLOCK_HELD_BYTES} bytes without inline parts", "more")
            name, value = cast(
                "tuple[str, gvariant.Variant]", _decode("(sv)", entry.read(0, entry.size), "metadata")
            )
            self._take_value(name, value, directory)

    def _add_inline(self, number: int, variant: ByteView, count: int) -> None:
        end = variant.size - len(_INLINE_END)
        if end < 1 or variant.read(end, len(_INLINE_END)) != _INLINE_END:
            fail(f"inline part {number}", "a byte and an array of bytes", "something else")
        if number >= count or number in self._inline:
            fail(f"inline part {number}", f"each of {count} parts once", "another one, or one twice")
        self._inline[number] = variant.window(0, end)

    def _take_value(self, name: str, value: gvariant.Variant, directory: str) -> None:
        if name == ENDIANNESS_KEY:
            if value.type != "y" or value.value not in (ord("l"), ord("B")):
                fail(ENDIANNESS_KEY, "the byte 'l' or 'B'", f"{value.value!r} of type {value.type}")
            self._swap = value.value == ord("B")
        elif name == f"{directory}/commitmeta" and value.type == "a{sv}":
            self._commitmeta = gvariant.encode(value.type, value.value)

    # Parts and fallbacks

    def _make_parts(self, raw: list[_RawPart], target: Checksum) -> tuple[Part, ...]:
        seen: set[Checksum] = {target}
        parts = []
        for number, (version, checksum, size, content, objects) in enumerate(raw):
            where = f"part {number}"
            if version:
                fail(where, "version 0", swap32(version) if self._swap else version)
            if len(checksum) != CHECKSUM_SIZE:
                fail(where, f"a checksum of {CHECKSUM_SIZE} bytes", len(checksum))
            inline = self._inline.get(number)
            sizes = self._order(size, content, None if inline is None else inline.size)
            parts.append(Part(checksum, *sizes, _parse_objects(objects, where, seen)))
        return tuple(parts)

    def _make_fallbacks(self, data: bytes) -> tuple[Fallback, ...]:
        raw = cast("list[tuple[int, bytes, int, int]]", _decode("a(yaytt)", data, "fallbacks"))
        fallbacks = []
        for number, checksum, size, content in raw:
            if _KINDS.get(number) is not ObjectKind.FILE:
                fail("fallbacks", "content objects", f"an object of type {number}")
            if len(checksum) != CHECKSUM_SIZE:
                fail("fallbacks", f"a checksum of {CHECKSUM_SIZE} bytes", len(checksum))
            fallbacks.append(Fallback(Checksum(checksum), *self._order(size, content, None)))
        return tuple(fallbacks)

    def _order(self, size: int, content: int, actual: int | None) -> tuple[int, int]:
        """Return two sizes in our byte order.

        If the delta does not name its byte order, the one that agrees with the contents is used, or else the
        one that makes the first size smaller: real parts have far less than 2^56 bytes.
        """
        swapped = swap64(size), swap64(content)
        if self._swap is None:
            use_swapped = swapped[0] == actual if actual is not None else swapped[0] < size
            return swapped if use_swapped else (size, content)
        return swapped if self._swap else (size, content)


_RawPart: TypeAlias = "tuple[int, bytes, int, int, bytes]"


def _decode(signature: str, data: bytes, field: str) -> list[gvariant.Value]:
    try:
        value = gvariant.decode(signature, data, max_values=MAX_SUPERBLOCK_VALUES)
    except gvariant.GVariantError as error:
        raise DeltaError(f"{field}: {error}", offset=error.offset, field=field) from error
    return cast("list[gvariant.Value]", value)


def _read_id(data: bytes, field: str, *, may_be_empty: bool) -> Checksum | None:
    if not data and may_be_empty:
        return None
    if len(data) != CHECKSUM_SIZE:
        fail(field, f"{'0 or ' if may_be_empty else ''}{CHECKSUM_SIZE} bytes", len(data))
    return Checksum(data)


def _check_commit(target: Checksum, data: bytes) -> Commit:
    """Return the commit in a superblock, which must be the one that the superblock leads to."""
    actual = hashlib.sha256(data).digest()
    if actual != target:
        raise ReceivedDigestError(
            "commit object in the superblock", expected=target.hex(), actual=actual.hex()
        )
    try:
        return parse_commit(data)
    except OstreeObjectError as error:
        raise error.about(f"commit object {target.hex()}") from error


def _parse_part_key(key: bytes, directory: str) -> int | None:
    """Return the number of the part whose inline data a metadata key names."""
    prefix = f"{directory}/".encode()
    number = key.removeprefix(prefix).removesuffix(b"\0")
    if (
        not key.startswith(prefix)
        or not number.isdigit()
        or len(number) > 9
        or str(int(number)).encode() != number
    ):
        return None
    return int(number)


def _parse_objects(data: bytes, where: str, seen: set[Checksum]) -> tuple[Entry, ...]:
    """Return a part's list of objects, none of which may have been in another list."""
    if len(seen) + len(data) // _ENTRY_SIZE > MAX_DELTA_OBJECTS:
        fail(where, f"at most {MAX_DELTA_OBJECTS} objects in all parts", "more")
    if len(data) % _ENTRY_SIZE:
        fail(where, f"a list of objects in pieces of {_ENTRY_SIZE} bytes", f"{len(data)} bytes")
    entries = []
    for place in range(0, len(data), _ENTRY_SIZE):
        kind = _KINDS.get(data[place])
        if kind is None:
            fail(where, "objects of type 1, 2 or 3", f"type {data[place]}")
        checksum = Checksum(data[place + 1 : place + _ENTRY_SIZE])
        if checksum in seen:
            fail(where, "every object once", f"{checksum.hex()} again")
        seen.add(checksum)
        entries.append((kind, checksum))
    return tuple(entries)
