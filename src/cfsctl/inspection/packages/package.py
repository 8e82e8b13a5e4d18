"""What is known about an installed package."""

from __future__ import annotations

from typing import Final, NamedTuple

from cfsctl.errors import FormatError

MAX_PACKAGES: Final = 100_000
"""Packages of one tree; all of Debian has some 70,000."""

MAX_FIELD_BYTES: Final = 1024
"""Bytes of a name or a version."""


class PackageDatabaseError(FormatError):
    """A database of packages that cannot be read as one."""


class Package(NamedTuple):
    """An installed package.

    Attributes:
        name: Its name.
        architecture: What it is for, or empty.
        version: Its version, with epoch and release.
        size_bytes: What it takes, as it says; or None.
    """

    name: str
    architecture: str
    version: str
    size_bytes: int | None


def to_text(value: bytes, what: str) -> str:
    """Return a name or a version as text; what is not UTF-8 stays visible as surrogates.

    Raises:
        PackageDatabaseError: It is too long.
    """
    if len(value) > MAX_FIELD_BYTES:
        raise PackageDatabaseError(f"{what}: expected at most {MAX_FIELD_BYTES} bytes, found {len(value)}")
    return value.decode("utf8", "surrogateescape")


def check_count(count: int) -> None:
    """Refuse more packages than any tree has.

    Raises:
        PackageDatabaseError: They are too many.
    """
    if count > MAX_PACKAGES:
        raise PackageDatabaseError(f"expected at most {MAX_PACKAGES} packages, found more")
