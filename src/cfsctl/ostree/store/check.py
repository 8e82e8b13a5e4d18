"""Compare stored commits with their checksums, for `fsck`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.errors import CfsError, describe
from cfsctl.ostree.store.commit_proof import is_proven, iter_falsehoods, remember_proof
from cfsctl.ostree.store.commit_stream import CommitStream
from cfsctl.ostree.store.partial_tags import parse_partial_name
from cfsctl.ostree.store.refs import parse_commit_name
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.repository import Repository
    from cfsctl.repository.check.links import ContentCheck
    from cfsctl.splitstream import SplitstreamReader


def commit_check(repository: Repository, *, is_deep: bool = True) -> ContentCheck:
    """Return how a check of a repository looks at commits and parts of commits.

    Args:
        repository: The repository.
        is_deep: Prove commits that are known to be true as well: those that were pulled, made or proven
            before, whose objects the check looks at anyway.
    """

    def check(reader: SplitstreamReader, name: str) -> Iterator[str]:
        return _iter_problems(repository, reader, name, is_deep=is_deep)

    return check


def _iter_problems(
    repository: Repository, reader: SplitstreamReader, name: str, *, is_deep: bool
) -> Iterator[str]:
    """Yield what is wrong with a stored commit: everything in it is verified by its checksum.

    Objects that are missing are skipped, since any check finds those.
    """
    is_partial = parse_partial_name(name) is not None
    kind = ContentType.OSTREE_PARTIAL if is_partial else ContentType.OSTREE_COMMIT
    checksum = parse_partial_name(name) if is_partial else parse_commit_name(name)
    try:
        stream = CommitStream.read(reader, checksum, kind)
        stream.object_id = None if is_deep else repository.streams.find(name)
        if is_proven(repository, stream):
            return
        # By processes of its own if there are many files: those of the check are at the objects meanwhile.
        problems = list(iter_falsehoods(repository.objects, stream))
        yield from problems
        refs = {*stream.object_refs, *stream.images}
        if stream.object_id is not None and not problems and not repository.objects.find_missing(refs):
            remember_proof(repository, stream.checksum, stream.object_id)
    except (CfsError, OSError) as error:
        yield describe(error)
