"""Images that this machine boots: named on the kernel's command line, or by boot entries.

    /proc/cmdline                     of the running system
    loader/entries/*.conf             entries of type 1, below each directory for boot files
    EFI/Linux/**/*.efi                unified kernel images, the same

What cannot be read, or is malformed, names nothing and is reported: who asks wants to keep what is in use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.boot.bls import MAX_ENTRY_BYTES, BootLoaderEntry
from cfsctl.boot.cmdline import KernelArgumentError, iter_arguments
from cfsctl.boot.uki import UkiError, read_cmdline
from cfsctl.errors import CfsError, describe
from cfsctl.linux.files import open_regular, read_all
from cfsctl.repository.names.images import map_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.digest import ObjectID

BOOT_DIRECTORIES: Final = ("/boot", "/efi", "/boot/efi")
"""Where boot files are."""

RUNNING: Final = "/proc/cmdline"
_MAX_FILES: Final = 10_000
"""Files that are looked at below a directory; a boot partition has some tens."""


def find_deployed(
    directories: Iterable[str] = BOOT_DIRECTORIES,
    *,
    running: str | None = RUNNING,
    note: Callable[[str], object] = lambda _: None,
) -> dict[ObjectID, str]:
    """Return the images that are booted, or can be, each with the file that names it.

    Args:
        directories: Where boot files are; those that do not exist are skipped.
        running: File with the command line of the running kernel, or None.
        note: Called with a sentence about each file that cannot be read.
    """
    found: dict[ObjectID, str] = {}
    for path, lines in _iter_cmdlines(directories, running, note):
        for line in lines:
            try:
                for argument in iter_arguments(line):
                    found.setdefault(argument.object_id, path)
            except KernelArgumentError as error:
                note(f"{path}: {error}")
    return found


def _iter_cmdlines(
    directories: Iterable[str], running: str | None, note: Callable[[str], object]
) -> Iterator[tuple[str, list[str]]]:
    if running is not None:
        yield from _read(running, _read_running, note)
    for directory in directories:
        for path in _iter_files(os.path.join(directory, "loader", "entries"), ".conf"):
            yield from _read(path, _read_entry, note)
        for path in _iter_files(os.path.join(directory, "EFI", "Linux"), ".efi"):
            yield from _read(path, _read_uki, note)


def _read_running(fd: int) -> list[str]:
    return [read_all(fd, MAX_ENTRY_BYTES).decode(errors="replace")]


def _read_entry(fd: int) -> list[str]:
    return BootLoaderEntry.parse(read_all(fd, MAX_ENTRY_BYTES)).values("options")


def _read_uki(fd: int) -> list[str]:
    try:
        with map_file(fd) as data, memoryview(data) as view:  # of a large file, some pages are needed
            return [read_cmdline(view)]
    except UkiError:
        return []  # a boot loader, or a kernel without a command line of its own


def _read(
    path: str, read: Callable[[int], list[str]], note: Callable[[str], object]
) -> Iterator[tuple[str, list[str]]]:
    try:
        fd = open_regular(-100, path)
        try:
            lines = read(fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return
    except (CfsError, OSError) as error:
        note(f"{path}: {describe(error)}")
        return
    yield path, lines


def _iter_files(directory: str, suffix: str) -> Iterator[str]:
    """Yield the files below a directory whose names end so, sorted; links are not followed."""
    count = 0
    for base, directories, files in os.walk(directory):
        directories.sort()
        for name in sorted(files):
            count += 1
            if count > _MAX_FILES:
                return
            if name.endswith(suffix):
                yield os.path.join(base, name)
