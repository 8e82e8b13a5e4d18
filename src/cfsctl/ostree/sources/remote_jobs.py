"""Transfers of single objects from a repository on the web, with failover between addresses."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

from cfsctl.http.document import Collector
from cfsctl.http.mirrors import Addresses, Place, first_place
from cfsctl.limits import MAX_METADATA_TOTAL_BYTES
from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.files import read_all, write_all
from cfsctl.ostree.limits import LimitError
from cfsctl.ostree.objects import ObjectKind, loose_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.digest import Checksum
    from cfsctl.errors import CfsError
    from cfsctl.http.errors import TransferError
    from cfsctl.ostree.source import FileSink

T = TypeVar("T")

MAX_HELD_BYTES: Final = MAX_METADATA_TOTAL_BYTES
"""Bytes of unfinished metadata objects together: more than a commit may have is not worth waiting for."""

_MEMORY_BYTES: Final = 1 << 20
"""Bytes of each that are in memory; the rest of larger ones is in a temporary file until it is whole."""

Explain: TypeAlias = "Callable[[TransferError, Checksum, ObjectKind], CfsError]"


def format_name(checksum: Checksum, kind: ObjectKind) -> str:
    """Return an object's name for messages."""
    return f"{kind.label} object {checksum.hex()}"


class Held:
    """Bytes of unfinished metadata that are in memory together."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        """Hold nothing."""
        self.size = 0


class MetadataJob:
    """One metadata object; it is its own result, together with the bytes."""

    __slots__ = ("_addresses", "_explain", "_held", "_place", "checksum", "kind", "limit_bytes", "url")

    def __init__(
        self,
        addresses: Addresses,
        explain: Explain,
        checksum: Checksum,
        kind: ObjectKind,
        limit_bytes: int,
        held: Held,
        place: Place | None = None,
    ) -> None:
        """Describe the transfer."""
        self._addresses = addresses
        self._explain = explain
        self._held = held
        self._place = place or first_place(addresses)
        self.checksum = checksum
        self.kind = kind
        self.limit_bytes = limit_bytes
        self.url = addresses.url(self._place.number, loose_path(checksum, kind))

    @property
    def name(self) -> str:
        """Name of the object for messages."""
        return format_name(self.checksum, self.kind)

    def make_sink(self) -> _MetadataSink:
        """Return a sink that keeps the object."""
        return _MetadataSink(self, self._held)

    def explain(self, error: TransferError, /) -> CfsError:
        """Return the error with the name of the object."""
        return self._explain(error, self.checksum, self.kind)

    def find_other(self, error: TransferError) -> MetadataJob | None:
        """Return a job for the same object at the next address, or None if all were asked."""
        place = self._place.after(self._addresses, error)
        if place is None:
            return None
        what = self.checksum, self.kind, self.limit_bytes
        return MetadataJob(self._addresses, self._explain, *what, self._held, place)


class _MetadataSink:
    """Collects one metadata object, as long as all of them together stay within `MAX_HELD_BYTES`."""

    __slots__ = ("_file", "_held", "_job", "_size", "_start")

    def __init__(self, job: MetadataJob, held: Held) -> None:
        self._job = job
        self._held = held
        self._start = Collector()
        self._file: IO[bytes] | None = None
        self._size = 0

    def write(self, chunk: bytes, /) -> None:
        size = len(chunk)
        self._size += size
        self._held.size += size
        if self._held.size > MAX_HELD_BYTES:
            raise LimitError(
                f"{self._job.name}: expected at most {MAX_HELD_BYTES} bytes of metadata at a time, found more"
            )
        if self._size <= _MEMORY_BYTES:
            self._start.write(chunk)
        else:
            self._spill(chunk)

    def _spill(self, chunk: bytes) -> None:
        import tempfile  # only for very large directories and commits

        directory = tempfile.gettempdir()
        with relative_to(directory):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - see `_close`
                write_all(self._file.fileno(), self._start.finish())
            write_all(self._file.fileno(), chunk)

    def finish(self) -> tuple[MetadataJob, bytes]:
        try:
            return self._job, self._start.finish() if self._file is None else self._read_file()
        finally:
            self._close()

    def _read_file(self) -> bytes:
        assert self._file is not None
        self._file.seek(0)
        return read_all(self._file.fileno(), self._size)

    def _close(self) -> None:
        self._held.size -= self._size
        if self._file is not None:
            self._file.close()

    def abort(self) -> None:
        self._start.abort()
        self._close()


class FileJob(Generic[T]):
    """One content object. How large its stored form may be, only its sink can tell."""

    __slots__ = ("_addresses", "_checksum", "_explain", "_make_sink", "_place", "limit_bytes", "url")

    def __init__(
        self,
        addresses: Addresses,
        explain: Explain,
        checksum: Checksum,
        make_sink: Callable[[Checksum], FileSink[T]],
        place: Place | None = None,
    ) -> None:
        """Describe the transfer."""
        self._addresses = addresses
        self._explain = explain
        self._checksum = checksum
        self._make_sink = make_sink
        self._place = place or first_place(addresses)
        self.limit_bytes = None
        self.url = addresses.url(self._place.number, loose_path(checksum, ObjectKind.FILE))

    def make_sink(self) -> FileSink[T]:
        """Return a fresh sink."""
        return self._make_sink(self._checksum)

    def explain(self, error: TransferError, /) -> CfsError:
        """Return the error with the name of the object."""
        return self._explain(error, self._checksum, ObjectKind.FILE)

    def find_other(self, error: TransferError) -> FileJob[T] | None:
        """Return a job for the same object at the next address, or None if all were asked."""
        place = self._place.after(self._addresses, error)
        if place is None:
            return None
        return FileJob(self._addresses, self._explain, self._checksum, self._make_sink, place)
