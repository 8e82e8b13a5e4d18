"""Stored commits against their checksums, and objects of a store from an OSTree repository."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, FetchError
from cfsctl.ostree.commit_stream import CommitStream
from cfsctl.ostree.file_import import FileImporter
from cfsctl.ostree.objects import OstreeObjectError, parse_zlib_file_header
from cfsctl.ostree.refs import iter_commits, open_commit, parse_commit_name
from cfsctl.ostree.to_tree import commit_to_filesystem
from cfsctl.progress import Message, silent
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.source import Source
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.fsck_links import ContentChecks
    from cfsctl.repository.objects import ObjectStore
    from cfsctl.splitstream import SplitstreamReader

_READ_BYTES: Final = 1 << 20


def commit_checks(repository: Repository) -> ContentChecks:
    """Return how a deep check of a repository looks at commits; see `fsck_links.ContentChecks`."""

    def check(reader: SplitstreamReader, name: str) -> Iterator[str]:
        return iter_problems(repository.objects, reader, name)

    return {ContentType.OSTREE_COMMIT: check}


def iter_problems(objects: ObjectStore, reader: SplitstreamReader, name: str) -> Iterator[str]:
    """Yield what is wrong with a stored commit: everything in it is verified by its checksum.

    Objects that are missing are left out, since any check finds those.

    Args:
        objects: Where large contents are.
        reader: The commit's splitstream, borrowed.
        name: Its content identifier.
    """
    checksum = parse_commit_name(name)
    try:
        stream = CommitStream.read(reader, checksum)
        commit_to_filesystem(stream)
    except CfsError as error:
        yield str(error)
        return
    for file in stream:
        found = stream.find(file)
        assert found is not None
        data, object_id = found
        if object_id is not None and objects.contains(object_id):
            problem = _check_file(objects, file, data, object_id)
            if problem:
                yield problem


def _check_file(objects: ObjectStore, checksum: Checksum, data: bytes, object_id: ObjectID) -> str:
    """Return what is wrong with a file whose content is an object, or nothing."""
    try:
        digest = hashlib.sha256(parse_zlib_file_header(data).regular_header)
        fd = objects.open(object_id)
        try:
            while chunk := os.read(fd, _READ_BYTES):
                digest.update(chunk)
        finally:
            os.close(fd)
    except OstreeObjectError as error:
        return str(error.about(f"file object {checksum.hex()}"))
    except (CfsError, OSError) as error:
        return f"file object {checksum.hex()}: {error}"
    if digest.digest() == checksum:
        return ""
    return f"file object {checksum.hex()}: its header and content have the checksum {digest.hexdigest()}"


class OstreeRepairSource:
    """An OSTree repository as a source of objects: what an object was in OSTree, stored commits tell.

    See `cfsctl.repository.repair_sources.RepairSource`.

    Attributes:
        description: The place as the user knows it.
    """

    def __init__(self, repository: Repository, source: Source, reporter: Reporter = silent) -> None:
        """Take a source over.

        Args:
            repository: The repository that is repaired.
            source: The OSTree repository, in a directory or on a server.
            reporter: Told if the server does not answer; the repair goes on without it then.
        """
        self.description = source.description
        self._repository = repository
        self._source = source
        self._report = reporter

    def restore(self, wanted: frozenset[ObjectID], store: ObjectStore) -> Iterator[ObjectID]:
        """Import the files whose contents are wanted."""
        importer = FileImporter(store)
        left = dict.fromkeys(self._find_checksums(wanted))
        try:
            # All at once, as long as nothing goes wrong; what is left then, one by one.
            yield from self._fetch(left, list(left), wanted, importer)
            for checksum in list(left):
                yield from self._fetch(left, [checksum], wanted, importer)
        except FetchError as error:
            self._report(Message(f"{self.description} is of no use: {error}"))

    def _fetch(
        self,
        left: dict[Checksum, None],
        checksums: list[Checksum],
        wanted: frozenset[ObjectID],
        importer: FileImporter,
    ) -> Iterator[ObjectID]:
        """Import files and take them off what is left, until one is not there or not what its name says.

        Raises:
            FetchError: A server does not answer.
        """
        try:
            for file in self._source.fetch_files(checksums, importer.open_sink):
                left.pop(file.checksum, None)
                if file.object_id is not None and file.object_id in wanted:
                    yield file.object_id
        except FetchError:
            raise
        except CfsError:
            return

    def _find_checksums(self, wanted: frozenset[ObjectID]) -> list[Checksum]:
        """Return which files of stored commits have these contents, one for each."""
        found: dict[ObjectID, Checksum] = {}
        for commit in iter_commits(self._repository):
            try:
                stream = open_commit(self._repository, commit)
            except (CfsError, OSError):
                continue
            for checksum in stream:
                file = stream.find(checksum)
                if file is not None and file[1] is not None and file[1] in wanted:
                    found[file[1]] = checksum
        return sorted(found.values())

    def close(self) -> None:
        """Release all descriptors."""
        self._source.close()
