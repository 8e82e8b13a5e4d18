"""Repair from OSTree: objects and commits of OSTree repositories, and images of stored commits.

The stored commits show which OSTree object each object of the store was. A commit whose stream is lost is
pulled again. Its checksum is in the stream's name, so the source need not be trusted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import CfsError, FetchError
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.ostree.content.file_import import FileImporter
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.store.commit_proof import iter_false_contents, remember_proof
from cfsctl.ostree.store.inline_objects import find_inline
from cfsctl.ostree.store.partial_commits import find_partial
from cfsctl.ostree.store.partial_tags import parse_partial_name
from cfsctl.ostree.store.publish import name_commit, store_images
from cfsctl.ostree.store.refs import iter_commits, open_commit, parse_commit_name
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.progress import Message, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.objects.store import ObjectStore


class OstreeRepairSource:
    """An OSTree repository as a source of contents and of commits.

    See `cfsctl.repository.repair.sources.RepairSource`.

    Attributes:
        description: The place as the user knows it.
    """

    def __init__(self, repository: Repository, source: ObjectSource, reporter: Reporter = silent) -> None:
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
            self._report(Message(f"{self.description} cannot be used: {error}"))

    def _fetch(
        self,
        left: dict[Checksum, None],
        checksums: list[Checksum],
        wanted: frozenset[ObjectID],
        importer: FileImporter,
    ) -> Iterator[ObjectID]:
        """Import files and remove them from the remaining ones, until one is missing or damaged.

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
        for stream in _iter_readable(self._repository):
            for checksum in stream:
                file = stream.find(checksum)
                if file is not None and file[1] is not None and file[1] in wanted:
                    found[file[1]] = checksum
        return sorted(found.values())

    def restore_stream(self, name: str, repository: Repository) -> bool:
        """Pull a commit again; what else a stream may be is not here. See `RepairSource.restore_stream`."""
        checksum = parse_commit_name(name)
        if checksum is None:
            return False
        try:
            # One that can be read gives contents wrong names.
            from_scratch = _find_readable(repository, checksum) is not None
            pull(
                repository,
                self._source,
                checksum.hex(),
                PullOptions(from_scratch=from_scratch),
                reporter=self._report,
            )
        except CfsError as error:
            self._report(Message(f"{name} cannot be restored from {self.description}: {error}"))
            return False
        return True

    def close(self) -> None:
        """Release all descriptors."""
        self._source.close()


class CommitImageSource:
    """The stored commits as a source of their images, made from nothing else, and of files they have inline.

    Attributes:
        description: What they are.
    """

    description = "the commit that it is of"

    def __init__(self, repository: Repository) -> None:
        """Take the repository that is repaired."""
        self._repository = repository

    def restore(self, wanted: frozenset[ObjectID], store: ObjectStore) -> Iterator[ObjectID]:
        """Make the images that are wanted, and store inline files; see `RepairSource.restore`."""
        left = set(wanted)
        for stream in (*_iter_readable(self._repository), *_iter_parts(self._repository)):
            restored = [image for image in stream.images & left if self._try_to_make(stream, image, store)]
            for object_id, content in find_inline(stream, left, store.algorithm).items():
                store.ensure_bytes(content)
                restored.append(object_id)
            left.difference_update(restored)
            yield from restored
            if not left:
                return

    def _try_to_make(self, stream: CommitStream, wanted: ObjectID, store: ObjectStore) -> bool:
        try:
            return self._make(stream, wanted, store)
        except CfsError:
            return False  # the check tells what is wrong with the commit

    def _make(self, stream: CommitStream, wanted: ObjectID, store: ObjectStore) -> bool:
        """Store the image of a commit if it has the wanted ID in any of the known forms."""
        from cfsctl.erofs.write.image import build_image  # most repairs need none

        for names in XattrNames:
            tree = commit_to_filesystem(stream, names)
            for version in FormatVersion:
                image = build_image(tree, version)
                if compute_digest(image, store.algorithm) == wanted:
                    store.ensure_bytes(image)
                    return True
        return False

    def restore_stream(self, name: str, repository: Repository) -> bool:
        """Make the images of a commit again whose files are right; see `RepairSource.restore_stream`."""
        checksum = parse_commit_name(name)
        stream = None if checksum is None else _find_readable(repository, checksum)
        if checksum is None or stream is None or any(iter_false_contents(repository.objects, stream)):
            return False
        if repository.objects.find_missing(stream.object_refs):
            return False
        images = store_images(repository, stream)
        stream_id = name_commit(
            repository, checksum, stream.as_dict(), images, None, stream.detached, stream.record
        )
        remember_proof(repository, checksum, stream_id)
        return True

    def close(self) -> None:
        """Hold nothing open."""


def _iter_readable(repository: Repository) -> Iterator[CommitStream]:
    """Yield the stored commits that can be read."""
    for commit in iter_commits(repository):
        stream = _find_readable(repository, commit)
        if stream is not None:
            yield stream


def _iter_parts(repository: Repository) -> Iterator[CommitStream]:
    """Yield the parts of commits that can be read."""
    for stream in repository.streams.list_streams():
        checksum = parse_partial_name(stream.name)
        part = None if checksum is None else find_partial(repository, checksum)
        if part is not None:
            yield part


def _find_readable(repository: Repository, commit: Checksum) -> CommitStream | None:
    try:
        return open_commit(repository, commit)
    except (CfsError, OSError):
        return None
