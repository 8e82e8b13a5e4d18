"""The ``summary`` of a repository: its refs and its metadata.

Format: libostree's ``OSTREE_SUMMARY_GVARIANT``, ``(a(s(taya{sv}))a{sv})``: refs as (name, (size of the
commit object, checksum, metadata)), then metadata of the repository. The size is in the byte order of
the machine that wrote it; little-endian in practice.

The parser checks normal form, checksums of 32 bytes, and that names are unique and not empty. It does not
check the order of the names, which we do not rely on. Signatures are verified elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.errors import FormatError
from cfsctl.limits import MAX_REF_NAME_BYTES
from cfsctl.ostree.objects import CHECKSUM_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cfsctl.gvariant import Value, Variant

MAX_SUMMARY_SIZE: Final = 64 << 20
"""Bytes of a summary; Flathub's has 20 MB."""

MAX_SUMMARY_VALUES: Final = 1_500_000
"""Values in a summary; Flathub's has some fifteen for each of 10,000 refs."""

_TIME_MADE: Final = b"ostree.summary.last-modified\0"
"""The key of a time: 64 bits, big-endian, 32 bytes from the beginning of the key on."""

_TYPE: Final = gvariant.parse_type("(a(s(taya{sv}))a{sv})")


class SummaryError(FormatError):
    """Bytes that are not a summary; the message says field, expected and found."""


@dataclass(frozen=True, slots=True)
class SummaryRef:
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


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole summary.

    Attributes:
        refs: By name, in stored order.
        metadata: What it says about the repository, in stored order; numbers as stored.
    """

    refs: Mapping[str, SummaryRef]
    metadata: Sequence[tuple[str, Variant]]


def parse_summary(data: bytes) -> Summary:
    """Return what a summary says.

    Raises:
        SummaryError: Not a summary, or one that contradicts itself.
    """
    if len(data) > MAX_SUMMARY_SIZE:
        raise SummaryError(f"expected at most {MAX_SUMMARY_SIZE} bytes, found {len(data)}")
    try:
        value = gvariant.decode(_TYPE, data, max_values=MAX_SUMMARY_VALUES)
    except gvariant.GVariantError as error:
        raise SummaryError(str(error), offset=error.offset, field=error.field) from error
    entries, metadata = cast("tuple[list[_Entry], list[tuple[str, Variant]]]", value)
    refs: dict[str, SummaryRef] = {}
    for entry in entries:
        ref = _parse_entry(entry)
        if refs.setdefault(ref.name, ref) is not ref:
            raise SummaryError(f"ref '{ref.name}': expected once, found again", field="refs")
    return Summary(refs, metadata)


def find_time_made(data: bytes) -> int | None:
    """Return when a summary says that it was made, in seconds since 1970, without parsing or believing it."""
    start = data.rfind(_TIME_MADE)
    value, end = data[start + 32 : start + 40], data[start + 40 : start + 42]
    return int.from_bytes(value, "big") if start >= 0 and end == b"\0t" else None


_Entry = tuple[str, tuple[int, bytes, "list[tuple[str, Variant]]"]]


def _parse_entry(entry: _Entry) -> SummaryRef:
    name, (commit_size, checksum, metadata) = entry
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
    return SummaryRef(name, Checksum(checksum), commit_size, metadata)


def format_summary(summary: Summary) -> bytes:
    """Return the bytes of a summary; `parse_summary` gives it back."""
    refs: Value = [
        (ref.name, (ref.commit_size, bytes(ref.checksum), list(ref.metadata)))
        for ref in summary.refs.values()
    ]
    return gvariant.encode(_TYPE, (refs, list(summary.metadata)))
