"""What a pull is asked for: a commit, and the tag that is to name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.ostree.store.refs import new_tag_ref, parse_commit_id

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.source import ObjectSource


class Target(NamedTuple):
    """What is pulled.

    Attributes:
        checksum: The commit.
        tag: The tag that is to name it, or None.
    """

    checksum: Checksum
    tag: str | None


def resolve_target(source: ObjectSource, ref_or_commit: str) -> Target:
    """Return what a user names: a ref of the source, or 64 hex digits.

    Raises:
        InvalidNameError: The ref cannot be a tag.
        RefNotFoundError, FetchError: The source does not have the ref, or does not answer as it should.
    """
    checksum = parse_commit_id(ref_or_commit)
    if checksum is not None:
        # Nothing is looked up in the summary then; if it must be signed, it must be all the same.
        if check_summary := getattr(source, "check_summary", None):
            check_summary()
        return Target(checksum, None)
    new_tag_ref(ref_or_commit)  # Refused before anything is asked for.
    return Target(source.resolve_ref(ref_or_commit), ref_or_commit)
