"""An OSTree repository on a web server, as a source to pull from.

Only repositories in archive mode can be pulled over HTTP. What is asked for, relative to the base URL:

    summary                  every ref with its commit, if the server has one
    summary.idx              in its place, where a subset of the refs is asked for
    refs/heads/NAME          the commit of one ref, if the summary does not name it
    objects/xx/rest.KIND     an object

A server answers 403, 404 or 410 for what it does not have; anything else that is not a success is an error
that names what was wanted. Of signatures only those of the summary are looked at, by `summary_reader`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from cfsctl.errors import CfsError, FetchError
from cfsctl.http import open_fetcher
from cfsctl.http.documents import find_document
from cfsctl.http.errors import MISSING_STATUSES, HTTPStatusError, TransferError
from cfsctl.http.mirrors import MIRRORLIST, Addresses, MirroredJob, parse_address, resolve_addresses
from cfsctl.http.urls import redact_url
from cfsctl.ostree.key_file import parse_key_file
from cfsctl.ostree.objects import MAX_DETACHED_SIZE, MAX_METADATA_SIZE, ObjectKind
from cfsctl.ostree.source import (
    MAX_REF_FILE_BYTES,
    METADATA_IN_FLIGHT,
    SourceObjectMissingError,
    check_ref_name,
    parse_ref_file,
    ref_not_found,
)
from cfsctl.ostree.sources.local_repository import MAX_CONFIG_BYTES
from cfsctl.ostree.sources.remote_jobs import FileJob, Held, MetadataJob, format_name
from cfsctl.ostree.sources.summary_reader import NoSummaryError, SummaryReader, explain_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cfsctl.digest import Checksum
    from cfsctl.http.fetcher import BodySink, Fetcher
    from cfsctl.ostree.source import FileSink
    from cfsctl.ostree.summary.cache import SummaryCache
    from cfsctl.ostree.summary.format import Summary, SummaryRef
    from cfsctl.ostree.trust.policy import TrustPolicy

T = TypeVar("T")

_ARCHIVE_HINT: Final = "only repositories in archive mode can be pulled over HTTP"

_INCOMPLETE_HINT: Final = (
    "the repository there is incomplete, or being changed: pull again later, or tell its administrator"
)


class NoServedRepositoryError(FetchError):
    """A URL at which a server has no OSTree repository, or hides it."""

    def __init__(self, where: str, status: int) -> None:
        """Take the URL and the status of each answer."""
        is_forbidden = status == _FORBIDDEN
        reason = "may not be read" if is_forbidden else "has no OSTree repository"
        super().__init__(
            f"{where} {reason}: the server answers with HTTP status {status} for config, summary and refs",
            hint="check the URL and the credentials (--auth-file, --header, --client-certificate)"
            if is_forbidden
            else "check the URL: it is that of the directory with the repository's file 'config'",
        )


_FORBIDDEN: Final = 403


class RemoteSource:
    """An archive repository on a server; see `cfsctl.ostree.source.Source`.

    Attributes:
        description: Its URL without user name and password.
    """

    def __init__(
        self,
        url: str,
        fetcher: Fetcher | None = None,
        trust: TrustPolicy | None = None,
        *,
        cache: SummaryCache | None = None,
        subset: str | None = None,
        mirrors: Sequence[str] = (),
        content_urls: Sequence[str] = (),
        allow_older_summary: bool = False,
    ) -> None:
        """Check the URL; nothing is asked of the server yet.

        Args:
            url: Root of the repository, http or https.
            fetcher: What fetches; None is the fastest that is installed, with default limits.
            trust: What the summary has to prove; if anything, refs are taken from nowhere else.
            cache: Summaries that were fetched before; None asks for the whole summary each time.
            subset: Take names from the summary of this subset, as ``summary.idx`` lists it.
            mirrors: Further roots of the same repository, asked for what the first one does not give.
            content_urls: Roots to ask for objects and deltas, in place of all of these.
            allow_older_summary: Take a verified summary that is older than the latest one in the cache.

        Any URL may also be that of a list of roots, ``mirrorlist=URL``.

        Raises:
            InvalidURLError: Not a URL we can fetch from.
        """
        self.description = redact_url(url if url.startswith(MIRRORLIST) else parse_address(url).base)
        self._fetcher = fetcher or open_fetcher()
        self._urls = (url, *mirrors)
        self._content_urls = tuple(content_urls) or self._urls
        self._names: Addresses | None = None
        self._contents: Addresses | None = None
        self._reader = SummaryReader(
            self.find_document,
            self.description,
            url,
            trust=trust,
            cache=cache,
            subset=subset,
            allow_older=allow_older_summary,
        )
        self._summary: Summary | None = None
        self._is_summary_known = False
        self._commit_sizes: dict[Checksum, int] = {}

    @property
    def round_trip_s(self) -> float | None:
        """How long the server takes to answer, as far as this process knows."""
        return self._fetcher.statistics.round_trip_s

    def close(self) -> None:
        """Close the connections of this process; new ones are opened when they are needed."""
        self._fetcher.close()

    # Refs

    def resolve_ref(self, name: str) -> Checksum:
        """Return the commit that the summary, or else the ref file, names.

        Raises:
            RefNotFoundError: Neither has the ref.
            SignatureError: The summary must be signed, and is not by a key that counts.
            InvalidRefError: No valid name, or a ref file that holds no checksum.
            SummaryError: The server's summary is invalid or contradicts itself.
            TransferError: The server did not answer as it should.
        """
        check_ref_name(name)
        summary = self.find_summary()
        ref = summary.refs.get(name) if summary is not None else None
        if ref is None:
            if self.must_verify_summary:
                raise ref_not_found(name, f"the summary of {self.description}", hint=self._suggest(name))
            return self._read_ref_file(name)
        self._commit_sizes[ref.checksum] = ref.commit_size
        return ref.checksum

    def list_refs(self) -> list[SummaryRef]:
        """Return the refs in the order of the summary.

        Raises:
            NoSummaryError: The server has none.
            SummaryError: The server's summary is invalid or contradicts itself.
            TransferError: The server did not answer as it should.
        """
        summary = self.find_summary()
        if summary is None:
            self._check_repository()
            raise NoSummaryError(
                f"no summary available from remote {self.description}",
                hint="ask its administrator for `ostree summary --update`; refs can be pulled without it",
            )
        return list(summary.refs.values())

    def find_summary(self) -> Summary | None:
        """Return the server's summary, or None if it has none; it is asked for once.

        A server that answers with something else is not trusted in anything else either: what looks
        like a repository without a summary may be the login page of a network.

        Raises:
            SummaryError: What the server has is not a summary.
            TransferError: The server did not answer as it should.
        """
        if not self._is_summary_known:
            self._summary = self._reader.read()
            self._is_summary_known = True
        return self._summary

    @property
    def must_verify_summary(self) -> bool:
        """Whether the summary is the only place for names, and must be signed."""
        return self._reader.must_verify

    def check_summary(self) -> None:
        """Check the summary if it must be signed, also where no name is looked up in it.

        Raises:
            SignatureError: It is not by a key that counts, or none exists.
            SummaryError: It is invalid, or older than the cached one.
            TransferError: The server did not answer as it should.
        """
        if self.must_verify_summary:
            self.find_summary()

    def _read_ref_file(self, name: str) -> Checksum:
        path = f"refs/heads/{quote(name, safe='/')}"
        data = self.find_document(path, f"ref '{name}'", MAX_REF_FILE_BYTES)
        if data is None:
            self._check_repository()
            raise ref_not_found(name, self.description, hint=self._suggest(name))
        return parse_ref_file(data, f"ref '{name}' of {self.description}", hint=explain_page(data))

    def _suggest(self, name: str) -> str:
        """Return a hint at names that the summary has."""
        from cfsctl.repository.names.names import suggest  # only for those who mistype

        if self._summary is None:
            return "check its name; the server has no summary that lists the others"
        refs = self._summary.refs
        return suggest(name, refs) or f"see its refs with `cfsctl ostree list-refs {self.description}`"

    def _check_repository(self) -> None:
        """Check that there is a repository at all, where neither summary nor ref was found.

        Raises:
            NoServedRepositoryError: The server refuses everything, so it is not the ref that is wrong.
        """
        url = self._name_addresses.url(self._name_addresses.first, "config")
        try:
            self._fetcher.get(url, limit_bytes=MAX_CONFIG_BYTES)
        except HTTPStatusError as error:
            if error.status in MISSING_STATUSES:
                raise NoServedRepositoryError(self.description, error.status) from error
        except TransferError:
            return  # the ref is what was asked for

    @property
    def _name_addresses(self) -> Addresses:
        """Where names and signatures are."""
        if self._names is None:
            self._names = Addresses(resolve_addresses(self._urls, self._fetcher))
        return self._names

    @property
    def _content_addresses(self) -> Addresses:
        """Where objects and deltas are."""
        if self._contents is None:
            self._contents = Addresses(resolve_addresses(self._content_urls, self._fetcher))
        return self._contents

    def find_document(
        self,
        path: str,
        name: str,
        limit_bytes: int,
        cache: SummaryCache | None = None,
        cached: list[bytes] | None = None,
    ) -> bytes | None:
        """Return a small file of the repository, or None if no address has it and one says so.

        Args:
            path: Where it is, relative to the repository.
            name: What messages call it.
            limit_bytes: Its size at most.
            cache: Where it may be from before, if the server says that it has not changed.
            cached: Gets the content if it is from there.

        Raises:
            TransferError: No address answered as it should.
        """
        return find_document(self._fetcher, self._name_addresses, path, name, limit_bytes, cache, cached)

    def find_optional(self, path: str, name: str, limit_bytes: int) -> bytes | None:
        """Return a small file that a repository may well lack, or None; see `find_document`.

        Many servers send a page with status 200 for missing files. For optional files, such a page means the
        same as 404; for required files, the caller raises an error.
        """
        data = self.find_document(path, name, limit_bytes)
        return None if data is None or explain_page(data) else data

    def fetch_file(self, path: str, name: str, limit_bytes: int, make_sink: Callable[[], BodySink[T]]) -> T:
        """Pass a large file of the repository through a sink and return what its `finish` returns.

        Args:
            path: Where it is, relative to the repository.
            name: What messages call it.
            limit_bytes: Its size at most.
            make_sink: Returns a fresh sink, once for each attempt.

        Raises:
            TransferError: The server did not answer as it should, or does not have it.
        """
        jobs = iter([MirroredJob(self._content_addresses, path, name, limit_bytes, make_sink)])
        (result,) = self._fetcher.transfer(lambda: next(jobs, None))
        return result

    # Objects

    def fetch_metadata(
        self,
        request: Callable[[], tuple[Checksum, ObjectKind] | None],
        deliver: Callable[[Checksum, ObjectKind, bytes], None],
    ) -> None:
        """Fetch what `request` names; see `Source.fetch_metadata`.

        A commit that was found through the summary may have no more bytes than that says.

        Raises:
            ObjectMissingError: The server has no such object.
            TransferError: The server did not answer as it should; the message names the object.
        """
        held = Held()
        in_flight = 0

        def next_job() -> MetadataJob | None:
            nonlocal in_flight
            wanted = request() if in_flight < METADATA_IN_FLIGHT else None
            if wanted is None:
                return None
            in_flight += 1
            return self._make_metadata_job(*wanted, held)

        for job, data in self._fetcher.transfer(next_job):
            in_flight -= 1
            try:
                deliver(job.checksum, job.kind, data)
            except CfsError as error:
                error.hint = error.hint or explain_page(data)
                raise
            del data  # which may be large, and is not needed while the next one is fetched

    def _make_metadata_job(self, checksum: Checksum, kind: ObjectKind, held: Held) -> MetadataJob:
        limit = self._commit_sizes.get(checksum, MAX_METADATA_SIZE) if kind is ObjectKind.COMMIT else None
        limit = MAX_METADATA_SIZE if limit is None else min(limit, MAX_METADATA_SIZE)
        return MetadataJob(self._content_addresses, self.explain, checksum, kind, limit, held)

    def fetch_files(
        self, checksums: Iterable[Checksum], make_sink: Callable[[Checksum], FileSink[T]]
    ) -> Iterator[T]:
        """Pass content objects through sinks; see `Source.fetch_files`.

        Raises:
            ObjectMissingError: The server has no such object.
            TransferError: The server did not answer as it should; the message names the object.
        """
        pending = iter(checksums)
        addresses = self._content_addresses

        def next_job() -> FileJob[T] | None:
            checksum = next(pending, None)
            return None if checksum is None else FileJob(addresses, self.explain, checksum, make_sink)

        return self._fetcher.transfer(next_job)

    def list_ref_names(self) -> list[str]:
        """Return the names of all refs in the summary; see `Source.list_ref_names`."""
        return [ref.name for ref in self.list_refs()]

    def find_detached(self, commit: Checksum) -> bytes | None:
        """Return the detached metadata of a commit, or None; see `Source.find_detached`.

        Raises:
            TransferError: The server did not answer as it should.
        """
        digits = commit.hex()
        path = f"objects/{digits[:2]}/{digits[2:]}.commitmeta"
        return self.find_optional(path, f"commitmeta object {digits}", MAX_DETACHED_SIZE) or None

    def explain_missing(self, commit: Checksum) -> None:
        """Return None: a server does not say why an object is missing; see `ObjectSource.explain_missing`."""

    def _explain_lack(self) -> str:
        """Return why content may be missing: the mode of the repository, as far as it can be learnt."""
        try:
            data = self.find_document("config", "config", MAX_CONFIG_BYTES) or b""
            mode = parse_key_file(data.decode()).get("core", {}).get("mode", "bare")
        except (CfsError, UnicodeDecodeError):
            return f"{_INCOMPLETE_HINT}; {_ARCHIVE_HINT}"
        if not data:
            return f"{_INCOMPLETE_HINT}; {_ARCHIVE_HINT}"
        if mode in {"archive", "archive-z2"}:
            return _INCOMPLETE_HINT
        return f"{_ARCHIVE_HINT}, and this one is in mode {mode}"

    def explain(self, error: TransferError, checksum: Checksum, kind: ObjectKind) -> CfsError:
        """Return the error for an object that could not be had."""
        if isinstance(error, HTTPStatusError) and error.status in MISSING_STATUSES:
            hint = self._explain_lack() if kind is ObjectKind.FILE else _INCOMPLETE_HINT
            return SourceObjectMissingError(
                checksum, kind, f"{self.description} (HTTP status {error.status})", hint=hint
            )
        return error.about(format_name(checksum, kind))
