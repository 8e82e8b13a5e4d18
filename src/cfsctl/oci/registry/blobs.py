"""Blobs as they come from a registry, while they are read.

A thread runs the transfer, which tries again, resumes, answers challenges and moves on to the next mirror. It
gives its pieces to a queue that holds a few of them, so that a slow reader slows the server down. A transfer
that has to begin again passes over what was read already; the reader compares the digest of all of it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Final

from cfsctl.errors import FetchError
from cfsctl.http.answer import Mark
from cfsctl.http.attempt import Partial
from cfsctl.http.urls import check_url, redact_url
from cfsctl.oci.registry.client import MAX_ANSWERS, RegistryClient, explain
from cfsctl.oci.source import ImageNotFoundError, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.errors import CfsError
    from cfsctl.http.errors import TransferError
    from cfsctl.http.fetcher import Fetcher
    from cfsctl.oci.manifest import Descriptor

_QUEUED_PIECES: Final = 16
"""Of about `Limits.hold_bytes` each."""

_POLL_S: Final = 0.2
_JOIN_TIMEOUT_S: Final = 2.0


class _Closed(Exception):  # noqa: N818 - no error: the reader wants no more
    """The reader has closed the blob."""


class _Pipe:
    """Takes pieces from a transfer and gives them to the reader.

    Attributes:
        passed: Bytes that were put into it.
    """

    def __init__(self) -> None:
        self.passed = 0
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_QUEUED_PIECES)
        self._closed = threading.Event()

    def put(self, item: bytes | BaseException | None) -> None:
        """Queue a piece, an error, or None for the end."""
        while True:
            self.check_open()
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            if isinstance(item, bytes):
                self.passed += len(item)
            return

    def get(self) -> bytes:
        """Return the next piece; none at the end."""
        item = self._queue.get()
        if isinstance(item, bytes):
            return item
        self._queue.put_nowait(item)  # the end stays the end
        if item is None:
            return b""
        raise item

    def check_open(self) -> None:
        if self._closed.is_set():
            raise _Closed

    def close(self) -> None:
        self._closed.set()


class _Sink:
    """Passes over what an earlier transfer has brought."""

    def __init__(self, pipe: _Pipe, *, goes_on: bool = False) -> None:
        self._pipe = pipe
        self._skip = 0 if goes_on else pipe.passed

    def write(self, chunk: bytes, /) -> None:
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        if skipped < len(chunk):
            self._pipe.put(chunk[skipped:])

    def finish(self) -> None:
        """Do nothing: every piece was passed on."""

    def abort(self) -> None:
        """Do nothing: what was passed on has been read."""


class _Job:
    """The transfer of a blob from one place."""

    def __init__(self, client: RegistryClient, descriptor: Descriptor, pipe: _Pipe, answers: int = 0) -> None:
        self._client = client
        self._descriptor = descriptor
        self._pipe = pipe
        self._answers = answers
        self.url = client.url(f"blobs/{descriptor.digest}")
        self.limit_bytes = descriptor.size

    @property
    def authorization(self) -> str | None:
        return self._client.authorization

    @property
    def partial(self) -> Partial | None:
        """What the reader has already: the rest is asked for."""
        passed = self._pipe.passed
        if not 0 < passed < self._descriptor.size:
            return None
        return Partial(
            _Sink(self._pipe, goes_on=True),
            passed,
            Mark(self._descriptor.size, etag=None, last_modified=None),
        )

    def make_sink(self) -> _Sink:
        return _Sink(self._pipe)

    def explain(self, error: TransferError, /) -> CfsError:
        return explain(error, f"blob {self._descriptor.digest}", self._client.endpoint)

    def find_other(self, error: TransferError) -> _Job | None:
        """Return the same transfer with an answered challenge."""
        if self._answers < MAX_ANSWERS and self._client.answer(error):
            return _Job(self._client, self._descriptor, self._pipe, self._answers + 1)
        return None


class _UrlJob:
    """The transfer of a blob from a place that its image names; no credentials go there."""

    def __init__(self, url: str, descriptor: Descriptor, pipe: _Pipe) -> None:
        self.url = url
        self.limit_bytes = descriptor.size
        self._descriptor = descriptor
        self._pipe = pipe

    def make_sink(self) -> _Sink:
        return _Sink(self._pipe)

    def explain(self, error: TransferError, /) -> CfsError:
        return error.about(f"blob {self._descriptor.digest}")


class RemoteBlob:
    """A blob that comes while it is read; see `cfsctl.oci.source.BlobReader`.

    Attributes:
        size: What its descriptor says.
    """

    def __init__(self, clients: Sequence[RegistryClient], descriptor: Descriptor, offset: int = 0) -> None:
        """Request the blob, and wait for its first bytes.

        Args:
            clients: Where it may be, to be asked in this order.
            descriptor: What it is to be.
            offset: Bytes that the reader has already; it gets those behind them.

        Raises:
            ImageNotFoundError: No mirror and no registry has it.
            FetchError: It could not be had.
        """
        self.size = descriptor.size
        self._pipe = _Pipe()
        self._pipe.passed = offset
        self._clients = clients
        self._descriptor = descriptor
        self._thread = threading.Thread(target=self._run, name="cfsctl-blob", daemon=True)
        self._thread.start()
        try:
            self._piece = memoryview(self._pipe.get())
        except BaseException:
            self.close()
            raise

    def _run(self) -> None:
        """Run the transfer, in a thread."""
        try:
            self._transfer()
            self._pipe.put(None)
        except _Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the reader's thread
            self._pass_error(error)

    def _transfer(self) -> None:
        """Take the blob from the first place that gives it; each has a fetcher with its own TLS settings."""
        *mirrors, last = self._clients
        for client in mirrors:
            try:
                self._transfer_from(client)
            except (FetchError, ImageNotFoundError):
                continue
            return
        try:
            self._transfer_from(last)
        except ImageNotFoundError:
            if not self._descriptor.urls:
                raise
            self._transfer_from_urls(last)

    def _transfer_from(self, client: RegistryClient) -> None:
        self._run_job(client.fetcher, _Job(client, self._descriptor, self._pipe))

    def _run_job(self, fetcher: Fetcher, job: _Job | _UrlJob) -> None:
        jobs = [job]

        def next_job() -> _Job | _UrlJob | None:
            self._pipe.check_open()
            return jobs.pop() if jobs else None

        for _ in fetcher.transfer(next_job):
            pass

    def _transfer_from_urls(self, client: RegistryClient) -> None:
        """Take the blob from one of the places that the image names: a layer that registries may not have.

        The author of the image chooses the places, so nothing goes there that is for the registry: no
        credentials, no client certificate, and no exception from verifying TLS.
        """
        *others, last = self._descriptor.urls
        fetcher = client.open_plain_fetcher()
        try:
            for url in others:
                try:
                    self._run_job(fetcher, _make_url_job(url, self._descriptor, self._pipe))
                except (FetchError, SourceError):
                    continue
                return
            self._run_job(fetcher, _make_url_job(last, self._descriptor, self._pipe))
        finally:
            fetcher.close()

    def _pass_error(self, error: BaseException) -> None:
        with contextlib.suppress(_Closed):
            self._pipe.put(error)

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most so many; none at the end.

        Raises:
            FetchError: The rest could not be had.
        """
        if not self._piece:
            self._piece = memoryview(self._pipe.get())
        data, self._piece = bytes(self._piece[:size]), self._piece[size:]
        return data

    def close(self) -> None:
        """End the transfer; may be called again."""
        self._pipe.close()
        self._thread.join(_JOIN_TIMEOUT_S)


def _make_url_job(url: str, descriptor: Descriptor, pipe: _Pipe) -> _UrlJob:
    """Return the transfer from a URL that an image names.

    Raises:
        SourceError: It is not a URL of HTTP, or has credentials in it.
    """
    try:
        is_valid = "@" not in check_url(url).netloc
    except FetchError:
        is_valid = False
    if not is_valid:
        raise SourceError(
            f"blob {descriptor.digest}: urls: expected an http or https URL without credentials,"
            f" found {redact_url(url)[:200]}"
        )
    return _UrlJob(url, descriptor, pipe)
