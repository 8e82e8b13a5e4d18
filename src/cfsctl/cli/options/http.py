"""Options for connections to servers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import click

from cfsctl.cli.help import CONNECTION
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.options.groups import option_group
from cfsctl.cli.options.patience import PATIENCE_OPTIONS

if TYPE_CHECKING:
    import cfsctl
    from cfsctl.library.sources import SourceOptions

_MAX_AUTH_BYTES = 4096
_MAX_CONNECTIONS = 256


class ConnectionArguments(NamedTuple):
    """What `connection_options` adds to a command.

    Attributes:
        fallback_url: Further roots of the same repository.
        content_url: Roots to ask for objects and deltas.
        header: Header fields, ``NAME:VALUE``.
        auth_file: File with user name and password, or None.
        proxy: Proxy for every request; empty for none, None for the configured one.
        ca_file: Authorities to trust, or None.
        client_certificate: Certificate to show, or None.
        client_key: Its key, or None.
        summary_cache: Where summaries are kept; empty is nowhere, None is the user's cache.
        subset: Subset of the summary, or None.
        connections: Most connections at the same time, or None.
        connect_timeout_s: Time to a connection, or None.
        stall_timeout_s: Time in which something must come, or None.
        retries: Requests after one that has failed, or None.
    """

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
    connect_timeout_s: float | None
    stall_timeout_s: float | None
    retries: int | None

    def __post_init__(self) -> None:
        """Refuse header fields that cannot be sent.

        Raises:
            click.UsageError: There is one.
        """
        self.headers()

    def headers(self) -> dict[str, str]:
        """Return the header fields by name."""
        return dict(_parse_header(text) for text in self.header)

    def source_options(
        self,
        url: str,
        remote: cfsctl.Remote | None = None,
        *,
        allow_older_summary: bool = False,
        use_deltas: bool = True,
    ) -> SourceOptions:
        """Return how a repository on a server is read.

        Args:
            url: Its root; header fields and certificate are for its server, and others that are named.
            remote: The configured remote that it is, if it is one; the options go before its configuration.
            allow_older_summary: Take a verified summary that is older than the latest one that was seen.
            use_deltas: Whether to look for static deltas.
        """
        from cfsctl.library.patience import Patience
        from cfsctl.library.sources import (
            SourceOptions,
            content_urls_of,
            make_connection,
        )

        content_urls = self.content_url or (() if remote is None else content_urls_of(remote))
        connection = make_connection(
            headers=self.headers(),
            proxy=self.proxy,
            ca_file=self.ca_file,
            client_certificate=self.client_certificate,
            client_key=self.client_key,
            remote=remote,
            named=(url, *self.fallback_url, *content_urls),
        )
        return SourceOptions(
            connection=connection,
            max_connections=self.connections,
            patience=Patience(self.connect_timeout_s, self.stall_timeout_s, self.retries),
            mirrors=self.fallback_url,
            content_urls=content_urls,
            subset=self.subset,
            summary_cache=_find_cache(self.summary_cache),
            allow_older_summary=allow_older_summary,
            use_deltas=use_deltas,
        )


_CONNECTIONS = (
    click.option(
        "--connections",
        metavar="N",
        type=click.IntRange(1, _MAX_CONNECTIONS),
        help="Maximum number of simultaneous connections, but at least one per fetching process. By "
        "default, each process starts with 8, and together they use up to 64 if latency is high.",
    ),
)
_SUMMARIES = (
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
)
_SERVER = (
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
)
_MIRRORS = (
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
)
_HEADER = click.option(
    "--header",
    metavar="NAME:VALUE",
    type=TEXT,
    multiple=True,
    help="Header field for every request to the servers of URL, --fallback-url and --content-url; "
    "not sent to other servers. Repeatable.",
)

connection_options = option_group(
    "connecting",
    ConnectionArguments,
    (*PATIENCE_OPTIONS, *_CONNECTIONS, *_SUMMARIES, *_SERVER, *_MIRRORS, _HEADER),
    CONNECTION,
)
"""Adds the options of every command that fetches commits, as `connecting`."""


def _make_plain(
    *,
    header: tuple[str, ...],
    auth_file: str | None,
    proxy: str | None,
    ca_file: str | None,
    client_certificate: str | None,
    client_key: str | None,
    connections: int | None,
    connect_timeout_s: float | None,
    stall_timeout_s: float | None,
    retries: int | None,
) -> ConnectionArguments:
    """Return the same without mirrors and summaries."""
    return ConnectionArguments(
        fallback_url=(),
        content_url=(),
        header=header,
        auth_file=auth_file,
        proxy=proxy,
        ca_file=ca_file,
        client_certificate=client_certificate,
        client_key=client_key,
        summary_cache="",
        subset=None,
        connections=connections,
        connect_timeout_s=connect_timeout_s,
        stall_timeout_s=stall_timeout_s,
        retries=retries,
    )


_PLAIN_HEADER = click.option(
    "--header",
    metavar="NAME:VALUE",
    type=TEXT,
    multiple=True,
    help="Header field for every request to the server of URL; not sent to other servers. Repeatable.",
)

server_options = option_group(
    "connecting", _make_plain, (*PATIENCE_OPTIONS, *_CONNECTIONS, *_SERVER, _PLAIN_HEADER), CONNECTION
)
"""Adds the options of a command that reads from one server without summaries, as `connecting`."""


def _find_cache(directory: str | None) -> str | None:
    """Return where summaries are kept: the directory, or the user's; None if nowhere."""
    if directory is None:
        home = os.environ.get("HOME")
        base = os.environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")
        directory = os.path.join(base, "cfsctl/summaries") if base else ""
    return directory or None


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isprintable():
        raise click.UsageError(
            f"--header: expected NAME:VALUE, such as 'Accept-Language: en',"
            f" found another form{_name_of(name, colon)}"
        )
    return name.strip(), value.strip()


def _name_of(name: str, colon: str) -> str:
    """Return which header field is meant, for a message that must not show its value."""
    return f" behind {name.strip()!r}" if colon and name.strip() else ""


def with_credentials(url: str, path: str | None) -> str:
    """Return a URL with the user name and the password that stand in a file, and so not in `ps`."""
    from urllib.parse import quote

    from cfsctl.linux.files import open_regular, read_all

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
