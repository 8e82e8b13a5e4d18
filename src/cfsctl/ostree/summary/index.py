"""``summary.idx``: a repository whose summary is in parts, one for each subset of its refs.

    summary.idx                         subset -> (SHA-256 of its summary, earlier ones, metadata)
    summaries/<SHA-256>.gz              the summary of a subset, gzip
    summaries/<SHA-256 of idx>.idx.sig  signatures over summary.idx; also as summary.idx.sig

Format: flatpak's ``(a{s(ayaaya{sv})}a{sv})``. Subsets are architectures, or SUBSET-ARCHITECTURE.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, cast

from cfsctl import gvariant
from cfsctl.compression import Compression, CompressionError, TooMuchOutputError, iter_decoded
from cfsctl.errors import ExitCode, ReceivedDigestError
from cfsctl.ostree.objects import CHECKSUM_SIZE
from cfsctl.ostree.source import SourceError
from cfsctl.ostree.summary.format import MAX_SUMMARY_SIZE, SummaryError

if TYPE_CHECKING:
    from cfsctl.gvariant import Variant

INDEX_PATH: Final = "summary.idx"

MAX_INDEX_BYTES: Final = 16 << 20
"""Bytes of an index; Flathub's has some kilobytes."""

_MAX_INDEX_VALUES: Final = 500_000


class SubsetNotFoundError(SourceError):
    """A subset that the index does not have."""

    exit_code = ExitCode.NOT_FOUND


def parse_index(data: bytes) -> dict[str, bytes]:
    """Return the SHA-256 of the summary of each subset.

    Raises:
        SummaryError: Not an index, or one that contradicts itself.
    """
    try:
        value = gvariant.decode("(a{s(ayaaya{sv})}a{sv})", data, max_values=_MAX_INDEX_VALUES)
    except gvariant.GVariantError as error:
        raise SummaryError(str(error), offset=error.offset, field=error.field) from error
    entries, _ = cast("tuple[list[_Entry], list[tuple[str, Variant]]]", value)
    subsets: dict[str, bytes] = {}
    for name, (checksum, _, _) in entries:
        if len(checksum) != CHECKSUM_SIZE:
            raise SummaryError(
                f"subset '{name}': expected a checksum of {CHECKSUM_SIZE} bytes, found {len(checksum)}"
            )
        if name in subsets:
            raise SummaryError(f"subset '{name}': expected once, found again")
        subsets[name] = checksum
    return subsets


_Entry = tuple[str, tuple[bytes, "list[bytes]", "list[tuple[str, Variant]]"]]


def find_subset(subsets: dict[str, bytes], name: str, where: str) -> bytes:
    """Return the SHA-256 of the summary of a subset.

    Raises:
        SubsetNotFoundError: Nothing has that name.
    """
    checksum = subsets.get(name)
    if checksum is None:
        known = ", ".join(sorted(subsets)[:20]) or "none"
        raise SubsetNotFoundError(f"subset '{name}' not found in {where}", hint=f"subsets there: {known}")
    return checksum


def unpack_subsummary(data: bytes, checksum: bytes) -> bytes:
    """Return the summary that is in a ``.gz``, verified.

    Raises:
        SummaryError: No gzip data, more than one summary may have, or something after it.
        ReceivedDigestError: It is another one.
    """
    try:
        text = b"".join(iter_decoded((data,), Compression.GZIP, MAX_SUMMARY_SIZE, is_single=True))
    except TooMuchOutputError as error:
        raise SummaryError(f"subsummary: expected at most {MAX_SUMMARY_SIZE} bytes, found more") from error
    except CompressionError as error:
        raise SummaryError(f"subsummary: {error}") from error
    actual = hashlib.sha256(text).digest()
    if actual != checksum:
        raise ReceivedDigestError("subsummary", expected=checksum.hex(), actual=actual.hex())
    return text
