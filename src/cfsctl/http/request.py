"""Header fields, certificates and other options of a request, the same for every transport.

The user's header fields, client certificate and key are only sent to servers that the user has named. The
target of a redirect and the URLs in a list of mirrors are chosen by a server, so they do not get them.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Final

from cfsctl.errors import ExitCode, FetchError
from cfsctl.http.urls import origin_of

if TYPE_CHECKING:
    from cfsctl.http.fetcher import Job, Options


def is_named(options: Options, asked: str, first: str) -> bool:
    """Return whether the user has named the server of a URL.

    Args:
        options: With the origins that the user has named, if that is known.
        asked: The URL that is requested, to which redirects may have led.
        first: The URL that was requested in the first place; named, if nothing else is known.
    """
    if options.origins is None:
        return asked is first or origin_of(asked) == origin_of(first)
    return origin_of(asked) in options.origins


_MAX_CERTIFICATES_BYTES: Final = 64 << 20


class OptionsError(FetchError):
    """Options that no request can be made with."""

    exit_code = ExitCode.USAGE


def check_options(options: Options) -> None:
    """Check what a configuration or a user says before libraries trip over it, each in its own way.

    Raises:
        OptionsError: A header field that cannot be sent, or a file of certificates that cannot be read.
    """
    for name, value in (*options.headers.items(), ("User-Agent", options.user_agent)):
        text = f"{name}{value}"
        if not (text.isascii() and text.isprintable()) or not name or ":" in name or " " in name:
            raise OptionsError(f"header field {name!r}: expected a name and a value of printable ASCII")
    for path in (options.ca_file, *options.more_authorities, options.client_certificate, options.client_key):
        if path is not None:
            _check_file(path)


def _check_file(path: str) -> None:
    """Check that a file is one: opening a fifo would wait forever, and some devices never end."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OptionsError(f"certificates in {path!r}: {reason}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_CERTIFICATES_BYTES:
        raise OptionsError(
            f"certificates in {path!r}: expected a file of certificates in PEM, found something else"
        )


def find_authorization(asked: str, job: Job[Any]) -> dict[str, str]:
    """Return the header field Authorization of a job, which is for the origin that it asks first.

    Args:
        asked: The URL that is requested, to which redirects may have led.
        job: What is wanted.
    """
    authorization = getattr(job, "authorization", None)
    if authorization is None or origin_of(asked) != origin_of(job.url):
        return {}
    return {"Authorization": authorization}


def select_headers(options: Options, asked: str, first: str) -> dict[str, str]:
    """Return the chosen header fields that a server may see: all or none; see `is_named`."""
    return dict(options.headers) if options.headers and is_named(options, asked, first) else {}
