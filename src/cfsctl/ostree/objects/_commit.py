"""Commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.ostree.byte_order import swap64
from cfsctl.ostree.objects._base import CHECKSUM_SIZE, OstreeObjectError, check_range, fail

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_COMMIT_VALUES: Final = 1_000_000
"""Values that a commit may hold, nested ones included; 20,000 metadata keys make about 80,000."""


class Commit(NamedTuple):
    """A commit.

    Attributes:
        metadata: (key, value) in stored order; values keep their type and the writer's byte order.
        parent: Checksum of the parent commit, or None.
        subject: One line.
        body: More lines, or empty.
        timestamp_s: Seconds since 1970, 64 bits without sign.
        root_dirtree: Checksum of the root's dirtree.
        root_dirmeta: Checksum of the root's dirmeta.
        related: (name, checksum) of related objects; nothing writes any.
    """

    metadata: tuple[tuple[str, gvariant.Variant], ...]
    parent: Checksum | None
    subject: str
    body: str
    timestamp_s: int
    root_dirtree: Checksum
    root_dirmeta: Checksum
    related: tuple[tuple[str, bytes], ...] = ()


_COMMIT_TYPE: Final = "(a{sv}aya(say)sstayay)"
_CommitFields: TypeAlias = (
    "tuple[list[tuple[str, gvariant.Variant]], bytes, list[tuple[str, bytes]], str, str, int, bytes, bytes]"
)


def parse_commit(data: bytes | memoryview) -> Commit:
    """Decode a commit.

    Raises:
        OstreeObjectError: Not in normal form, an empty metadata key, a parent that has neither 0 nor 32
            bytes, or a root without both identifiers.
    """
    try:
        value = gvariant.decode(_COMMIT_TYPE, data, max_values=MAX_COMMIT_VALUES)
    except gvariant.GVariantError as error:
        raise OstreeObjectError(f"commit: {error}", offset=error.offset, field=error.field) from error
    fields = cast("_CommitFields", value)
    metadata, parent, related, subject, body, timestamp, dirtree, dirmeta = fields
    _check_commit((key for key, _ in metadata), parent, dirtree, dirmeta)
    return Commit(
        tuple(metadata),
        Checksum(parent) if parent else None,
        subject,
        body,
        swap64(timestamp),  # big-endian, regardless of the rest
        Checksum(dirtree),
        Checksum(dirmeta),
        tuple(related),
    )


def format_commit(commit: Commit) -> bytes:
    """Serialise a commit; metadata keep their order, so that a parsed commit gives its own bytes.

    Raises:
        OstreeObjectError: Something that `parse_commit` would refuse.
        ValueError: A value that does not fit its type.
        TypeError: A metadata value of another kind than its type.
    """
    _check_commit(
        (key for key, _ in commit.metadata), commit.parent or b"", commit.root_dirtree, commit.root_dirmeta
    )
    check_range("timestamp", commit.timestamp_s, 64)
    fields = (
        commit.metadata,
        commit.parent or b"",
        commit.related,
        commit.subject,
        commit.body,
        swap64(commit.timestamp_s),
        commit.root_dirtree,
        commit.root_dirmeta,
    )
    return gvariant.encode(_COMMIT_TYPE, fields)


def _check_commit(keys: Iterable[str], parent: bytes, dirtree: bytes, dirmeta: bytes) -> None:
    if not all(keys):
        fail("metadata", "keys that are not empty", "an empty key")
    if len(parent) not in (0, CHECKSUM_SIZE):
        fail("parent", f"0 or {CHECKSUM_SIZE} bytes", len(parent))
    for field, checksum in (("root dirtree", dirtree), ("root dirmeta", dirmeta)):
        if len(checksum) != CHECKSUM_SIZE:
            fail(field, f"{CHECKSUM_SIZE} bytes", len(checksum))
