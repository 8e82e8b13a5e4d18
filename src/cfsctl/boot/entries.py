"""Boot entries that a tree contains: where they are, and what they need.

    type 1    /boot/loader/entries/*.conf
    type 2    /boot/EFI/Linux/**.efi, /boot/loader/addons/**.efi, /usr/lib/modules/KVER/**.efi
    kernel    /usr/lib/modules/KVER/vmlinuz, with initramfs.img
    aboot     /boot/aboot-KVER.img, with vbmeta-KVER.img

They are found in this order, and by names within each kind. Look for them before `cfsctl.boot.transform`
empties ``/boot``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from cfsctl.boot import aboot
from cfsctl.boot.bls import MAX_ENTRY_BYTES, BootLoaderEntry, EntryError
from cfsctl.boot.content import BootFileError, read_leaf
from cfsctl.errors import FormatError
from cfsctl.tree.lookup import TreePathError, find_node
from cfsctl.tree.model import Directory, ExternalFile, InlineFile, Leaf, SparseFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.boot.content import ContentReader
    from cfsctl.tree.model import FileSystem

MAX_KERNEL_BYTES: Final = 1 << 30
"""Largest unified kernel image that is read."""

MAX_ENTRIES: Final = 10_000
_MAX_DEPTH: Final = 64
"""Directories below those that unified kernel images are looked for in."""


@dataclass(frozen=True, slots=True)
class BootFile:
    """A file of the tree that an entry needs.

    Attributes:
        path: Absolute path in the tree, without symbolic links.
        node: The file.
    """

    path: bytes
    node: Leaf


@dataclass(frozen=True, slots=True)
class Type1Entry:
    """An entry in text form; `files` has every file by the value that names it."""

    name: str
    entry: BootLoaderEntry
    files: dict[str, BootFile]


class Type2Kind(Enum):
    """What a PE executable is to the boot loader."""

    UKI = "uki"
    ADDON = "addon"


@dataclass(frozen=True, slots=True)
class Type2Entry:
    """A unified kernel image or an addon.

    Attributes:
        path: Relative to the directory in which it was looked for.
        kernel_version: Of the directory below ``/usr/lib/modules``; None elsewhere.
        kind: Image or addon.
        file: The executable.
    """

    path: str
    kernel_version: str | None
    kind: Type2Kind
    file: BootFile


@dataclass(frozen=True, slots=True)
class KernelEntry:
    """A kernel below ``/usr/lib/modules``; `initramfs` and `os_release` are None if they are missing."""

    version: str
    kernel: BootFile
    initramfs: BootFile | None
    os_release: BootFile | None


@dataclass(frozen=True, slots=True)
class AbootPayload:
    """An Android boot image or a ukiboot payload."""

    version: str
    kind: aboot.PayloadKind
    payload: BootFile
    vbmeta: BootFile | None


BootEntry: TypeAlias = Type1Entry | Type2Entry | KernelEntry | AbootPayload


def find_boot_entries(filesystem: FileSystem, reader: ContentReader) -> list[BootEntry]:
    """Return every boot entry of a tree.

    Raises:
        FormatError: An entry, or a file that it names, is malformed or of the wrong kind.
        TreePathError: An entry names a missing file, or a part of a path is not a directory.
    """
    root = filesystem.root
    entries: list[BootEntry] = []
    entries += _find_type1(root, reader)
    entries += _find_type2(root)
    entries += _find_kernels(root)
    entries += _find_aboot(root, reader, entries)
    if len(entries) > MAX_ENTRIES:
        raise EntryError(f"{len(entries)} boot entries; expected {MAX_ENTRIES} at most")
    return entries


def find_directory(root: Directory, path: bytes) -> Directory | None:
    """Return a directory, or None if it is missing.

    Raises:
        TreePathError: Something else stands in its place.
    """
    found = find_node(root, path)
    if found is None:
        return None
    node, _ = found
    if not isinstance(node, Directory):
        raise TreePathError(f"{show(path)} is not a directory")
    return node


def _iter_sorted(directory: Directory | None) -> Iterator[tuple[bytes, Directory | Leaf]]:
    """Yield names and nodes in byte order of names; nothing for a directory that is missing."""
    if directory is not None:
        for name in sorted(directory.entries):
            yield name, directory.entries[name]


def show(path: bytes) -> str:
    """Return a path as text for messages."""
    return path.decode("utf-8", "backslashreplace")


def _check_regular(node: Directory | Leaf, path: bytes) -> Leaf:
    if isinstance(node, Directory):
        raise BootFileError(f"{show(path)} is a directory")
    if not isinstance(node, InlineFile | ExternalFile | SparseFile):
        raise BootFileError(f"{show(path)} is not a regular file")
    return node


def _name(name: bytes, what: str) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise EntryError(f"{what} {name!r}: the name is not valid UTF-8") from error


# --- type 1


def _find_type1(root: Directory, reader: ContentReader) -> Iterator[Type1Entry]:
    where = b"/boot/loader/entries"
    for name, node in _iter_sorted(find_directory(root, where)):
        if not name.endswith(b".conf"):
            continue
        path = where + b"/" + name
        content = read_leaf(_check_regular(node, path), path, reader, MAX_ENTRY_BYTES) or b""
        try:
            entry = BootLoaderEntry.parse(content)
            files = {value: _find_file(root, value) for value in entry.files()}
        except (FormatError, TreePathError) as error:
            raise type(error)(f"{show(path)}: {error}") from error
        yield Type1Entry(_name(name, "boot entry"), entry, files)


def _find_file(root: Directory, value: str) -> BootFile:
    """Return the file that a line of an entry names, below ``/boot`` or else from the root.

    The specification means paths on the boot partition, the original paths in the whole tree.
    """
    if not value:
        raise EntryError("a file is named by an empty value")
    if ".." in value.split("/"):
        raise EntryError(f"the path {value!r} contains '..'")
    path = value.encode()
    for start in (b"", b"/boot/"):
        found = find_node(root, start + path)
        if found is not None:
            node, real_path = found
            return BootFile(real_path, _check_regular(node, path))
    raise TreePathError(f"the file {value!r} does not exist")


# --- type 2


def _find_type2(root: Directory) -> Iterator[Type2Entry]:
    for where in (b"/boot/EFI/Linux", b"/boot/loader/addons"):
        directory = find_directory(root, where)
        if directory is not None:
            yield from _walk_executables(directory, where, None)
    for version, directory in _iter_modules(root):
        where = b"/usr/lib/modules/" + version.encode()
        yield from _walk_executables(directory, where, version)


def _walk_executables(
    directory: Directory, where: bytes, version: str | None, below: bytes = b""
) -> Iterator[Type2Entry]:
    for name, child in _iter_sorted(directory):
        path = below + name
        if isinstance(child, Directory):
            if path.count(b"/") < _MAX_DEPTH:
                yield from _walk_executables(child, where, version, path + b"/")
        elif name.endswith(b".efi"):
            full = where + b"/" + path
            kind = Type2Kind.ADDON if name.endswith(b".addon.efi") else Type2Kind.UKI
            file = BootFile(full, _check_regular(child, full))
            yield Type2Entry(_name(path, "boot entry"), version, kind, file)


# --- kernels


def _iter_modules(root: Directory) -> Iterator[tuple[str, Directory]]:
    """Yield the directories below ``/usr/lib/modules`` with the version of their kernel."""
    for name, node in _iter_sorted(find_directory(root, b"/usr/lib/modules")):
        if isinstance(node, Directory):
            yield _name(name, "kernel version"), node


def _find_kernels(root: Directory) -> Iterator[KernelEntry]:
    os_release = _find_optional(root, b"/usr/lib/os-release")
    for version, _ in _iter_modules(root):
        where = b"/usr/lib/modules/" + version.encode()
        kernel = _find_optional(root, where + b"/vmlinuz")
        if kernel is not None:
            yield KernelEntry(version, kernel, _find_optional(root, where + b"/initramfs.img"), os_release)


def _find_optional(root: Directory, path: bytes) -> BootFile | None:
    """Return a regular file, also through symbolic links; None if it is missing or of another kind."""
    try:
        found = find_node(root, path)
    except TreePathError:
        return None
    if found is None or not isinstance(found[0], InlineFile | ExternalFile | SparseFile):
        return None
    return BootFile(found[1], found[0])


# --- aboot payloads


def _find_aboot(root: Directory, reader: ContentReader, others: list[BootEntry]) -> list[AbootPayload]:
    boot = find_directory(root, b"/boot")
    if boot is None:
        return []
    payloads = [_read_payload(boot, name, reader) for name in _names(boot, b"aboot-")]
    versions = {payload.version.encode() for payload in payloads}
    for name in _names(boot, b"vbmeta-"):
        if name.removeprefix(b"vbmeta-").removesuffix(b".img") not in versions:
            raise EntryError(f'vbmeta image /boot/"{show(name)}" has no matching aboot payload')
    if len(payloads) > 1:
        raise EntryError("multiple aboot payloads found")
    is_alone = all(isinstance(other, Type2Entry) and other.kind is Type2Kind.ADDON for other in others)
    if payloads and not is_alone:
        raise EntryError("aboot payload cannot be combined with other boot artifacts")
    return payloads


def _names(boot: Directory, prefix: bytes) -> list[bytes]:
    return sorted(name for name in boot.entries if name.startswith(prefix) and name.endswith(b".img"))


def _read_payload(boot: Directory, name: bytes, reader: ContentReader) -> AbootPayload:
    version = name.removeprefix(b"aboot-").removesuffix(b".img")
    if not version:
        raise EntryError("aboot payload has no kernel version")
    node = boot.entries[name]
    if isinstance(node, Directory):
        raise BootFileError(f'/boot/"{show(name)}" is a directory')
    if not isinstance(node, InlineFile | ExternalFile | SparseFile):
        raise BootFileError(f'/boot/"{show(name)}" is not a regular file')
    text, path = _name(version, "aboot payload"), b"/boot/" + name
    vbmeta_name = b"vbmeta-" + version + b".img"
    vbmeta = boot.entries.get(vbmeta_name)
    if isinstance(vbmeta, Directory):
        raise BootFileError(f'Directory entry "{show(vbmeta_name)}" is a directory')
    if vbmeta is not None:
        _check_regular(vbmeta, b"/boot/" + vbmeta_name)
    content = read_leaf(node, path, reader, MAX_KERNEL_BYTES) or b""
    try:
        kind = aboot.identify(content)
    except FormatError as error:
        raise EntryError(f'Identifying aboot payload "{show(path)}": {error}') from error
    if kind is aboot.PayloadKind.UKI and vbmeta is not None:
        raise EntryError(f'ukiboot payload "{show(path)}" must not have a vbmeta image')
    attached = None if vbmeta is None else BootFile(b"/boot/" + vbmeta_name, vbmeta)
    return AbootPayload(text, kind, BootFile(path, node), attached)
