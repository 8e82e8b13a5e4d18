"""The steps in the initramfs, from the kernel command line to the root that is switched to.

    kernel command line ─▶ image ─▶ mounted over the sysroot
                                       ├─ /sysroot   the old sysroot
                                       ├─ /etc       overlay, its upper layer in the state
                                       └─ /var       bound to the state

If a step fails, what was mounted over the sysroot is taken away again.
"""

from __future__ import annotations

import contextlib
import errno
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cfsctl.boot.setup_root.config import MAX_BYTES, MountKind, SetupConfig, SetupConfigError, parse_config
from cfsctl.boot.setup_root.layers import make_overlay, make_transient, open_directory, writable_directories
from cfsctl.boot.setup_root.policy import choose_image
from cfsctl.boot.state import DEPLOYMENTS, StateRoot
from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError, ExitCode
from cfsctl.linux.files import read_all
from cfsctl.linux.mountapi import (
    MNT_DETACH,
    OPEN_TREE_CLONE,
    UMOUNT_NOFOLLOW,
    move_mount,
    open_tree,
    umount,
)
from cfsctl.linux.syscalls import AT_EMPTY_PATH, AT_FDCWD, openat2
from cfsctl.mount import MountOptions, Verity, open_image_mount
from cfsctl.repository.names.images import Images
from cfsctl.repository.objects.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.boot.cmdline import ImageArgument
    from cfsctl.digest import ObjectID

REPOSITORY: Final = "composefs"
_MAX_CMDLINE_BYTES: Final = 1 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_GPT_AUTO_ROOT: Final = "/dev/gpt-auto-root"
_VOLATILE_ROOT: Final = "/run/systemd/volatile-root"


class SetupError(CfsError):
    """A root that cannot be set up."""


class SetupNotFoundError(SetupError):
    """Something that is missing on the disk that is booted from."""

    exit_code = ExitCode.NOT_FOUND


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupOptions:
    """What is set up, and where.

    Attributes:
        sysroot: Where the disk is mounted, and where the root will be.
        config: The configuration file; one that is missing is empty.
        root_fs: A directory in place of the image, for tests.
        cmdline: The kernel command line; None is that of the kernel.
    """

    sysroot: str = "/sysroot"
    config: str
    root_fs: str | None = None
    cmdline: str | None = None


def setup_root(options: SetupOptions, tell: Callable[[str], None]) -> ObjectID:
    """Mount the root that the kernel command line names; return its image.

    Args:
        options: What and where.
        tell: Called with messages.

    Raises:
        CfsError: The command line, the configuration or the image cannot be used; nothing is mounted then.
        OSError: The kernel refused; nothing is mounted then.
    """
    config = read_config(options.config)
    cmdline = _read_cmdline() if options.cmdline is None else options.cmdline
    note_volatile_root()
    with ExitStack() as stack:
        run = _Setup(stack, options, config, tell)
        return run.run(cmdline)


def read_config(path: str) -> SetupConfig:
    """Return the configuration in a file; one that is missing is empty.

    Raises:
        SetupConfigError: It cannot be used; the message names the file.
        OSError: It cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return SetupConfig()
    try:
        return parse_config(read_all(fd, MAX_BYTES))
    except SetupConfigError as error:
        raise SetupConfigError(f"{path}: {error}", field=error.field) from error
    finally:
        os.close(fd)


def _read_cmdline() -> str:
    fd = os.open("/proc/cmdline", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_all(fd, _MAX_CMDLINE_BYTES).decode("utf-8", "replace")
    finally:
        os.close(fd)


def note_volatile_root() -> None:
    """Tell systemd which disk the root is on if it found that disk by itself; errors do not matter."""
    with contextlib.suppress(OSError):
        device = os.stat(_GPT_AUTO_ROOT).st_rdev
        os.makedirs(os.path.dirname(_VOLATILE_ROOT), exist_ok=True)
        os.symlink(f"/dev/block/{os.major(device)}:{os.minor(device)}", _VOLATILE_ROOT)


@contextmanager
def _during(step: str) -> Iterator[None]:
    """Add the current step to errors of the kernel."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EROFS:
            reason += " (is the disk mounted read-only? add rw to the kernel command line)"
        raise OSError(error.errno, f"{step}: {reason}") from error


class _Setup:
    def __init__(
        self, stack: ExitStack, options: SetupOptions, config: SetupConfig, tell: Callable[[str], None]
    ) -> None:
        self._stack = stack
        self._options = options
        self._config = config
        self._tell = tell
        with _during(f"opening {options.sysroot}"):
            self._sysroot = self._keep(os.open(options.sysroot, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def _keep(self, fd: int) -> int:
        self._stack.callback(os.close, fd)
        return fd

    def run(self, cmdline: str) -> ObjectID:
        argument, image = choose_image(cmdline, self._open_root, self._tell)
        image_id = argument.object_id
        state = self._open_state(image_id) if self._config.needs_state else -1
        clone = self._keep(self._clone_sysroot())
        with ExitStack() as undo:
            root = self._attach(image, self._sysroot, undo)
            if self._config.is_root_transient:
                with _during("mounting a transient root"):
                    transient = self._keep(make_transient(image))
                root = self._attach(transient, root, undo)
            with contextlib.suppress(FileNotFoundError), _during("moving the old root to /sysroot"):
                move_mount(clone, "sysroot", root)
            for name, kind in (("etc", self._config.etc), ("var", self._config.var)):
                # Above the image and not above a transient root: the kernel stacks no more than two overlays.
                self._mount_directory(name, kind, lower=image, state=state, root=root)
            undo.pop_all()
        verity = "without fs-verity" if argument.is_insecure else "with fs-verity"
        self._tell(f"image {image_id.hex()} is the root, {verity}")
        return image_id

    # The image

    def _open_root(self, argument: ImageArgument) -> int | None:
        """Return a mount of an image that is attached nowhere, or None if the image is not stored."""
        if self._options.root_fs is not None:
            with _during(f"opening {self._options.root_fs}"):
                return self._keep(open_tree(AT_FDCWD, self._options.root_fs, OPEN_TREE_CLONE))
        try:
            repository = openat2(self._sysroot, REPOSITORY, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError) as error:
            where = os.path.join(self._options.sysroot, REPOSITORY)
            raise SetupNotFoundError(f"opening repository {where}: {error.strerror}") from error
        try:
            return self._mount_image(repository, argument)
        finally:
            os.close(repository)

    def _mount_image(self, repository: int, argument: ImageArgument) -> int | None:
        # Only its objects and names are needed. What is in meta.json cannot be relied on here, and need not:
        # the kernel measures the image against the command line, and the image has the digests of all files.
        algorithm = Algorithm.of_digest(argument.object_id)
        objects = ObjectStore(
            repository, algorithm, is_secure=not argument.is_insecure, check_writable=_refuse_writing
        )
        with ExitStack() as stack:
            stack.callback(objects.close)
            images = Images(repository, objects, _refuse_writing, _refuse_writing)
            hex_id = argument.object_id.hex()
            if images.find(hex_id) is None:
                return None
            image = images.open(hex_id)
            stack.callback(os.close, image.fd)
            verity = Verity.OFF if argument.is_insecure else Verity.REQUIRE
            with _during(f"mounting image {hex_id}"):
                options = MountOptions(name=hex_id, verity=verity)
                return self._keep(open_image_mount(image.fd, [objects.objects_fd()], options))

    # The state

    def _open_state(self, image_id: ObjectID) -> int:
        where = os.path.join(self._options.sysroot, DEPLOYMENTS, image_id.hex())
        with StateRoot(self._options.sysroot) as states, _during(f"creating state directory {where}"):
            if image_id.hex() not in states.list_names():
                self._tell(f"creating state directory {where}, which was missing")
            states.ensure(image_id)
        with _during(f"opening state directory {where}"):
            return self._keep(openat2(self._sysroot, f"{DEPLOYMENTS}/{image_id.hex()}", _DIRECTORY))

    def _clone_sysroot(self) -> int:
        with _during(f"cloning {self._options.sysroot}"):
            return open_tree(self._sysroot, "", OPEN_TREE_CLONE | AT_EMPTY_PATH)

    # Mounts

    def _attach(self, mount: int, place: int, undo: ExitStack) -> int:
        """Attach a mount on top of the sysroot; return it."""
        with _during(f"attaching the root at {self._options.sysroot}"):
            move_mount(mount, "", place)
        undo.callback(_detach, self._options.sysroot)
        return mount

    def _mount_directory(self, name: str, kind: MountKind, *, lower: int, state: int, root: int) -> None:
        if kind is MountKind.NONE:
            return
        with _during(f"mounting /{name} ({kind.value})"), ExitStack() as stack:
            mount = self._open_mount(lower, state, name, kind)
            stack.callback(os.close, mount)
            move_mount(mount, name, root)

    @staticmethod
    def _open_mount(image: int, state: int, name: str, kind: MountKind) -> int:
        with ExitStack() as stack:

            def opened(dirfd: int) -> int:
                fd = open_directory(dirfd, name)
                stack.callback(os.close, fd)
                return fd

            if kind is MountKind.BIND:
                return open_tree(opened(state), "", OPEN_TREE_CLONE | AT_EMPTY_PATH)
            lower = opened(image)
            if kind is MountKind.TRANSIENT:
                return make_transient(lower)
            upper, work = stack.enter_context(writable_directories(opened(state)))
            return make_overlay(lower, upper, work, "overlay")


def _detach(sysroot: str) -> None:
    with contextlib.suppress(OSError):
        umount(sysroot, MNT_DETACH | UMOUNT_NOFOLLOW)


def _refuse_writing() -> None:
    raise SetupError("nothing is written to the repository while the machine boots")
