"""Which certificate authorities a server's certificate is checked against."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cfsctl.http.fetcher import Options

_SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # others
)


def find_ca_file(options: Options) -> str | None:
    """Return the file of trusted authorities: the chosen one, the system's, certifi's or None.

    Where more are to be trusted, it is a file in memory that has all of them.
    """
    if not options.more_authorities:
        return _find_base_file(options)
    return _join_files((_find_base_file(options), *options.more_authorities))


@functools.lru_cache(256)
def _join_files(paths: tuple[str | None, ...]) -> str:
    """Return the name of a file in memory with the content of others; it lasts as long as the process."""
    fd = os.memfd_create("authorities")
    for path in filter(None, paths):
        with open(path, "rb") as source:
            os.write(fd, source.read() + b"\n")
    return f"/proc/self/fd/{fd}"


def _find_base_file(options: Options) -> str | None:
    if options.ca_file is not None:
        return options.ca_file
    for path in _SYSTEM_CA_FILES:
        if os.path.exists(path):
            return path
    try:
        import certifi  # only on systems that have no bundle of their own
    except ImportError:
        return None
    return certifi.where()
