"""The ``summary`` of a repository: its refs and its metadata.

Format: libostree's ``OSTREE_SUMMARY_GVARIANT``, ``(a(s(taya{sv}))a{sv})``: refs as (name, (size of the
commit object, checksum, metadata)), then metadata of the repository. The size is in the byte order of
the machine that wrote it; little-endian in practice.

The parser checks normal form, checksums of 32 bytes, and that names are unique and not empty. It does not
check the order of the names, which we do not rely on. Signatures are verified elsewhere.

A summary may have tens of megabytes, and takes several times as much when it is decoded. So it is decoded
once to check it, one ref after the other, and then again what is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, cast, overload

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.errors import FormatError
from cfsctl.gvariant.parts import Budget, decode_part, find_members, iter_elements
from cfsctl.limits import MAX_REF_NAME_BYTES
from cfsctl.ostree.byte_order import swap64
from cfsctl.ostree.objects import CHECKSUM_SIZE

if TYPE_CHECKING:
    from cfsctl.gvariant import Value, Variant
    from cfsctl.gvariant.parts import Bounds

MAX_SUMMARY_SIZE: Final = 64 << 20
"""Bytes of a summary; Flathub's has 20 MB."""

MAX_SUMMARY_VALUES: Final = 1_500_000
"""Values in a summary; Flathub's has some fifteen for each of 10,000 refs."""

_TIME_MADE: Final = b"ostree.summary.last-modified\0"
"""The key of a time: 64 bits, big-endian, 32 bytes from the beginning of the key on."""

_TYPE: Final = gvariant.parse_type("(a(s(taya{sv}))a{sv})")
_REFS: Final = gvariant.parse_type("a(s(taya{sv}))")
_REF: Final = gvariant.parse_type("(s(taya{sv}))")
_COMMIT: Final = gvariant.parse_type("(taya{sv})")
_PAIRS: Final = gvariant.parse_type("a{sv}")
_PAIR: Final = gvariant.parse_type("{sv}")


class SummaryError(FormatError):
    """Bytes that are not a summary; the message says field, expected and found."""


class SummaryRef(NamedTuple):
    """A ref as the summary lists it.

    Attributes:
        name: Name of the ref.
        checksum: The commit.
        commit_size: Bytes of the commit object, as the summary has it.
        metadata: What else it says about the commit, in stored order; numbers as stored.
    """

    name: str
    checksum: Checksum
    commit_size: int
    metadata: Sequence[tuple[str, Variant]]

    @property
    def timestamp_s(self) -> int | None:
        """When the commit was made, in seconds since 1970, if the summary says so."""
        value = self._find("ostree.commit.timestamp")
        # A number in a commit's byte order, which is big-endian.
        return swap64(value) if isinstance(value, int) and 0 <= value < 1 << 64 else None

    @property
    def version(self) -> str | None:
        """The version that the commit has in its metadata, if the summary has it."""
        value = self._find("ostree.commit.version")
        return value if isinstance(value, str) else None

    def _find(self, name: str) -> object:
        return next((value.value for key, value in self.metadata if key == name), None)


class Summary(NamedTuple):
    """A whole summary.

    Attributes:
        refs: By name, in stored order.
        metadata: What it says about the repository, in stored order; numbers as stored.
    """

    refs: Mapping[str, SummaryRef]
    metadata: Sequence[tuple[str, Variant]]


class _Pairs(Sequence["tuple[str, Variant]"]):
    """Metadata that are decoded when they are asked for; they have been checked before."""

    __slots__ = ("_bounds", "_data")

    def __init__(self, data: bytes, bounds: Bounds) -> None:
        self._data = data
        self._bounds = bounds

    def __iter__(self) -> Iterator[tuple[str, Variant]]:
        for bounds in iter_elements(_PAIRS, self._data, self._bounds):
            yield cast("tuple[str, Variant]", decode_part(_PAIR, self._data, bounds, _new_budget()))

    def find_all(self, key: str) -> Iterator[Variant]:
        """Yield the values of a key; others are not decoded."""
        wanted = key.encode() + b"\0"
        for bounds in iter_elements(_PAIRS, self._data, self._bounds):
            (start, end), _ = find_members(_PAIR, self._data, bounds)
            if end - start == len(wanted) and self._data.startswith(wanted, start):
                yield cast("tuple[str, Variant]", decode_part(_PAIR, self._data, bounds, _new_budget()))[1]

    def __len__(self) -> int:
        return sum(1 for _ in iter_elements(_PAIRS, self._data, self._bounds))

    @overload
    def __getitem__(self, index: int) -> tuple[str, Variant]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[str, Variant]]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, Variant] | Sequence[tuple[str, Variant]]:
        return list(self)[index]


class _Refs(Mapping[str, SummaryRef]):
    """Refs that are decoded when they are asked for; they have been checked before."""

    __slots__ = ("_data", "_places")

    def __init__(self, data: bytes, places: dict[bytes, Bounds]) -> None:
        self._data = data
        self._places = places

    def __getitem__(self, name: str) -> SummaryRef:
        bounds = self._places[name.encode(errors="surrogateescape")]
        _, commit = find_members(_REF, self._data, bounds)
        _, checksum, _ = find_members(_COMMIT, self._data, commit)
        size = int.from_bytes(self._data[commit[0] : commit[0] + 8], "little")
        metadata = _Pairs(self._data, find_members(_COMMIT, self._data, commit)[2])
        return SummaryRef(name, Checksum(self._data[slice(*checksum)]), size, metadata)

    def __iter__(self) -> Iterator[str]:
        return map(bytes.decode, self._places)

    def __len__(self) -> int:
        return len(self._places)


def _new_budget() -> Budget:
    return Budget(MAX_SUMMARY_VALUES)


def find_values(metadata: Sequence[tuple[str, Variant]], key: str) -> list[Variant]:
    """Return the values of a key in the metadata of a summary; one should be there at most."""
    if isinstance(metadata, _Pairs):
        return list(metadata.find_all(key))
    return [value for name, value in metadata if name == key]


def parse_summary(data: bytes) -> Summary:
    """Return what a summary says, after all of it was checked.

    Raises:
        SummaryError: Not a summary, or one that contradicts itself.
    """
    if len(data) > MAX_SUMMARY_SIZE:
        raise SummaryError(f"expected at most {MAX_SUMMARY_SIZE} bytes, found {len(data)}")
    try:
        return _parse(data, _new_budget())
    except gvariant.GVariantError as error:
        raise SummaryError(str(error), offset=error.offset, field=error.field) from error


def _parse(data: bytes, budget: Budget) -> Summary:
    refs, metadata = find_members(_TYPE, data, (0, len(data)))
    places: dict[bytes, Bounds] = {}
    for bounds in iter_elements(_REFS, data, refs):
        budget.charge(_REF.weight)
        name = _check_entry(cast("_Entry", decode_part(_REF, data, bounds, budget)))
        if places.setdefault(name.encode(), bounds) is not bounds:
            raise SummaryError(f"ref '{name}': expected once, found again", field="refs")
    for bounds in iter_elements(_PAIRS, data, metadata):
        budget.charge(_PAIR.weight)
        decode_part(_PAIR, data, bounds, budget)
    return Summary(_Refs(data, places), _Pairs(data, metadata))


def find_time_made(data: bytes) -> int | None:
    """Return when a summary says that it was made, in seconds since 1970, without parsing or believing it."""
    start = data.rfind(_TIME_MADE)
    value, end = data[start + 32 : start + 40], data[start + 40 : start + 42]
    return int.from_bytes(value, "big") if start >= 0 and end == b"\0t" else None


_Entry = tuple[str, tuple[int, bytes, "list[tuple[str, Variant]]"]]


def _check_entry(entry: _Entry) -> str:
    """Check a ref; return its name."""
    name, (_, checksum, _) = entry
    if not name:
        raise SummaryError("name of a ref: expected at least one character, found none", field="refs")
    if len(name) > MAX_REF_NAME_BYTES:
        raise SummaryError(
            f"name of a ref, '{name[:40]}...': expected at most {MAX_REF_NAME_BYTES} bytes, found more",
            field="refs",
        )
    if len(checksum) != CHECKSUM_SIZE:
        raise SummaryError(
            f"ref '{name}': expected a checksum of {CHECKSUM_SIZE} bytes, found {len(checksum)}", field="refs"
        )
    return name


def format_summary(summary: Summary) -> bytes:
    """Return the bytes of a summary; `parse_summary` gives it back."""
    refs: Value = [
        (ref.name, (ref.commit_size, bytes(ref.checksum), list(ref.metadata)))
        for ref in summary.refs.values()
    ]
    return gvariant.encode(_TYPE, (refs, list(summary.metadata)))
