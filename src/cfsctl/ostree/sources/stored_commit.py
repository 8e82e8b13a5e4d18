"""A commit in a composefs repository as a source to pull from.

A repository that uses the other hash stores the same commit in different objects, and has another size limit
for contents in the stream. So the commit is pulled: everything is verified by its checksum and stored as if
it came from a remote.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, TypeVar

from cfsctl.ostree.objects import ObjectKind, parse_zlib_file_header
from cfsctl.ostree.source import SourceObjectMissingError, ref_not_found
from cfsctl.ostree.store.commitmeta import read_unchecked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.digest import Checksum
    from cfsctl.ostree.source import ContentSink
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.repository.objects.store import ObjectStore

    T = TypeVar("T")

_READ_BYTES: Final = 1 << 20


class StoredCommitSource:
    """Implements `cfsctl.ostree.source.Source` for one commit.

    Attributes:
        description: The repository's path.
    """

    def __init__(self, path: str, stream: CommitStream, objects: ObjectStore) -> None:
        """Offer a stored commit.

        Args:
            path: The repository, for messages.
            stream: The commit.
            objects: The repository's objects, borrowed.
        """
        self.description = path
        self._stream = stream
        self._objects = objects

    def resolve_ref(self, name: str) -> Checksum:
        """Refuse: a commit is offered by its ID only."""
        raise ref_not_found(name, self.description)

    def fetch_metadata(
        self,
        request: Callable[[], tuple[Checksum, ObjectKind] | None],
        deliver: Callable[[Checksum, ObjectKind, bytes], None],
    ) -> None:
        """Read what `request` names, one after the other; see `Source.fetch_metadata`."""
        while (wanted := request()) is not None:
            checksum, kind = wanted
            if self._stream.find(checksum) is None:
                raise SourceObjectMissingError(checksum, kind, self.description)
            deliver(checksum, kind, self._stream.get_metadata(checksum, kind))

    def fetch_files(
        self, checksums: Iterable[Checksum], make_sink: Callable[[Checksum], ContentSink[T]]
    ) -> Iterator[T]:
        """Pass files through sinks, one after the other; see `Source.fetch_files`."""
        for checksum in checksums:
            sink = make_sink(checksum)
            try:
                self._send(checksum, sink)
            except BaseException:
                sink.abort()
                raise
            yield sink.finish()

    def _send(self, checksum: Checksum, sink: ContentSink[T]) -> None:
        found = self._stream.find(checksum)
        if found is None:
            raise SourceObjectMissingError(checksum, ObjectKind.FILE, self.description)
        data, object_id = found
        length = parse_zlib_file_header(data).length_bytes
        sink.begin_plain(data[:length])
        if object_id is None:
            sink.write(data[length:])
            return
        fd = self._objects.open(object_id)
        try:
            if sink.share(fd, os.fstat(fd).st_size):
                return
            while chunk := os.read(fd, _READ_BYTES):
                sink.write(chunk)
        finally:
            os.close(fd)

    def list_ref_names(self) -> list[str]:
        """Return nothing: a commit is offered by its ID only."""
        return []

    def find_detached(self, commit: Checksum) -> bytes | None:
        """Return what is kept with the commit, unchecked; see `Source.find_detached`."""
        return read_unchecked(self._objects, self._stream) if commit == self._stream.checksum else None

    def explain_missing(self, commit: Checksum) -> str | None:
        """Return a note if the commit is partial; see `ObjectSource.explain_missing`."""
        if self._stream.is_partial:
            return f"commit {commit.hex()} is partial in {self.description}: pull it whole first"
        return None

    def close(self) -> None:
        """Release nothing; the repository is borrowed."""
