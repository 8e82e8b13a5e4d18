"""Certificates for one registry: ``certs.d/HOST[:PORT]/``.

*.crt           authorities to trust as well
NAME.cert       our certificate
NAME.key        its key
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.oci.registry.files import RegistryConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Certificates(NamedTuple):
    """Files for one registry.

    Attributes:
        authorities: To be trusted as well.
        certificate: Our certificate, or None.
        key: Its key, or None.
    """

    authorities: tuple[str, ...] = ()
    certificate: str | None = None
    key: str | None = None


def find_certificates(directories: Iterable[str], host: str) -> Certificates:
    """Return what the first directory that knows a registry has for it.

    Args:
        directories: Directories like ``certs.d``.
        host: The registry.

    Raises:
        RegistryConfigError: There is a certificate without its key, or the reverse.
    """
    for directory in directories:
        try:
            return read_certificates(f"{directory}/{host}")
        except (FileNotFoundError, NotADirectoryError):
            continue
    return Certificates()


def read_certificates(place: str) -> Certificates:
    """Return what the directory of one registry has.

    Raises:
        RegistryConfigError: There is a certificate without its key, or the reverse.
        OSError: It cannot be read.
    """
    names = sorted(os.listdir(place))
    authorities = tuple(f"{place}/{name}" for name in names if name.endswith(".crt"))
    return Certificates(authorities, *_find_pair(place, names))


def _find_pair(place: str, names: list[str]) -> tuple[str | None, str | None]:
    found = set(names)
    pairs = [name.removesuffix(".cert") for name in names if name.endswith(".cert")]
    keys = [name.removesuffix(".key") for name in names if name.endswith(".key")]
    for name in keys:
        if name not in pairs:
            raise RegistryConfigError(f"{place}/{name}.key: missing {name}.cert beside it")
    for name in pairs:
        if f"{name}.key" not in found:
            raise RegistryConfigError(f"{place}/{name}.cert: missing {name}.key beside it")
        return f"{place}/{name}.cert", f"{place}/{name}.key"
    return None, None
