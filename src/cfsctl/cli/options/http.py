"""Options for connections to servers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict, TypeVar

import click

from cfsctl.cli.options.common import TEXT
from cfsctl.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cfsctl.http.fetcher import Fetcher
    from cfsctl.ostree.sources.remote import RemoteSource
    from cfsctl.ostree.summary.cache import SummaryCache
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.progress import Reporter

_MAX_AUTH_BYTES = 4096
_MAX_CONNECTIONS = 256
_MAX_PEM_BYTES = 16 << 20

F = TypeVar("F", bound="Callable[..., object]")


class ConnectionArguments(TypedDict):
    """What `connection_options` adds to a command."""

    fallback_url: tuple[str, ...]
    content_url: tuple[str, ...]
    header: tuple[str, ...]
    auth_file: str | None
    proxy: str | None
    ca_file: str | None
    client_certificate: str | None
    client_key: str | None
    summary_cache: str | None
    subset: str | None
    connections: int | None


DEFAULT_CONNECTION: ConnectionArguments = {
    "fallback_url": (),
    "content_url": (),
    "header": (),
    "auth_file": None,
    "proxy": None,
    "ca_file": None,
    "client_certificate": None,
    "client_key": None,
    "summary_cache": "",
    "subset": None,
    "connections": None,
}
"""Where no options say how a server is reached: the proxy is that of the environment."""


def connection_options(function: F) -> F:
    """Add the options of every command that fetches."""
    for decorate in (
        click.option(
            "--connections",
            metavar="N",
            type=click.IntRange(1, _MAX_CONNECTIONS),
            help="Maximum number of simultaneous connections, but at least one per fetching process. By "
            "default, each process starts with 8, and together they use up to 64 if latency is high.",
        ),
        click.option(
            "--subset",
            type=TEXT,
            metavar="KEY",
            help="Use the summary of this subset, in a repository with a summary.idx: an architecture, or "
            "SUBSET-ARCHITECTURE.",
        ),
        click.option(
            "--summary-cache",
            metavar="DIR",
            help="Cache directory for summaries; the default is cfsctl/summaries in $XDG_CACHE_HOME or "
            "~/.cache. An empty DIR disables the cache.",
        ),
        click.option(
            "--client-key",
            metavar="FILE",
            help="Private key for --client-certificate, if not in the same file.",
        ),
        click.option("--client-certificate", metavar="FILE", help="Client certificate for the server, PEM."),
        click.option(
            "--ca-file", metavar="FILE", help="Certificate authorities to trust instead of the system's, PEM."
        ),
        click.option(
            "--proxy",
            type=TEXT,
            metavar="URL",
            help="Proxy for every request; the default comes from http_proxy, https_proxy and no_proxy in "
            "the environment. An empty URL disables the proxy.",
        ),
        click.option(
            "--auth-file", metavar="FILE", help="File with USER:PASSWORD, sent only to the server of URL."
        ),
        click.option(
            "--content-url",
            type=TEXT,
            metavar="URL",
            multiple=True,
            help="Repository URL for objects and deltas, instead of URL and --fallback-url. Repeatable.",
        ),
        click.option(
            "--fallback-url",
            type=TEXT,
            metavar="URL",
            multiple=True,
            help="Another URL of the same repository, tried when the previous ones fail. Repeatable.",
        ),
        click.option(
            "--header",
            metavar="NAME:VALUE",
            type=TEXT,
            multiple=True,
            help="Header field for every request to the servers of URL, --fallback-url and --content-url; "
            "not sent to other servers. Repeatable.",
        ),
    ):
        function = decorate(function)
    return function


def open_source(
    url: str,
    arguments: ConnectionArguments,
    *,
    trust: TrustPolicy | None = None,
    configured: Mapping[str, str] | None = None,
    allow_older_summary: bool = False,
    reporter: Reporter = silent,
) -> RemoteSource:
    """Return the repository at a URL.

    Args:
        url: Its root, or ``mirrorlist=URL``.
        arguments: How to reach it, and where else it is.
        trust: What its summary has to prove.
        configured: Options of the configured remote that it is, if it is one.
        allow_older_summary: Take a verified summary that is older than the latest one that was seen.
        reporter: Told if the cache of summaries cannot be used.
    """
    from cfsctl.ostree.sources.remote import RemoteSource  # noqa: PLC0415 - brings the HTTP client along

    own = (configured or {}).get("contenturl")
    content_urls = arguments["content_url"] or ((own,) if own else ())
    return RemoteSource(
        with_credentials(url, arguments),
        make_fetcher(arguments, configured, (url, *arguments["fallback_url"], *content_urls)),
        trust,
        cache=_open_cache(arguments["summary_cache"], reporter),
        subset=arguments["subset"],
        mirrors=arguments["fallback_url"],
        content_urls=content_urls,
        allow_older_summary=allow_older_summary,
    )


def _open_cache(directory: str | None, reporter: Reporter) -> SummaryCache | None:
    """Return the cache of summaries in a directory, or the user's; None if there is no such place."""
    from cfsctl.ostree.summary.cache import SummaryCache  # noqa: PLC0415 - keeps --help quick

    if directory is None:
        home = os.environ.get("HOME")
        base = os.environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")
        directory = os.path.join(base, "cfsctl/summaries") if base else ""
    return SummaryCache(directory, reporter) if directory else None


def make_fetcher(
    arguments: ConnectionArguments, defaults: Mapping[str, str] | None = None, urls: Sequence[str] = ()
) -> Fetcher:
    """Return what fetches in the way the options say.

    Args:
        arguments: The options.
        defaults: Options of a configured remote, which those of the command line go before.
        urls: What the user has named: header fields and certificate are for these servers.
    """
    from cfsctl.http import open_fetcher  # noqa: PLC0415 - keeps --help quick
    from cfsctl.http.fetcher import MAX_CONNECTIONS, Limits, Options, named_origins  # noqa: PLC0415 - the same
    from cfsctl.http.proxies import environment_proxies, read_variable  # noqa: PLC0415 - the same
    from cfsctl.workers import default_worker_count  # noqa: PLC0415 - the same

    configured = defaults or {}
    headers = dict(_parse_header(text) for text in arguments["header"])
    proxy = arguments["proxy"] if arguments["proxy"] is not None else configured.get("proxy")
    return open_fetcher(
        Limits.shared(default_worker_count(), arguments["connections"] or MAX_CONNECTIONS),
        Options(
            headers=headers,
            proxies=environment_proxies() if proxy is None else _proxies(proxy),
            no_proxy="" if proxy is not None else read_variable("no_proxy"),
            ca_file=_check_pem(arguments["ca_file"] or configured.get("tls-ca-path")),
            client_certificate=_check_pem(
                arguments["client_certificate"] or configured.get("tls-client-cert-path")
            ),
            client_key=_check_pem(arguments["client_key"] or configured.get("tls-client-key-path")),
            origins=named_origins(url.removeprefix("mirrorlist=") for url in urls),
        ),
    )


def _check_pem(name: str | None) -> str | None:
    """Return the name of a file for the TLS library, which would read a device or a pipe forever."""
    from cfsctl.linux.files import open_regular  # noqa: PLC0415 - keeps --help quick

    if name is None:
        return None
    fd = open_regular(-100, os.path.realpath(name))
    size = os.fstat(fd).st_size
    os.close(fd)
    if size > _MAX_PEM_BYTES:
        raise click.UsageError(f"{name}: expected at most {_MAX_PEM_BYTES} bytes, found {size}")
    return name


def _proxies(url: str) -> dict[str, str]:
    """Return the chosen proxy for each scheme; an empty URL is none."""
    return {"http": url, "https": url} if url else {}


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isprintable():
        raise click.UsageError(f"--header: expected NAME:VALUE, found another form{_name_of(name, colon)}")
    return name.strip(), value.strip()


def _name_of(name: str, colon: str) -> str:
    """Return which header field is meant, for a message that must not show its value."""
    return f" behind {name.strip()!r}" if colon and name.strip() else ""


def with_credentials(url: str, arguments: ConnectionArguments) -> str:
    """Return a URL with the user name and the password that stand in a file, and so not in `ps`."""
    from urllib.parse import quote  # noqa: PLC0415 - keeps --help quick

    from cfsctl.linux.files import open_regular, read_all  # noqa: PLC0415 - the same

    path = arguments["auth_file"]
    if path is None:
        return url
    fd = open_regular(-100, os.path.realpath(path))
    try:
        text = read_all(fd, _MAX_AUTH_BYTES).decode(errors="surrogateescape").strip(" \t\r\n")
    finally:
        os.close(fd)
    user, colon, password = text.partition(":")
    scheme, separator, rest = url.partition("://")
    if not colon or not text.isprintable():
        raise click.UsageError(f"--auth-file: expected one line USER:PASSWORD in {path}")
    if not separator or "@" in rest.partition("/")[0] or scheme not in {"http", "https"}:
        raise click.UsageError("--auth-file: expected a URL of a server without user name")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"
