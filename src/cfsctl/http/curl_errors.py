"""Map libcurl's errors to the errors of this package."""

from __future__ import annotations

import errno
from typing import Any, Final

import pycurl

from cfsctl.http.errors import (
    NOT_TLS,
    ConnectFailedError,
    FetchTimeoutError,
    MalformedAnswerError,
    NotTLSError,
    ResumeError,
    TLSError,
    TransferError,
    TruncatedBodyError,
)

# Numbers of libcurl that not every version of pycurl names.
_E_WEIRD_SERVER_REPLY: Final = 8
_E_RANGE: Final = 33
_E_BAD_CONTENT_ENCODING: Final = 61
_E_HTTP2_STREAM: Final = 92
_E_TOO_LARGE: Final = 100

_ERROR_TYPES: Final[dict[int, type[TransferError]]] = {
    pycurl.E_UNSUPPORTED_PROTOCOL: MalformedAnswerError,  # of the answer: URLs are checked before
    pycurl.E_COULDNT_RESOLVE_PROXY: ConnectFailedError,
    pycurl.E_COULDNT_RESOLVE_HOST: ConnectFailedError,
    pycurl.E_COULDNT_CONNECT: ConnectFailedError,
    pycurl.E_HTTP2: ConnectFailedError,
    pycurl.E_PARTIAL_FILE: TruncatedBodyError,
    pycurl.E_OPERATION_TIMEDOUT: FetchTimeoutError,
    pycurl.E_GOT_NOTHING: ConnectFailedError,
    pycurl.E_SEND_ERROR: ConnectFailedError,
    pycurl.E_RECV_ERROR: ConnectFailedError,
    _E_HTTP2_STREAM: ConnectFailedError,
    _E_RANGE: ResumeError,
    _E_WEIRD_SERVER_REPLY: MalformedAnswerError,
    _E_BAD_CONTENT_ENCODING: MalformedAnswerError,
    _E_TOO_LARGE: MalformedAnswerError,
}
"""What libcurl's errors are to us; `TransferError` for those that are not here."""

_HINTS: Final = {
    pycurl.E_COULDNT_RESOLVE_HOST: "check the host name in the URL, and the network",
    pycurl.E_COULDNT_RESOLVE_PROXY: "check the host name in --proxy, http_proxy and https_proxy",
    pycurl.E_COULDNT_CONNECT: "check host and port of the URL, and that the server runs",
}

_WRONG_VERSION: Final = "wrong version number"
"""What OpenSSL makes of an answer in plain HTTP."""

_TLS_CODES: Final = frozenset({35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91})
"""CURLE_SSL_* and CURLE_PEER_FAILED_VERIFICATION."""


def translate(handle: Any, code: int, message: str, url: str) -> TransferError:  # noqa: ANN401 - pycurl is untyped
    """Return the error for a failed transfer.

    Args:
        handle: Where it ran.
        code: libcurl's CURLE_* number.
        message: What libcurl says about it.
        url: What was asked for.
    """
    if code in _TLS_CODES:
        if handle.getinfo(pycurl.OS_ERRNO) == errno.ECONNRESET:
            return ConnectFailedError(message, url)
        return NotTLSError(NOT_TLS, url) if _WRONG_VERSION in message else TLSError(message, url)
    hint = _HINTS.get(code)
    found = _ERROR_TYPES.get(code, TransferError)
    text = message or f"error {code} of libcurl"
    return found(text, url) if hint is None else found(text, url, hint=hint)
