"""Results that the library composes itself; the others come from the rooms that do the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cfsctl.library.ids import Checksum
    from cfsctl.ostree.tree.composefs_digest import DigestCheck
    from cfsctl.ostree.trust.verdict import ValidSignature


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitInfo:
    """What a commit says about itself.

    Attributes:
        commit: The commit.
        parent: The commit before it, or None.
        timestamp_s: When it was made, in seconds since 1970.
        subject: One line.
        body: More lines, or empty.
        root_dirtree: Its tree.
        root_dirmeta: Metadata of its root directory.
        metadata: Its metadata: keys, and values as text, in the order of the commit.
        signatures: The signatures that were found good when it was stored.
        is_partial: Whether it is a partial commit.
        composefs_digest: How the digest that libostree has recorded compares with the tree; None if there is
            none, or if it was not asked for.
    """

    commit: Checksum
    parent: Checksum | None
    timestamp_s: int
    subject: str
    body: str
    root_dirtree: Checksum
    root_dirmeta: Checksum
    metadata: tuple[tuple[str, str], ...]
    signatures: tuple[ValidSignature, ...]
    is_partial: bool
    composefs_digest: DigestCheck | None


class RemoteRef(NamedTuple):
    """A ref of an OSTree repository.

    Attributes:
        name: The ref.
        commit: The commit that it names.
    """

    name: str
    commit: Checksum
