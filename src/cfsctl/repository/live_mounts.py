"""Which images of a repository are mounted at this moment, by whomever and in whichever namespace.

What can be seen of a mount differs from way to way of mounting:

    EROFS from a file           the path of the file
    EROFS on a loop device      the path of the file behind the device
    overlay over EROFS          as above, if that EROFS is mounted somewhere by itself; by descriptor it
                                is not, and then mountinfo has only ``composefs:<what the user typed>`` and
                                the directories of objects. What was typed may be a ref that has moved since.

So an overlay is asked for what the kernel passes on from the image below: its number of blocks and of
inodes, and mode and mtime of its root. Every image of the repository that agrees in all four counts as
mounted: perhaps one too many, never one too few. Where even that is not to be had, because changes go to
an upper layer or the mount cannot be reached, every image may be the one.

Of a mount that was detached while in use nothing is listed, and of its root nothing can be asked; there
the numbers of blocks and inodes have to do.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import DigestFormatError, parse_object_id, parse_object_path
from cfsctl.errors import CfsError
from cfsctl.linux.mountinfo import Mount, find_mount_id, iter_mounts, iter_unlisted, split_options
from cfsctl.linux.syscalls import RESOLVE_IN_ROOT, file_system_type, openat2

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.linux.mountinfo import OpenDirectory
    from cfsctl.repository.objects import ObjectStore

_EROFS: Final = b"erofs"
_OVERLAY: Final = b"overlay"
_LABEL: Final = "composefs:"
_EROFS_MAGIC: Final = 0xE0F5E1E2
_OVERLAY_MAGIC: Final = 0x794C7630
"""Types of file systems to statfs(2), from linux/magic.h."""
_DETACHED: Final = "(detached)"
_ANY_NUMBER: Final = (1 << 64) - 1
"""The most files that there could be, as an EROFS has it."""


class LiveMount(NamedTuple):
    """A mount that uses the repository, or may do so.

    Attributes:
        mountpoint: Where it is, in its namespace; ``(detached)`` if nowhere.
        pid: A process of that namespace, or one that uses the detached mount.
        image_ids: The images that it may be of; empty if it is of none that is known, so that its files may
            be any objects.
        is_certain: Whether the kernel tells which image it is.
    """

    mountpoint: str
    pid: int
    image_ids: tuple[ObjectID, ...]
    is_certain: bool

    @property
    def where(self) -> str:
        """The mount point, with a process of its namespace if that is another one."""
        if self.mountpoint == _DETACHED:
            return f"{_DETACHED}, in use by process {self.pid}"
        here = os.stat("/proc/self/ns/mnt").st_ino
        try:
            is_here = os.stat(f"/proc/{self.pid}/ns/mnt").st_ino == here
        except OSError:
            is_here = False
        return self.mountpoint if is_here else f"{self.mountpoint} (as process {self.pid} sees it)"


class _Traits(NamedTuple):
    """What a mounted image shows of itself."""

    blocks: int
    inodes: int
    mode: int
    mtime_s: int


def find_live_mounts(store: ObjectStore, image_ids: Collection[ObjectID]) -> list[LiveMount]:
    """Return all mounts that can be seen and that need objects of a repository.

    Args:
        store: The repository's objects.
        image_ids: All images of the repository.
    """
    first = _look_around(store, image_ids)
    if all(live.is_certain for live in first.values()):
        found = first
    else:
        # A mount that came or went while it was looked at shows little of itself, and would keep everything.
        again = _look_around(store, image_ids)
        found = {device: live for device, live in again.items() if device in first}
    return sorted(found.values(), key=lambda live: live.mountpoint)


def _look_around(store: ObjectStore, image_ids: Collection[ObjectID]) -> dict[int, LiveMount]:
    """Return what is mounted at this moment, by device number."""
    found: dict[int, list[Mount]] = {}
    listed: set[int] = set()
    for mount in iter_mounts():
        listed.add(mount.device)
        if mount.kind in (_EROFS, _OVERLAY):
            found.setdefault(mount.device, []).append(mount)
    detached = list(iter_unlisted(listed))
    if not found and not detached:
        return {}
    try:
        finder = _Finder(store, image_ids)
    except FileNotFoundError:  # no objects, so nothing is mounted from here
        return {}
    results = {device: finder.find(views) for device, views in found.items()}
    results |= {directory.device: finder.find_detached(directory) for directory in detached}
    return {device: live for device, live in results.items() if live is not None}


class _Finder:
    """Compares mounts with the images of one repository."""

    def __init__(self, store: ObjectStore, image_ids: Collection[ObjectID]) -> None:
        self._store = store
        self._objects = _identity(os.fstat(store.objects_fd()))
        self._files: dict[tuple[int, int], ObjectID] = {}
        for image_id in image_ids:
            status = store.stat(image_id)
            if status is not None:
                self._files[_identity(status)] = image_id
        self._traits: dict[ObjectID, _Traits | None] = {}

    def find(self, views: list[Mount]) -> LiveMount | None:
        """Return what is known about one file system, given all its mounts; None if it is not ours."""
        first = views[0]
        if first.kind == _EROFS:
            exact = self._find_by_file(views)
            is_ours: bool | None = None
        else:
            is_ours = self._uses_objects(views)
            if is_ours is False:
                return None
            exact = self._find_by_label(first)
        mountpoint = os.fsdecode(first.mountpoint)
        if exact is not None:
            return LiveMount(mountpoint, first.pid, (exact,), is_certain=True)
        traits = _find_traits(views)
        if traits is not None:
            alike = tuple(sorted(image_id for image_id in self._files.values() if self._is(image_id, traits)))
            if alike or is_ours:
                return LiveMount(mountpoint, first.pid, alike, is_certain=False)
            return None
        if is_ours or _hides_its_image(first):
            return LiveMount(mountpoint, first.pid, tuple(sorted(self._files.values())), is_certain=False)
        return None

    def find_detached(self, directory: OpenDirectory) -> LiveMount | None:
        """Return what is known about a file system of which only a directory that is open can be seen."""
        try:
            fd = os.open(directory.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # closed meanwhile
            return None
        try:
            if os.fstat(fd).st_dev != directory.device:
                return None
            kind, sizes = file_system_type(fd), _ask_sizes(fd)
        except OSError:
            return None
        finally:
            os.close(fd)
        if kind not in (_EROFS_MAGIC, _OVERLAY_MAGIC):
            return None
        alike = [image_id for image_id in self._files.values() if self._has(image_id, *_count(sizes))]
        if kind == _OVERLAY_MAGIC and not alike and sizes.f_files & _ANY_NUMBER != _ANY_NUMBER:
            # The numbers are those of an upper layer.
            alike = list(self._files.values())
        return LiveMount(_DETACHED, directory.pid, tuple(sorted(alike)), is_certain=False) if alike else None

    # EROFS

    def _find_by_file(self, views: list[Mount]) -> ObjectID | None:
        """Return the image that is the file behind an EROFS, directly or through a loop device."""
        for mount in views:
            source = _loop_file(mount.device) or mount.source
            if not source.startswith(b"/") or source.startswith(b"/proc/"):
                continue
            found = self._find_object(source)
            if found is not None:
                return found
            identity = _look(mount, source)
            if identity in self._files:
                return self._files[identity]
        return None

    def _find_object(self, path: bytes) -> ObjectID | None:
        """Return the object of this repository that a path is named like; the path need not lead there."""
        text = os.fsdecode(path.removesuffix(b" (deleted)"))
        try:
            object_id = parse_object_path(text, self._store.algorithm)
        except DigestFormatError:
            return None
        # Whatever repository the path is of: content is what counts, and a copy too many does no harm.
        return object_id if self._store.contains(object_id) else None

    # overlayfs

    def _uses_objects(self, views: list[Mount]) -> bool | None:
        """Return whether our objects are among the data layers of an overlay; None if that cannot be told.

        An overlay without data layers uses nobody's objects.
        """
        layers = list(_iter_data_layers(views[0].options))
        if not layers:
            return False
        is_unknown = False
        for layer in layers:
            if not layer.startswith(b"/") or layer.startswith(b"/proc/"):
                is_unknown = True  # relative to what was, or a descriptor of whoever mounted it
                continue
            found = [identity for mount in views if (identity := _look(mount, layer)) is not None]
            if self._objects in found:
                return True
            is_unknown |= not found
        return None if is_unknown else False

    def _find_by_label(self, mount: Mount) -> ObjectID | None:
        """Return the image if it was mounted by its ID, which then is in the source."""
        text = _label(mount).removeprefix(_LABEL)
        try:
            object_id = parse_object_id(text.rpartition(":")[2], self._store.algorithm)
        except DigestFormatError:
            return None
        return object_id if self._store.contains(object_id) else None

    # Images

    def _is(self, image_id: ObjectID, traits: _Traits) -> bool:
        return self._find_traits_of(image_id) == traits

    def _has(self, image_id: ObjectID, blocks: int, inodes: int) -> bool:
        traits = self._find_traits_of(image_id)
        return traits is not None and (traits.blocks, traits.inodes) == (blocks, inodes)

    def _find_traits_of(self, image_id: ObjectID) -> _Traits | None:
        if image_id not in self._traits:
            self._traits[image_id] = self._read_traits(image_id)
        return self._traits[image_id]

    def _read_traits(self, image_id: ObjectID) -> _Traits | None:
        """Return what an image would show of itself; None if it cannot be read, and so not be mounted."""
        from cfsctl.erofs.image import Image  # noqa: PLC0415 - only where something is mounted
        from cfsctl.repository.images import map_file  # noqa: PLC0415 - the same

        try:
            fd = self._store.open(image_id)
            try:
                with map_file(fd) as data:
                    image = Image(data)
                    root = image.root()
                    blocks = len(data) // 4096
                    return _Traits(blocks, image.superblock.inode_count, root.mode, root.mtime_s)
            finally:
                os.close(fd)
        except (CfsError, OSError):
            return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _hides_its_image(mount: Mount) -> bool:
    """Return whether a mount looks like one of composefs that was made by descriptor."""
    if mount.kind == _EROFS:
        return mount.source.startswith(b"/proc/")
    return _label(mount).startswith(_LABEL)


def _label(mount: Mount) -> str:
    return os.fsdecode(mount.source)


def _look(mount: Mount, path: bytes) -> tuple[int, int] | None:
    """Return what a path leads to for whoever sees a mount, or None."""
    opened: list[int] = []
    try:
        opened.append(os.open(f"/proc/{mount.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        opened.append(openat2(opened[0], path, os.O_PATH, resolve=RESOLVE_IN_ROOT))
        return _identity(os.fstat(opened[1]))
    except OSError:
        return None
    finally:
        for fd in opened:
            os.close(fd)


def _loop_file(device: int) -> bytes | None:
    """Return the file behind a loop device, as the kernel knows its path; None for another device."""
    try:
        path = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/backing_file"
        with open(path, "rb") as stream:
            return stream.read(1 << 16).removesuffix(b"\n")
    except OSError:
        return None


def _iter_data_layers(options: bytes) -> Iterator[bytes]:
    r"""Yield the paths of the layers that hold nothing but content.

    ``datadir+`` names one each; in ``lowerdir`` they stand behind ``::``, with ``\:`` for a colon in a path.
    """
    for name, value in split_options(options):
        if name == b"datadir+":
            yield value
        elif name == b"lowerdir":
            parts = value.replace(b"\\:", b"\0").split(b"::")
            yield from (part.replace(b"\0", b":") for part in parts[1:])


def _find_traits(views: list[Mount]) -> _Traits | None:
    """Return what a mounted image shows of itself through the first mount that can be reached."""
    if any(name == b"upperdir" for name, _ in split_options(views[0].options)):
        return None  # what is shown is that of the upper layer
    for mount in views:
        with contextlib.suppress(OSError):
            fd = os.open(mount.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if find_mount_id(fd) == mount.mount_id:  # and not something that covers it
                    return _measure(fd)
            finally:
                os.close(fd)
    return None


def _measure(fd: int) -> _Traits:
    root = os.fstat(fd)
    return _Traits(*_count(_ask_sizes(fd)), stat.S_IMODE(root.st_mode), root.st_mtime_ns // 10**9)


def _ask_sizes(fd: int) -> os.statvfs_result:
    return os.statvfs(b"/proc/self/fd/%d" % fd)


def _count(sizes: os.statvfs_result) -> tuple[int, int]:
    """Return the numbers of blocks and of inodes of an EROFS, given its sizes."""
    # The kernel gives the most that there could be, and that less the inodes there are, as free ones.
    return sizes.f_blocks, (sizes.f_files - sizes.f_ffree) & _ANY_NUMBER
