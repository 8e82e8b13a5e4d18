"""Mounting an image with the kernel: EROFS for the tree, overlayfs for the content of large files.

    image file ──▶ EROFS ─────────────┐ lower layer
    object directories ───────────────┤ data-only layers
    upperdir, workdir (if given) ─────┤
                                      └▶ overlayfs ──▶ mount point

What the kernel can do is found out by trying, best first:

    EROFS from a file      Linux 6.12, else a loop device
    layers by descriptor   Linux 6.13 and, since the EROFS mount is attached nowhere, 6.15; else EROFS
                           is attached to a temporary directory while the overlay is made, and layers are
                           paths below /proc/self/fd
    data-only layers       Linux 6.5
    verity                 Linux 6.6

The mount point is opened first, so that the mount appears where the path led at that time, and nothing is
mounted if it is not a directory. If anything fails, nothing is left behind. The kernel's messages are part of
the errors; those of a successful mount are logged.
"""

from __future__ import annotations

import contextlib
import errno
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from cfsctl.errors import describe
from cfsctl.linux.files import random_name
from cfsctl.linux.mountapi import (
    MAX_STRING_BYTES,
    MNT_DETACH,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_RDONLY,
    attach_loop,
    fsconfig_create,
    fsconfig_fd,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
    mount_setattr,
    move_mount,
    read_log,
    umount,
)
from cfsctl.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Layers = Sequence[tuple[str, int]]
    """Overlay options that name directories, and their descriptors, in order."""

_LOG = get_logger(__name__)

_DIRECTORY_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

_NO_FILE_MOUNT: Final = {errno.ENOTBLK, errno.EINVAL}
"""What a kernel says that mounts EROFS from block devices only, or not from files of this file system."""

_NO_OPTION: Final = {errno.EINVAL, errno.ENOSYS}

_NO_DESCRIPTOR: Final = {*_NO_OPTION, errno.EBADF}
"""What a kernel says that takes layers by path only; EBADF if it takes descriptors, but none of O_PATH."""


class Verity(Enum):
    """Whether overlayfs checks the content of files against the digests in the image."""

    OFF = "off"
    TRY = "try"
    """If the kernel knows how to; it then refuses files without fs-verity."""

    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class WritableLayer:
    """Where changes to a mounted image go.

    Attributes:
        upperdir: Directory that takes them.
        workdir: Empty directory on the same file system, for overlayfs itself.
    """

    upperdir: str
    workdir: str


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How to mount an image.

    Attributes:
        name: Image as the user knows it; the mount's source is ``composefs:<name>``, cut to what the
            kernel takes.
        verity: Whether the content of files is checked.
        writable_layer: Where changes go, or None for a tree that cannot change.
        read_write: Allow writing through the mount; without a writable layer nothing can be written
            anyway.
        userns_fd: User namespace whose mapping owners and groups of the image go through, borrowed; or
            None.
        acl: Let EROFS look for POSIX ACLs; an image that is known to have none is faster without.
        userxattr: overlayfs takes its attributes from ``user.overlay.``, as it has to in a user namespace.
        label: What the mount's source begins with.
    """

    name: str = "composefs"
    verity: Verity = Verity.OFF
    writable_layer: WritableLayer | None = None
    read_write: bool = False
    userns_fd: int | None = None
    acl: bool = True
    userxattr: bool = False
    label: str = "composefs"


def mount_image(
    image_fd: int, object_dirs: Sequence[int], mountpoint: str, options: MountOptions | None = None
) -> None:
    """Mount an image, on top of an existing mount, if any.

    Args:
        image_fd: The image, open for reading, borrowed.
        object_dirs: Directories with objects at ``xx/rest``, borrowed; a file's object is looked for in
            one after the other.
        mountpoint: A directory.
        options: How to mount it.

    Raises:
        OSError: Nothing is mounted then; the message names the step that failed, and has what the kernel
            said about it.
    """
    options = options or MountOptions()
    with ExitStack() as stack:
        target = open_mountpoint(stack, mountpoint)
        overlay = open_image_mount(image_fd, object_dirs, options)
        stack.callback(os.close, overlay)
        with _during(f"attaching the mount at {mountpoint}"):
            move_mount(overlay, "", target)


def open_image_mount(image_fd: int, object_dirs: Sequence[int], options: MountOptions) -> int:
    """Return a mount of an image that is attached nowhere yet; owned by the caller.

    Args:
        image_fd: The image, open for reading, borrowed.
        object_dirs: Directories with objects, as for `mount_image`.
        options: How to mount it.

    Raises:
        OSError: As `mount_image`.
    """
    with ExitStack() as stack:
        layers = _open_writable_layer(stack, options.writable_layer)
        image = _mount_erofs(image_fd, acl=options.acl)
        stack.callback(os.close, image)
        if options.userns_fd is not None:
            with _during("mapping the owners of the image"):
                mount_setattr(image, set_attributes=MOUNT_ATTR_IDMAP, userns_fd=options.userns_fd)
        return _mount_overlay(image, _distinct(object_dirs), layers, options)


@contextmanager
def _during(step: str) -> Iterator[None]:
    """Add the current step to errors."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        detail = f"{error.filename}: {reason}" if isinstance(error.filename, str) else reason
        raise MountError(error.errno, f"{step}: {detail}") from error


class MountError(OSError):
    """A step of a mount that the kernel refused.

    Attributes:
        hint: What to do about it, or None.
    """

    @property
    def hint(self) -> str | None:
        """Return what to do about it."""
        if "mount point" in str(self.strerror) and self.errno in {errno.ENOENT, errno.ENOTDIR}:
            return "the mount point must be a directory that exists: create it with mkdir"
        if self.errno in {errno.EPERM, errno.EACCES}:
            return (
                "mounting needs root: use sudo, or a namespace (unshare --user --map-root-user --mount);"
                " `cfsctl doctor` says what works here"
            )
        return "`cfsctl doctor` says what works here, and what to do" if self.errno == errno.ENODEV else None


def open_mountpoint(stack: ExitStack, path: str) -> int:
    """Return a descriptor of a mount point, which the stack owns.

    Raises:
        OSError: It is missing, or no directory.
    """
    return _open_directory(stack, path, "mount point")


def _open_directory(stack: ExitStack, path: str, what: str) -> int:
    with _during(f"opening {what}"):
        fd = os.open(path, _DIRECTORY_FLAGS)
    stack.callback(os.close, fd)
    return fd


def _open_writable_layer(stack: ExitStack, layer: WritableLayer | None) -> Layers:
    if layer is None:
        return []
    paths = (("upperdir", layer.upperdir), ("workdir", layer.workdir))
    return [(key, _open_directory(stack, path, key)) for key, path in paths]


def _distinct(dirs: Sequence[int]) -> list[int]:
    """Leave out directories that were given before, which overlayfs refuses."""
    found: dict[tuple[int, int], int] = {}
    for fd in dirs:
        status = os.fstat(fd)
        found.setdefault((status.st_dev, status.st_ino), fd)
    return list(found.values())


@contextmanager
def _context(filesystem: str, step: str) -> Iterator[int]:
    """Open a file system context; log what the kernel wrote into it when all went well."""
    with _during(step):
        fd = fsopen(filesystem)
        try:
            yield fd
            for message in read_log(fd):
                _LOG.info("%s: %s", filesystem, message)
        finally:
            os.close(fd)


# EROFS


def _mount_erofs(image_fd: int, *, acl: bool) -> int:
    """Return a mount of the image that is attached nowhere; owned by the caller."""
    try:
        return _mount_erofs_source(_proc_path(image_fd), acl=acl)
    except OSError as error:
        if error.errno not in _NO_FILE_MOUNT:
            raise
        try:
            device, path = attach_loop(image_fd)
        except OSError as loop_error:
            # The kernel may just not like the image, so the first error matters more.
            reason = f"{error.strerror}; and no loop device could be set up: {describe(loop_error)}"
            raise OSError(error.errno, reason) from error
    try:
        # Once mounted, the device stays as long as the mount, and goes with it.
        return _mount_erofs_source(path, acl=acl)
    finally:
        os.close(device)


def _mount_erofs_source(source: str, *, acl: bool) -> int:
    with _context("erofs", "mounting the image with EROFS") as context:
        fsconfig_flag(context, "ro")
        if not acl:
            try:
                fsconfig_flag(context, "noacl")
            except OSError as error:  # a kernel built without ACLs does not know the option
                _LOG.info("erofs: %s", error)
        fsconfig_string(context, "source", source)
        fsconfig_create(context)
        return fsmount(context)


def _proc_path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


# overlayfs


def create_overlay(tree_fd: int, object_dirs: Sequence[int], options: MountOptions) -> int:
    """Mount an overlay over a tree that is mounted already; return it, attached nowhere, owned by the caller.

    Args:
        tree_fd: A mount of the tree, which need not be attached, borrowed. Before Linux 6.15 it is of no use
            afterwards.
        object_dirs: Directories with objects at ``xx/rest``, borrowed.
        options: How to mount it; whose owners to map is not among it.

    Raises:
        OSError: The kernel refuses.
    """
    with ExitStack() as stack:
        layers = _open_writable_layer(stack, options.writable_layer)
        return _mount_overlay(tree_fd, _distinct(object_dirs), layers, options)


def can_mount_user_overlay() -> bool:
    """Return whether overlayfs takes content from the objects also with ``userxattr`` (Linux 6.16)."""
    import tempfile  # only for FUSE

    with tempfile.TemporaryDirectory(prefix="cfsctl-mount-") as directory, ExitStack() as stack:
        places = [os.path.join(directory, name) for name in ("lower", "data")]
        for place in places:
            os.mkdir(place)
        lower, data = [_open_directory(stack, place, "layer") for place in places]
        try:
            os.close(_mount_overlay(lower, [data], [], MountOptions(userxattr=True)))
        except OSError as error:
            _LOG.info("no overlay with userxattr: %s", error)
            return False
    return True


def _mount_overlay(image: int, object_dirs: Sequence[int], upper: Layers, options: MountOptions) -> int:
    """Return a mount of the overlay that is attached nowhere; owned by the caller."""
    layers: Layers = [("lowerdir+", image), *(("datadir+", fd) for fd in object_dirs), *upper]

    def set_by_descriptor(context: int) -> None:
        for key, fd in layers:
            fsconfig_fd(context, key, fd)

    def set_by_path(context: int) -> None:
        _set_paths(context, image, object_dirs, upper)

    try:
        return _try_overlay(options, set_by_descriptor)
    except OSError as error:
        if error.errno not in _NO_DESCRIPTOR:
            raise
        _LOG.info("layers by path, since by descriptor: %s", error)
    with attached(image):
        return _try_overlay(options, set_by_path)


def _try_overlay(options: MountOptions, set_layers: Callable[[int], None]) -> int:
    """Mount the overlay with verity or, if that was only to be tried, without."""
    try:
        return _create_overlay(options, set_layers, verity=options.verity is not Verity.OFF)
    except OSError as error:
        if options.verity is not Verity.TRY or error.errno not in _NO_OPTION:
            raise
        _LOG.info("without verity, since with it: %s", error)
    return _create_overlay(options, set_layers, verity=False)


def _create_overlay(options: MountOptions, set_layers: Callable[[int], None], *, verity: bool) -> int:
    attributes = 0 if options.read_write else MOUNT_ATTR_RDONLY
    with _context("overlay", "mounting the overlay") as context:
        fsconfig_string(context, "source", _label(options))
        if options.userxattr:
            fsconfig_flag(context, "userxattr")  # allows neither of the others to be set
        else:
            fsconfig_string(context, "metacopy", "on")
            fsconfig_string(context, "redirect_dir", "on")
        if verity:
            fsconfig_string(context, "verity", "require")
        set_layers(context)
        fsconfig_create(context)
        return fsmount(context, attributes)


def _label(options: MountOptions) -> bytes:
    return os.fsencode(f"{options.label}:{options.name}")[:MAX_STRING_BYTES]


def _set_paths(context: int, image: int, object_dirs: Sequence[int], upper: Layers) -> None:
    """Name the layers by path, as kernels want it that take no descriptors."""
    paths = [_proc_path(fd) for fd in (image, *object_dirs)]
    lowerdir = "::".join(paths)
    if len(lowerdir) <= MAX_STRING_BYTES:
        fsconfig_string(context, "lowerdir", lowerdir)
    else:
        # One at a time, which Linux 6.7 has and 6.5 has not.
        for key, path in zip(["lowerdir+"] + ["datadir+"] * len(object_dirs), paths, strict=True):
            fsconfig_string(context, key, path)
    for key, fd in upper:
        fsconfig_string(context, key, _proc_path(fd))


def _make_temporary_directory() -> str:
    """Return a new directory; the module `tempfile` needs libraries that an initramfs does without."""
    places = (os.environ.get("TMPDIR"), "/tmp", "/run", ".")  # noqa: S108 - the name is random, and mkdir fails if taken
    for place in filter(None, places):
        path = os.path.join(os.path.abspath(place), random_name("cfsctl-mount-"))
        with contextlib.suppress(OSError):
            os.mkdir(path, 0o700)
            return path
    raise OSError(errno.ENOENT, "no directory for temporary files; name one in TMPDIR", "/tmp")  # noqa: S108 - the same


@contextmanager
def attached(mount_fd: int) -> Iterator[None]:
    """Attach a mount to a temporary directory for a while; what was made from it in the meantime stays.

    The kernel attaches a mount only once: it is of no further use afterwards.
    """
    directory = _make_temporary_directory()
    try:
        with _during("attaching the image"):
            move_mount(mount_fd, directory)
        try:
            yield
        finally:
            umount(directory, MNT_DETACH)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(directory)
