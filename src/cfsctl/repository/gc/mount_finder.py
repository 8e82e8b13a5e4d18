"""Compares what is mounted with the images of one repository; see `cfsctl.repository.gc.live_mounts`."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import DigestFormatError, parse_object_id, parse_object_path
from cfsctl.errors import CfsError
from cfsctl.linux.mountinfo import find_mount_id, is_trusted_process
from cfsctl.linux.overlay_layers import parse_layers
from cfsctl.linux.sizes import ask_sizes
from cfsctl.linux.syscalls import open_cached, stat_cached

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.linux.mountinfo import Mount, OpenDirectory
    from cfsctl.linux.overlay_layers import Layers
    from cfsctl.linux.sizes import Sizes
    from cfsctl.linux.syscalls import CachedStatus
    from cfsctl.repository.objects.store import ObjectStore

EROFS: Final = b"erofs"
OVERLAY: Final = b"overlay"
_LABEL: Final = "composefs:"
_EROFS_MAGIC: Final = 0xE0F5E1E2
_OVERLAY_MAGIC: Final = 0x794C7630
"""Types of file systems to statfs(2), from linux/magic.h."""
DETACHED: Final = "(detached)"
_ANY_NUMBER: Final = (1 << 64) - 1
"""The most files that there could be, as an EROFS has it."""
_MAX_DEPTH: Final = 4096
"""Directories above an open one that are gone through; a path has no more."""


class LiveMount(NamedTuple):
    """A mount that uses the repository, or may do so.

    Attributes:
        mountpoint: Where it is, in its namespace; ``(detached)`` if nowhere.
        process: A process of that namespace, or one that uses the detached mount; ``self`` for this one.
        image_ids: The images that it may belong to; empty if it is an unknown image, whose files may
            be any objects.
        is_certain: Whether the kernel tells which image it is.
        kind: ``kernel``, or ``fuse`` for one that a process serves.
    """

    mountpoint: str
    process: str
    image_ids: tuple[ObjectID, ...]
    is_certain: bool
    kind: str = "kernel"

    @property
    def where(self) -> str:
        """The mount point, with a process of its namespace if that is another one."""
        if self.mountpoint == DETACHED:
            return f"{DETACHED}, in use by process {self.process}"
        try:
            is_here = os.readlink(f"/proc/{self.process}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
        except OSError:
            is_here = False
        return self.mountpoint if is_here else f"{self.mountpoint} (as process {self.process} sees it)"


class _Traits(NamedTuple):
    """What an image shows of itself when it is mounted."""

    mode: int
    mtime_s: int
    blocks: int
    inodes: int


class MountFinder:
    """Compares mounts with the images of one repository."""

    def __init__(
        self, store: ObjectStore, image_ids: Collection[ObjectID], mounts: Collection[Mount]
    ) -> None:
        """Query the files of the images.

        Args:
            store: The repository's objects, of which there is a directory.
            image_ids: All images of the repository.
            mounts: All mounts that are listed.
        """
        self._store = store
        self._devices = {mount.mount_id: mount.device for mount in mounts}
        self._erofs_ids = {mount.mount_id for mount in mounts if mount.kind == EROFS}
        objects = store.objects_fd()
        status = os.fstat(objects)
        self._objects = status.st_dev, status.st_ino
        self._device = self._devices.get(find_mount_id(objects) or -1)
        self._files: dict[tuple[int, int], ObjectID] = {}
        for image_id in image_ids:
            file = store.stat(image_id)
            if file is not None:
                self._files[file.st_dev, file.st_ino] = image_id
        self._traits: dict[ObjectID, _Traits | None] = {}

    @property
    def _all_images(self) -> tuple[ObjectID, ...]:
        return tuple(sorted(self._files.values()))

    def find(self, views: list[Mount]) -> LiveMount | None:
        """Return what is known about one file system, given all its mounts; None if it is not ours."""
        first = views[0]
        layers = None if first.kind == EROFS else parse_layers(first.options)
        if layers is None:
            is_ours, exact = None, self._find_by_file(views)
        else:
            is_ours = self._uses_objects(views, layers)
            if is_ours is False:
                return None
            exact = self._find_by_label(first)
        mountpoint = os.fsdecode(first.mountpoint)
        if exact is not None:
            return LiveMount(mountpoint, first.process, (exact,), is_certain=True)
        alike = None if layers is not None and layers.has_upper else self._find_alike(views)
        if alike is None and (is_ours or _hides_its_image(first)):
            return LiveMount(mountpoint, first.process, self._all_images, is_certain=False)
        if alike or (alike is not None and is_ours):
            return LiveMount(mountpoint, first.process, tuple(sorted(alike)), is_certain=False)
        return None

    def accounts_for_erofs(self, views: list[Mount]) -> bool:
        """Return whether a listed file system is an EROFS, or has one below that no table lists.

        Only a privileged user can mount either, so other users cannot increase this count.
        """
        first = views[0]
        if first.kind == EROFS:
            return True
        layers = parse_layers(first.options)
        if not (layers.is_privileged and layers.data and layers.lower):
            return False
        image = layers.lower[0]
        # By descriptor it shows as a root directory, or with its name in the process that mounted it.
        if image == b"/" or image.startswith(b"/proc/"):
            return True
        # Mounted by path and since unmounted; if it is still mounted, it is listed separately.
        return all(self._open_listed(mount, image) is None for mount in views)

    def find_device(self, fd: int) -> int:
        """Return the number that tells the file system of an open directory from others; -1 if none does."""
        try:
            return stat_cached(fd).device
        except OSError:
            return -1

    def find_detached(self, directory: OpenDirectory) -> LiveMount | None:
        """Return what is known about a file system of which only a directory that is open can be seen."""
        try:
            found = self._find_alike_detached(directory)
        except OSError:
            found = list(self._files.values())
        if not found:
            return None
        return LiveMount(DETACHED, str(directory.pid), tuple(sorted(found)), is_certain=False)

    def _find_alike_detached(self, directory: OpenDirectory) -> list[ObjectID]:
        """Return the images that a detached mount may be of.

        Raises:
            OSError: It cannot be looked at, or not without asking it.
        """
        alike = self._look_alike(_find_root(directory.fd))
        if not is_trusted_process(directory.pid):
            # The user who serves it controls its answers, so it is not asked. Not to be like an image means
            # nothing either: what is shown may be that of an upper layer.
            return alike or list(self._files.values())
        sizes = ask_sizes(directory.fd)
        if sizes.kind == _OVERLAY_MAGIC and sizes.files != _ANY_NUMBER:
            return list(self._files.values())  # the numbers are those of an upper layer
        is_image = sizes.kind in {_EROFS_MAGIC, _OVERLAY_MAGIC}
        return self._keep_alike(alike, sizes) if is_image else []

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
            identity = self._identify(mount, source)
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
        # The path may belong to any repository: the content matters, and keeping one image too many is
        # harmless.
        return object_id if self._store.contains(object_id) else None

    # overlayfs

    def _uses_objects(self, views: list[Mount], layers: Layers) -> bool | None:
        """Return whether our objects are among the layers of an overlay; None if that cannot be told.

        An overlay without data-only layers uses no objects, nor does one that an unprivileged user could
        make.
        """
        # Kernels before 6.5 have no layers of content; there the objects are one below the image.
        candidates = layers.data or layers.lower[1:]
        if not layers.is_privileged or not candidates:
            return False
        is_unknown = False
        for layer in candidates:
            if not layer.startswith(b"/") or layer.startswith(b"/proc/"):
                is_unknown = (
                    True  # relative to another directory, or a descriptor of the process that mounted it
                )
                continue
            found = [identity for mount in views if (identity := self._identify(mount, layer)) is not None]
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

    # Places

    def _identify(self, mount: Mount, path: bytes) -> tuple[int, int] | None:
        """Return the file that a path leads to in the namespace of a mount; None if unknown.

        A file on another file system than the objects is not accessed: it cannot be one of them.
        """
        try:
            with _opened(mount, path) as fd:
                mount_id = find_mount_id(fd)
                if mount_id is None or self._device is None or mount_id not in self._devices:
                    return None
                if self._devices[mount_id] != self._device:
                    return (-1, -1)
                status = stat_cached(fd)
                return status.device, status.inode
        except OSError:
            return None

    def _open_listed(self, mount: Mount, path: bytes) -> int | None:
        """Return the number of the listed mount that a path leads to in the namespace of a mount, or None."""
        try:
            with _opened(mount, path) as fd:
                mount_id = find_mount_id(fd)
                return mount_id if mount_id in self._devices else None
        except OSError:
            return None

    # Images

    def _find_alike(self, views: list[Mount]) -> list[ObjectID] | None:
        """Return the images that look like what is mounted; None if no mount of it can be reached."""
        for mount in views:
            with contextlib.suppress(OSError), _opened(mount, mount.mountpoint) as fd:
                if find_mount_id(fd) == mount.mount_id:  # and not something that covers it
                    return self._compare(fd)
        return None

    def _compare(self, fd: int) -> list[ObjectID]:
        alike = self._look_alike(stat_cached(fd))
        return self._keep_alike(alike, ask_sizes(fd)) if alike else []

    def _look_alike(self, root: CachedStatus) -> list[ObjectID]:
        """Return the images with such a root directory."""
        shown = stat.S_IMODE(root.mode), root.mtime_ns // 10**9
        found = ((image_id, self._find_traits_of(image_id)) for image_id in self._files.values())
        return [
            image_id for image_id, traits in found if traits is None or (traits.mode, traits.mtime_s) == shown
        ]

    def _keep_alike(self, image_ids: list[ObjectID], sizes: Sizes) -> list[ObjectID]:
        """Return those of the images that have these sizes."""
        # The kernel gives the most inodes that there could be, and that less those that there are as free.
        shown = sizes.blocks, (sizes.files - sizes.free_files) & _ANY_NUMBER
        found = ((image_id, self._find_traits_of(image_id)) for image_id in image_ids)
        return [
            image_id
            for image_id, traits in found
            if traits is None or (traits.blocks, traits.inodes) == shown
        ]

    def _find_traits_of(self, image_id: ObjectID) -> _Traits | None:
        if image_id not in self._traits:
            self._traits[image_id] = self._read_traits(image_id)
        return self._traits[image_id]

    def _read_traits(self, image_id: ObjectID) -> _Traits | None:
        """Return what an image would show of itself; None if it cannot be read, and so may be any."""
        from cfsctl.erofs.read.image import Image  # only where something is mounted
        from cfsctl.repository.names.images import map_file

        try:
            fd = self._store.open(image_id)
            try:
                with map_file(fd) as data:
                    image = Image(data)
                    root = image.root()
                    blocks = len(data) // 4096
                    return _Traits(root.mode, root.mtime_s, blocks, image.superblock.inode_count)
            finally:
                os.close(fd)
        except (CfsError, OSError):
            return None


def _hides_its_image(mount: Mount) -> bool:
    """Return whether a mount looks like one of composefs that was made by descriptor."""
    if mount.kind == EROFS:
        return mount.source.startswith(b"/proc/")
    return _label(mount).startswith(_LABEL)


def _label(mount: Mount) -> str:
    return os.fsdecode(mount.source)


@contextlib.contextmanager
def _opened(mount: Mount, path: bytes) -> Iterator[int]:
    """Open a path with O_PATH in the namespace of a mount.

    Raises:
        OSError: It does not exist, or an untrusted file system would have to be accessed.
    """
    root = os.open(f"/proc/{mount.process}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_cached(root, path)
    finally:
        os.close(root)
    try:
        yield fd
    finally:
        os.close(fd)


def _find_root(fd: int) -> CachedStatus:
    """Return the status of the root directory of the mount that an open directory is in.

    Raises:
        OSError: It is not to be reached without asking the file system.
    """
    at = os.dup(fd)
    try:
        status = stat_cached(at)
        for _ in range(_MAX_DEPTH):
            if status.is_mount_root:
                break
            above = open_cached(at, b"..", os.O_DIRECTORY, resolve=0)
            os.close(at)
            at = above
            inner, status = status, stat_cached(at)
            if (inner.device, inner.inode) == (status.device, status.inode):
                break
        return status
    finally:
        os.close(at)


def _loop_file(device: int) -> bytes | None:
    """Return the file behind a loop device, as the kernel knows its path; None for another device."""
    try:
        path = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/backing_file"
        with open(path, "rb") as stream:
            return stream.read(1 << 16).removesuffix(b"\n")
    except OSError:
        return None
