"""Choosing the boot entry that is installed."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from cfsctl.boot.entries import (
    AbootPayload,
    KernelEntry,
    Type1Entry,
    Type2Entry,
    Type2Kind,
)
from cfsctl.boot.versions import version_key
from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.boot.entries import BootEntry

NEWEST: Final = "newest"
"""In place of a name: the entry with the newest version."""

_MAX_LISTED: Final = 20


class BootRules(Enum):
    """How entries are chosen and written."""

    ORIGINAL = "original"
    """As composefs-rs does: the first entry by name, with its texts."""

    CFSCTL = "cfsctl"
    """The newest entry, arguments compared by whole keys, titles from os-release, names of their own for
    each image, addons installed."""


class NoEntryError(CfsError):
    """A tree without the boot entry that was asked for, or without any."""

    exit_code = ExitCode.NOT_FOUND


def kind_of(entry: BootEntry) -> str:
    """Return what kind of entry this is, in one word."""
    match entry:
        case Type1Entry():
            return "type1"
        case Type2Entry(kind=kind):
            return kind.value
        case KernelEntry():
            return "kernel"
        case AbootPayload():
            return "aboot"


def name_of(entry: BootEntry) -> str:
    """Return the name by which users choose an entry."""
    match entry:
        case Type1Entry(name=name):
            return name.removesuffix(".conf")
        case Type2Entry(path=path):
            return path.removesuffix(".efi")
        case KernelEntry(version=version) | AbootPayload(version=version):
            return version


def describe(entry: BootEntry) -> str:
    """Return kind and name of an entry, for example ``kernel:6.1.0``."""
    return f"{kind_of(entry)}:{name_of(entry)}"


def version_of(entry: BootEntry) -> str:
    """Return the version that an entry has, or else its name."""
    if isinstance(entry, Type1Entry):
        return next(iter(entry.entry.values("version")), name_of(entry))
    if isinstance(entry, Type2Entry) and entry.kernel_version is not None:
        return entry.kernel_version
    return name_of(entry)


def is_bootable(entry: BootEntry) -> bool:
    """Return whether an entry boots by itself; addons do not."""
    return not (isinstance(entry, Type2Entry) and entry.kind is Type2Kind.ADDON)


def find_newest(entries: Sequence[BootEntry]) -> BootEntry | None:
    """Return the entry with the newest version, the first of several; None if none can be booted."""
    bootable = [entry for entry in entries if is_bootable(entry)]
    return max(bootable, key=lambda entry: version_key(version_of(entry)), default=None)


def choose_entry(entries: Sequence[BootEntry], wanted: str | None, rules: BootRules) -> BootEntry:
    """Return the entry to install.

    Args:
        entries: The entries of a tree, in their order.
        wanted: A name, a kind and a name with a colon between them, `NEWEST`, or None for the rules'.
        rules: Which one that is: the first, or the newest.

    Raises:
        NoEntryError: There is no such entry, more than one, or none at all.
    """
    bootable = [entry for entry in entries if is_bootable(entry)]
    if not bootable:
        raise NoEntryError(
            "No boot entries!",
            hint="an image needs a kernel in /usr/lib/modules/VERSION/vmlinuz; or, unless --bootable has"
            " emptied /boot, a unified kernel image in /boot/EFI/Linux, or an entry in /boot/loader/entries",
        )
    if wanted is None and rules is BootRules.ORIGINAL:
        return bootable[0]
    if wanted is None or wanted == NEWEST:
        newest = find_newest(bootable)
        assert newest is not None
        return newest
    found = [entry for entry in bootable if wanted in _names(entry)]
    if len(found) == 1:
        return found[0]
    problem = "more than one boot entry has" if found else "no boot entry has"
    listed = ", ".join(map(describe, (found or bootable)[:_MAX_LISTED]))
    raise NoEntryError(f"{problem} the name {wanted!r}", hint=f"choose one of {listed}")


def _names(entry: BootEntry) -> set[str]:
    name = name_of(entry)
    names = {name, f"{kind_of(entry)}:{name}"}
    if isinstance(entry, Type1Entry):
        names.add(entry.name)
    if isinstance(entry, Type2Entry):
        names |= {entry.path, entry.path.rpartition("/")[2]}
    return names
