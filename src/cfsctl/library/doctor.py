"""Examining the machine: what works here, what is missing, and how to fix it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, describe
from cfsctl.library import kernel_features as kernel
from cfsctl.library.findings import Finding, FindingState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.library.paths import StrPath

_LOW_SPACE_BYTES: Final = 1 << 30

_PACKAGES: Final = {
    "libcurl": ("pycurl", "downloads use requests, which is slower", "install pycurl, or cfsctl[fast]"),
    "ISA-L": ("isal", "inflating uses zlib, which is slower", "install isal, or cfsctl[fast]"),
    "PCRE2": (
        "pcre2",
        "a few expressions in SELinux policies are refused (--bootable)",
        "install pcre2, or cfsctl[pcre2]",
    ),
}
"""Optional packages: what imports them, what happens without, and what to do."""

_PROGRAMS: Final = {
    "gpgv": ("verifies GPG signatures (--gpg-key)", "install the package gpgv"),
    "skopeo": ("pulls from Docker daemons (docker-daemon:)", "install the package skopeo"),
}
"""Programs that are started: what for, and what to do."""


def examine_machine(repository: StrPath) -> Iterator[Finding]:
    """Examine the machine, and a repository or the place for one; yield the findings.

    Nothing is changed, and nothing that is missing is an error.
    """
    path = os.fspath(repository)
    yield _examine_python()
    yield from iter_kernel_findings()
    yield _examine_user()
    place = _find_place(path)
    yield kernel.examine_verity(place)
    yield kernel.examine_fuse()._replace(is_needed=False)
    yield _examine_repository(path)
    yield _examine_space(place)
    yield _examine_lanes()
    yield from _examine_packages()
    yield from _examine_programs()


def iter_kernel_findings() -> Iterator[Finding]:
    """Look at the kernel only."""
    yield kernel.examine_kernel()
    yield kernel.examine_erofs()
    yield kernel.examine_overlayfs()


def _examine_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", FindingState.OK, f"{sys.implementation.name} {version} at {sys.executable}")


def _examine_user() -> Finding:
    if os.geteuid() == 0:
        return Finding(
            "mounting", FindingState.OK, "this user is root, who may mount unless a container forbids it"
        )
    return Finding(
        "mounting", FindingState.OK, "this user is not root, so mount serves images by FUSE (see below)"
    )


def _find_place(path: str) -> str:
    """Return the directory, or the nearest one above it that exists."""
    place = os.path.abspath(path)
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    return place


def _examine_repository(path: str) -> Finding:
    from cfsctl.repository import NotARepositoryError, read_config

    try:
        config = read_config(path, may_infer=False)
    except NotARepositoryError:
        advice = f"create one with 'cfsctl init {path}', or name another one with --repo"
        return Finding("repository", FindingState.MISSING, f"there is none at {path}", advice)
    except (CfsError, OSError) as error:
        hint = getattr(error, "hint", None)
        return Finding("repository", FindingState.UNKNOWN, f"{path}: {describe(error)}", hint)
    formats = ", ".join(str(version.value) for version in config.image_formats)
    return Finding(
        "repository", FindingState.OK, f"{path}: {config.algorithm.hash_name}, images of format {formats}"
    )


def _examine_space(place: str) -> Finding:
    try:
        status = os.statvfs(place)
    except OSError as error:
        return Finding("space", FindingState.UNKNOWN, f"{place}: {error.strerror}")
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    text = f"{_format_size(free)} of {_format_size(total)} are free at {place}"
    if status.f_flag & os.ST_RDONLY:
        return Finding(
            "space", FindingState.MISSING, f"{place} is read-only", "remount it, or use another place"
        )
    if free < _LOW_SPACE_BYTES:
        return Finding("space", FindingState.MISSING, text, "make room: cfsctl gc, or a larger file system")
    return Finding("space", FindingState.OK, text)


def _format_size(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _examine_lanes() -> Finding:
    from cfsctl.fsverity.lanes import describe_lanes

    ways = describe_lanes()
    if ways is None:
        return Finding(
            "hashing",
            FindingState.MISSING,
            "OpenSSL, one block after the other; the extension is not installed",
            "install with a C compiler at hand, or the Debian package, to hash two to three times as fast",
            is_needed=False,
        )
    text = ", ".join(f"{hash_name} with {way}" for hash_name, way in ways.items())
    return Finding("hashing", FindingState.OK, text, is_needed=False)


def _examine_packages() -> Iterator[Finding]:
    for name, (module, without, advice) in _PACKAGES.items():
        version = find_version(module)
        if version is None:
            yield Finding(name, FindingState.MISSING, f"not installed: {without}", advice, is_needed=False)
        else:
            yield Finding(name, FindingState.OK, version, is_needed=False)


def find_version(module: str) -> str | None:
    """Return the version of an optional package, or None if it cannot be used; one of those above."""
    try:
        if module == "pycurl":
            import pycurl  # optional

            return str(pycurl.version)
        if module == "pcre2":
            import pcre2  # optional

            return f"PCRE2 {pcre2.__libpcre2_version__} (pcre2 {pcre2.__version__})"
        import isal  # optional
    except ImportError:
        return None
    return f"ISA-L {isal.ISAL_VERSION} (isal {isal.__version__})"


def _examine_programs() -> Iterator[Finding]:
    for name, (use, advice) in _PROGRAMS.items():
        path = shutil.which(name)
        if path is None:
            yield Finding(name, FindingState.MISSING, f"not installed; it {use}", advice, is_needed=False)
        else:
            yield Finding(name, FindingState.OK, f"{path}; it {use}", is_needed=False)
