"""OSTree repositories that commits come from: directories, servers, and remotes that are configured."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode
from cfsctl.library.events import cancellable, make_reporter
from cfsctl.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cfsctl.http.fetcher import Fetcher
    from cfsctl.http.fetcher import Options as ConnectionOptions
    from cfsctl.library.events import Progress
    from cfsctl.library.paths import StrPath
    from cfsctl.library.patience import Patience
    from cfsctl.library.results import RemoteRef
    from cfsctl.ostree.delta.store import DeltaStore
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.ostree.sources.remote import RemoteSource
    from cfsctl.ostree.summary.cache import SummaryCache
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.ostree.trust.remotes import Remote
    from cfsctl.progress import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How an OSTree repository is read.

    Attributes:
        connection: How its server is reached; None is as the environment says about proxies.
        max_connections: Most connections at the same time; None is the default.
        patience: How long to wait for the server, and how often to ask again; None is the defaults.
        mirrors: Further roots of the same repository, asked for what the ones before do not have.
        content_urls: Roots to ask for objects and deltas in place of the others.
        subset: Subset of the summary to take names from, in a repository with a summary index.
        summary_cache: Directory where summaries are kept for the next time; None keeps none.
        allow_older_summary: Take a verified summary that is older than the latest one that was seen.
        use_deltas: Whether to look for static deltas; None is on servers only.
    """

    connection: ConnectionOptions | None = None
    max_connections: int | None = None
    patience: Patience | None = None
    mirrors: tuple[str, ...] = ()
    content_urls: tuple[str, ...] = ()
    subset: str | None = None
    summary_cache: str | None = None
    allow_older_summary: bool = False
    use_deltas: bool | None = None


DEFAULT_SOURCE_OPTIONS = SourceOptions()


@dataclass(frozen=True, slots=True)
class Location:
    """Where an OSTree repository is.

    Attributes:
        text: Its URL, ``mirrorlist=URL``, or its directory.
        is_url: Whether it is a URL.
    """

    text: str
    is_url: bool

    @classmethod
    def parse(cls, where: StrPath | Location) -> Location:
        """Return the location that a program names: what has ``://`` in it is a URL, except a path object."""
        if isinstance(where, Location):
            return where
        return cls(os.fspath(where), isinstance(where, str) and "://" in where)

    def find_directory(self) -> str | None:
        """Return the directory, also that of a URL ``file:///PATH``, or None if it is on a server.

        Raises:
            InvalidURLError: A URL of a file that cannot be one.
        """
        if not self.is_url:
            return self.text
        from cfsctl.http.mirrors import parse_file_url  # brings URLs along

        return parse_file_url(self.text)


def redact_url(url: str) -> str:
    """Return a URL without user name, password and query, as it may be printed."""
    from cfsctl.http.urls import redact_url as redact  # as in `Location`

    return redact(url)


def find_remote(name: str, directory: str | None = None) -> Remote:
    """Return a configured remote.

    Args:
        name: Its name.
        directory: Where remotes are configured; None is ``/etc/ostree/remotes.d``.

    Raises:
        CfsError: There is no such remote, or its configuration cannot be used.
    """
    from cfsctl.ostree.trust.remotes import DEFAULT_DIRECTORY, load_remote

    return load_remote(name, directory or DEFAULT_DIRECTORY)


@contextlib.contextmanager
def opened_source(
    where: Location,
    options: SourceOptions = DEFAULT_SOURCE_OPTIONS,
    trust: TrustPolicy | None = None,
    reporter: Reporter = silent,
) -> Iterator[tuple[ObjectSource, DeltaStore | None]]:
    """Open what a URL or a directory stands for, and the store of its deltas, if they are to be used."""
    path = where.find_directory()
    if path is not None:
        from cfsctl.ostree.sources.opening import open_local

        with contextlib.closing(open_local(path, trust)) as local:
            yield local, _local_deltas(path) if options.use_deltas else None
        return
    with contextlib.closing(open_server(where.text, options, trust, reporter)) as remote:
        yield remote, None if options.use_deltas is False else _remote_deltas(remote)


def _remote_deltas(source: RemoteSource) -> DeltaStore:
    from cfsctl.ostree.delta.remote import RemoteDeltas

    return RemoteDeltas(source)


def _local_deltas(path: str) -> DeltaStore:
    from cfsctl.ostree.delta.store import LocalDeltas

    return LocalDeltas(path)


def open_plain_fetcher(url: str, options: SourceOptions = DEFAULT_SOURCE_OPTIONS) -> Fetcher:
    """Return what fetches from the server of a URL; the caller closes it."""
    from cfsctl.http import open_fetcher  # brings a client along
    from cfsctl.http.fetcher import MAX_CONNECTIONS, Limits
    from cfsctl.http.urls import named_origins

    connection = options.connection or make_connection()
    if connection.origins is None:
        connection = replace(connection, origins=named_origins((url,)))
    limits = Limits.shared(1, options.max_connections or MAX_CONNECTIONS)
    if options.patience is not None:
        limits = limits.with_patience(*options.patience)
    return open_fetcher(limits, connection)


def open_server(
    url: str,
    options: SourceOptions = DEFAULT_SOURCE_OPTIONS,
    trust: TrustPolicy | None = None,
    reporter: Reporter = silent,
) -> RemoteSource:
    """Return the repository at a URL, or at the roots that ``mirrorlist=URL`` lists."""
    from cfsctl.http import open_fetcher  # brings a client along
    from cfsctl.http.fetcher import MAX_CONNECTIONS, Limits
    from cfsctl.http.urls import named_origins
    from cfsctl.ostree.sources.remote import RemoteSource
    from cfsctl.processors import default_worker_count

    connection = options.connection or make_connection()
    if connection.origins is None:
        named = (url, *options.mirrors, *options.content_urls)
        connection = replace(
            connection, origins=named_origins(one.removeprefix("mirrorlist=") for one in named)
        )
    limits = Limits.shared(default_worker_count(), options.max_connections or MAX_CONNECTIONS)
    if options.patience is not None:
        limits = limits.with_patience(*options.patience)
    return RemoteSource(
        url,
        open_fetcher(limits, connection),
        trust,
        cache=_open_cache(options.summary_cache, reporter) if options.summary_cache else None,
        subset=options.subset,
        mirrors=options.mirrors,
        content_urls=options.content_urls,
        allow_older_summary=options.allow_older_summary,
    )


def _open_cache(path: str, reporter: Reporter) -> SummaryCache:
    from cfsctl.ostree.summary.cache import SummaryCache  # few pulls keep summaries

    return SummaryCache(path, reporter)


def make_connection(
    *,
    headers: Mapping[str, str] | None = None,
    proxy: str | None = None,
    ca_file: str | None = None,
    client_certificate: str | None = None,
    client_key: str | None = None,
    remote: Remote | None = None,
    named: Iterable[str] | None = None,
) -> ConnectionOptions:
    """Return how a server is reached; what is not given is as a remote, or the environment, is configured.

    Args:
        headers: Header fields of every request to the servers that are named.
        proxy: URL of the proxy for every request; empty for none, None for the configured one, or as the
            environment says.
        ca_file: Authorities to trust in place of the system's, PEM.
        client_certificate: Certificate to show to the server, PEM.
        client_key: Its key, unless it is in the same file.
        remote: The remote that it is, if it is one.
        named: URLs that the user has named: headers and credentials go to their origins only. None for the
            URL that is asked for.

    Raises:
        ConnectionFileError, OSError: A file cannot be read as PEM.
    """
    from cfsctl.http.fetcher import Options  # brings a client along
    from cfsctl.http.proxies import environment_proxies, read_variable
    from cfsctl.http.urls import named_origins

    configured = {} if remote is None else remote.options
    proxy = configured.get("proxy") if proxy is None else proxy
    return Options(
        headers=dict(headers or {}),
        proxies=environment_proxies() if proxy is None else _proxies(proxy),
        no_proxy="" if proxy is not None else read_variable("no_proxy"),
        ca_file=_check_pem(ca_file or configured.get("tls-ca-path")),
        client_certificate=_check_pem(client_certificate or configured.get("tls-client-cert-path")),
        client_key=_check_pem(client_key or configured.get("tls-client-key-path")),
        origins=None if named is None else named_origins(url.removeprefix("mirrorlist=") for url in named),
    )


def content_urls_of(remote: Remote) -> tuple[str, ...]:
    """Return the root that a remote's configuration names for objects and deltas, if it names one."""
    url = remote.options.get("contenturl")
    return (url,) if url else ()


def _proxies(url: str) -> dict[str, str]:
    """Return the chosen proxy for each scheme; an empty URL means no proxy."""
    return {"http": url, "https": url} if url else {}


_MAX_PEM_BYTES: Final = 16 << 20


class ConnectionFileError(CfsError):
    """A file of certificates or keys that cannot be one."""

    exit_code = ExitCode.USAGE


def _check_pem(name: str | None) -> str | None:
    """Return the name of a file for the TLS library, which would read a device or a pipe forever."""
    from cfsctl.linux.files import open_regular

    if name is None:
        return None
    fd = open_regular(-100, os.path.realpath(name))
    size = os.fstat(fd).st_size
    os.close(fd)
    if size > _MAX_PEM_BYTES:
        raise ConnectionFileError(f"{name}: expected at most {_MAX_PEM_BYTES} bytes, found {size}")
    return name


@cancellable
def list_refs(
    where: StrPath | Location,
    options: SourceOptions = DEFAULT_SOURCE_OPTIONS,
    *,
    progress: Progress | None = None,
) -> list[RemoteRef]:
    """Return the refs of an OSTree repository: those of a server's summary, or the branches in a directory.

    Args:
        where: URL or directory.
        options: How it is read.
        progress: Told while the server is waited for.

    Raises:
        FetchError: The server does not answer as it should.
        CfsError: There is no repository, or no summary.
    """
    from cfsctl.library.ids import Checksum
    from cfsctl.library.results import RemoteRef

    location = Location.parse(where)
    path = location.find_directory()
    if path is None:
        with contextlib.closing(
            open_server(location.text, options, reporter=make_reporter(progress))
        ) as server:
            return [
                RemoteRef(ref.name, Checksum(ref.checksum), ref.timestamp_s, ref.version)
                for ref in server.list_refs()
            ]
    from cfsctl.ostree.sources.local import LocalSource  # few lists are of this machine

    with contextlib.closing(LocalSource(path)) as source:
        return [RemoteRef(name, Checksum(checksum)) for name, checksum in source.list_refs().items()]
