"""A repository that a web server has the files of, and fetching from it.

    streams/NAME         the target of the symbolic link as text (`SYMLINK_TYPE`), or the stream itself
    objects/xx/rest      objects, possibly compressed by zstd

Everything is compared with its ID on the way in. Objects that are stored already are not fetched, so that a
fetch that was interrupted goes on where it was.
"""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from cfsctl.digest import DigestFormatError, object_path, parse_object_path
from cfsctl.errors import FetchError
from cfsctl.http.errors import MISSING_STATUSES, HTTPStatusError, TooLargeError
from cfsctl.http.urls import check_url
from cfsctl.progress import Advanced, Done, Started, Unit
from cfsctl.repository.copying import CopyCounts
from cfsctl.repository.names.names import parse_stream_name
from cfsctl.repository.objects.kinds import ObjectRole, find_role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.digest import ObjectID
    from cfsctl.errors import CfsError
    from cfsctl.http.errors import TransferError
    from cfsctl.http.fetcher import Fetcher
    from cfsctl.progress import Reporter
    from cfsctl.repository.objects.store import ObjectStore, ObjectWriter, StoredObject
    from cfsctl.repository.repository import Repository

FETCH_ID: Final = "objects"
"""ID of the progress events of a fetch."""

SYMLINK_TYPE: Final = "text/x-symlink-target"
"""Content type of an answer that is the target of a symbolic link."""

_MAX_LINK_BYTES: Final = 4096
_MAX_LINKS: Final = 8
_MAX_STREAM_BYTES: Final = 1 << 32
"""Largest splitstream or image; files are limited by the stream that they are in."""

_MAX_FILE_BYTES: Final = 1 << 40
_READ_BYTES: Final = 1 << 20
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class ServedRepositoryError(FetchError):
    """A server that does not have what a repository should have."""


class FoundStream(NamedTuple):
    """A stream on a server.

    Attributes:
        name: Its content identifier; None if a ref was asked for and the server does not tell.
        object_id: The splitstream object; None if the server does not tell.
    """

    name: str | None
    object_id: ObjectID | None


class ServedRepository:
    """A repository on a web server."""

    def __init__(self, url: str, fetcher: Fetcher) -> None:
        """Connect to nothing yet.

        Args:
            url: Its root.
            fetcher: What fetches; stays the caller's.

        Raises:
            InvalidURLError: It is none of http or https.
        """
        check_url(url)
        self._url = url.rstrip("/")
        self._fetcher = fetcher

    def _address(self, path: str) -> str:
        return f"{self._url}/{quote(path, safe='/:@+,=')}"

    def find_stream(self, repository: Repository, name: str) -> FoundStream:
        """Return what a name leads to.

        Args:
            repository: The repository that it is fetched into.
            name: A content identifier, or ``refs/`` and a ref.

        Raises:
            InvalidNameError: It can be neither.
            ServedRepositoryError: The server has no such name, or a link that leads elsewhere.
            TransferError: It does not answer as it should.
        """
        entry, _ = parse_stream_name(name)
        path = f"streams/{name}"
        for _ in range(_MAX_LINKS):
            text = self._read_link(path, name)
            if text is None:
                return FoundStream(entry, None)
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
            if path.startswith("objects/"):
                try:
                    return FoundStream(entry, parse_object_path(path, repository.algorithm))
                except DigestFormatError as error:
                    raise self._error(name, f"a link to {text!r}: {error}") from error
            if not path.startswith("streams/") or path.startswith("streams/refs/"):
                raise self._error(name, f"a link to {text!r}")
            entry = path.removeprefix("streams/")
            parse_stream_name(entry)
        raise self._error(name, "a chain of links")

    def _error(self, name: str, found: str) -> ServedRepositoryError:
        return ServedRepositoryError(
            f"{self._url}: stream {name}: expected a link to an object, found {found}"
        )

    def _read_link(self, path: str, name: str) -> str | None:
        """Return the target of a link, or None if the server has sent what it leads to."""
        try:
            response = self._fetcher.get(self._address(path), limit_bytes=_MAX_LINK_BYTES)
        except TooLargeError:
            return None
        except HTTPStatusError as error:
            if error.status not in MISSING_STATUSES:
                raise
            raise ServedRepositoryError(
                f"{self._url}: the server has no stream {name}",
                hint="URL must be the directory that contains meta.json, objects and streams",
            ) from error
        if response.fields.get("content-type", "").partition(";")[0].strip() != SYMLINK_TYPE:
            return None
        try:
            return response.body.decode()
        except UnicodeDecodeError as error:
            raise self._error(name, f"a link to {response.body!r}") from error

    def fetch_stream(self, repository: Repository, name: str) -> ObjectID:
        """Store the object of a stream whose ID the server does not tell, and return the ID."""
        url = self._address(f"streams/{name}")
        job = _Job(url, f"stream {name}", repository.objects, None, _MAX_STREAM_BYTES)
        jobs = iter([job])
        (stored,) = self._fetcher.transfer(lambda: next(jobs, None))
        return stored.object_id

    def fetch_objects(
        self, repository: Repository, object_ids: Iterable[ObjectID], counts: CopyCounts, limit_bytes: int
    ) -> None:
        """Store the objects that are missing.

        Args:
            repository: Where.
            object_ids: The objects.
            counts: What was done is added to this.
            limit_bytes: Size of each at most.

        Raises:
            ServedRepositoryError: The server lacks one.
            IntegrityError: One is not what its ID says.
            TransferError: The server does not answer as it should.
        """
        wanted = sorted(object_ids)
        missing = repository.objects.find_missing(wanted)
        counts.present += len(wanted) - len(missing)
        waiting = iter(missing)

        def next_job() -> _Job | None:
            object_id = next(waiting, None)
            if object_id is None:
                return None
            path = object_path(object_id)
            url = self._address(f"objects/{path}")
            return _Job(url, f"object {object_id.hex()}", repository.objects, object_id, limit_bytes)

        for stored in self._fetcher.transfer(next_job):
            counts.copied += stored.is_new
            counts.copied_bytes += stored.size if stored.is_new else 0


class _Job:
    """The transfer of one object."""

    def __init__(
        self, url: str, name: str, objects: ObjectStore, expected: ObjectID | None, limit_bytes: int
    ) -> None:
        self.url = url
        self.limit_bytes = limit_bytes
        self._name = name
        self._objects = objects
        self._expected = expected

    def make_sink(self) -> _Sink:
        return _Sink(self._objects, self._expected, self.limit_bytes)

    def explain(self, error: TransferError, /) -> CfsError:
        return error.about(self._name)


class _Sink:
    """Stores one object."""

    def __init__(self, objects: ObjectStore, expected: ObjectID | None, limit_bytes: int) -> None:
        self._objects = objects
        self._expected = expected
        self._limit_bytes = limit_bytes
        self._writer: ObjectWriter = objects.create()

    def write(self, chunk: bytes, /) -> None:
        self._writer.write(chunk)

    def finish(self) -> StoredObject:
        with self._writer as writer:
            if self._expected is not None and os.pread(writer.fd, len(_ZSTD_MAGIC), 0) == _ZSTD_MAGIC:
                return self._unpack(writer)
            return writer.commit(self._expected)

    def _unpack(self, packed: ObjectWriter) -> StoredObject:
        """Store what was sent in compressed form, unless it is the object as it is."""
        from cfsctl.compression import Compression, CompressionError, make_decoder
        from cfsctl.errors import IntegrityError

        fd = os.dup(packed.fd)
        with open(fd, "rb") as file:
            try:
                return packed.commit(self._expected)
            except IntegrityError:
                file.seek(0)
            decoder = make_decoder(Compression.ZSTD, self._limit_bytes)
            with self._objects.create() as writer:
                try:
                    while data := file.read(_READ_BYTES):
                        for piece in decoder.decode(data):
                            writer.write(piece)
                    decoder.finish()
                except CompressionError:
                    return packed.commit(self._expected)  # raises: it is damaged either way
                return writer.commit(self._expected)

    def abort(self) -> None:
        self._writer.abort()


class ClosureFetch:
    """Fetches a stream with all that it leads to; nothing is named.

    Attributes:
        counts: What became of the objects.
        objects: All objects.
        images: Those that are images.
    """

    def __init__(self, repository: Repository, served: ServedRepository, reporter: Reporter) -> None:
        """Fetch nothing yet."""
        self.counts = CopyCounts()
        self.objects: set[ObjectID] = set()
        self.images: set[ObjectID] = set()
        self._repository = repository
        self._served = served
        self._report = reporter

    def run(self, stream_id: ObjectID) -> None:
        """Fetch a stream.

        Args:
            stream_id: The splitstream object.

        Raises:
            ServedRepositoryError: The server lacks something.
            IntegrityError: Something is not what its ID says.
            SplitstreamError: It is not a stream.
        """
        self._report(Started(FETCH_ID, None, Unit.ITEMS))
        self._fetch({stream_id}, _MAX_STREAM_BYTES)
        pending = [stream_id]
        seen: set[ObjectID] = set()
        while pending:
            current = pending.pop()
            if current in seen:
                continue
            seen.add(current)
            with self._repository.streams.open_object(current) as stream:
                refs, inner = set(stream.object_refs), set(stream.stream_refs)
                stream_size = stream.stream_size
            self._fetch(inner, _MAX_STREAM_BYTES)
            self._fetch(refs, stream_size)
            for object_id in sorted(inner):
                role = find_role(self._repository.objects, object_id)
                if role is ObjectRole.STREAM:
                    pending.append(object_id)
                elif role is ObjectRole.IMAGE:
                    self._fetch_image(object_id)
        self._report(Done(FETCH_ID, len(self.objects)))

    def _fetch_image(self, image_id: ObjectID) -> None:
        from cfsctl.erofs.read.tree import collect_objects  # not all streams have images

        self.images.add(image_id)
        data = self._repository.objects.read(image_id)
        self._fetch(collect_objects(data, self._repository.algorithm), _MAX_FILE_BYTES)

    def _fetch(self, object_ids: set[ObjectID], limit_bytes: int) -> None:
        wanted = object_ids - self.objects
        if wanted:
            self._served.fetch_objects(self._repository, wanted, self.counts, limit_bytes)
            self.objects |= wanted
            self._report(Advanced(FETCH_ID, len(self.objects), None, self.counts.copied_bytes))
