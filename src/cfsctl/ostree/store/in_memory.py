"""A commit whose objects are all in memory: one that was just pulled, or just made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from cfsctl.errors import ExitCode, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Commit, ObjectKind
    from cfsctl.ostree.objects.stored_content import StoredContent


class IncompleteError(IntegrityError):
    """A commit that lacks objects when everything should be there."""

    exit_code = ExitCode.INVALID_DATA


class InMemoryCommit:
    """Something that a tree can be made of; see `to_tree.CommitObjects`.

    Attributes:
        checksum: Name of the commit.
        commit: The commit.
        objects: What it needs, verified: data, and the ID of content that is an object.
        is_partial: Whether this is not all of the commit.
    """

    def __init__(
        self,
        checksum: Checksum,
        commit: Commit,
        objects: Mapping[Checksum, StoredContent],
        *,
        is_partial: bool = False,
    ) -> None:
        """Take the commit and its objects."""
        self.is_partial = is_partial
        self.checksum = checksum
        self.commit = commit
        self.objects = objects
        self.find = objects.get

    def get_metadata(self, checksum: Checksum, kind: ObjectKind) -> bytes:
        """Return a dirtree or dirmeta."""
        found = self.find(checksum)
        return found[0] if found else self.fail_missing(checksum, kind)

    def fail_missing(self, checksum: Checksum, kind: ObjectKind) -> NoReturn:
        """Raise the error for a missing object."""
        raise IncompleteError(f"commit {self.checksum.hex()}: {kind.label} {checksum.hex()} is missing")
