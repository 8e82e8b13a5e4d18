"""Serving an image of a repository by FUSE, in this process, until it is unmounted.

    objects ◀── files with large content ──┐
    image ──▶ tree ──▶ FUSE requests ──▶ kernel ──▶ mount point              plain
                                            └─▶ lower layer ─┐
    objects ───────────────────────────────▶ data-only layer ┴▶ overlay ──▶ mount point

With an overlay, which takes Linux 6.16 and the right to mount, the kernel reads the content of large files
itself, and there can be a layer for changes. Otherwise content goes through this process.

The repository is locked while the server runs. When it gets SIGTERM or SIGINT, it unmounts and ends.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import signal
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from cfsctl.errors import CfsError
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.fuse.device import (
    LABEL,
    create_mount,
    make_source,
    mount_for_user,
    open_device,
    unmount_for_user,
)
from cfsctl.fuse.files import ImageFiles
from cfsctl.fuse.names import View
from cfsctl.fuse.operations import Operations
from cfsctl.fuse.session import serve
from cfsctl.linux.credentials import CAP_SYS_ADMIN, has_capability, is_in_initial_user_namespace
from cfsctl.linux.mountapi import MNT_DETACH, UMOUNT_NOFOLLOW, move_mount, umount
from cfsctl.linux.mountinfo import find_mount_id, find_mountpoint
from cfsctl.logs import get_logger
from cfsctl.mount import MountOptions, Verity, create_overlay, open_mountpoint
from cfsctl.repository.mounting.content import ContentOpener, check_digest
from cfsctl.repository.mounting.servers import Served, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from cfsctl.digest import ObjectID
    from cfsctl.mount import WritableLayer
    from cfsctl.repository.repository import Repository

_LOG = get_logger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseMount:
    """An image that is to be served, and where.

    Attributes:
        image_id: The image.
        mountpoint: A directory, absolute.
        view: Plain, or with an overlay.
        writable_layer: With an overlay, where changes go.
        read_write: Allow writing through the mount.
        allow_other: Let other users look into the mount of a user.
    """

    image_id: ObjectID
    mountpoint: str
    view: View
    writable_layer: WritableLayer | None = None
    read_write: bool = False
    allow_other: bool = False


class _EndedBySignal(BaseException):
    """A signal asks the server to end."""


def serve_image(repository: Repository, mount: FuseMount, on_ready: Callable[[], object]) -> None:
    """Mount an image and serve it until it is unmounted, or a signal asks to end.

    Args:
        repository: The repository, open.
        mount: What and where.
        on_ready: Called once the mount can be used; if it raises, the mount ends.

    Raises:
        IntegrityError, ErofsError: The image is missing or damaged.
        CfsError, OSError: It cannot be mounted; nothing is mounted then.
    """
    with ExitStack() as stack:
        objects = repository.objects
        data = _read_image(stack, repository, mount.image_id)
        files = ImageFiles(data, repository.algorithm, mount.view)
        opener = ContentOpener(objects, checks=repository.is_secure)
        operations = Operations(files, opener, is_initial_user_namespace=is_in_initial_user_namespace())
        stack.callback(operations.close)
        restore = _raise_on_signals()
        stack.callback(restore)
        with contextlib.suppress(_EndedBySignal):
            _Serving(repository, mount, on_ready).run(operations)


def _read_image(stack: ExitStack, repository: Repository, image_id: ObjectID) -> mmap.mmap | bytes:
    """Return the bytes of an image, which cannot change any more.

    With fs-verity the file is mapped. Without, it is copied, since others might change it; and if the
    repository demands verity, the copy is checked.
    """
    objects = repository.objects
    fd, status, is_measured = objects.open_measured(image_id)
    stack.callback(os.close, fd)
    size = status.st_size
    if is_measured and size:
        return stack.enter_context(mmap.mmap(fd, size, prot=mmap.PROT_READ))
    with open(fd, "rb", closefd=False) as stream:
        data = stream.read()
    if repository.is_secure:
        check_digest(image_id, compute_digest(data, repository.algorithm))
    return data


def _raise_on_signals() -> Callable[[], None]:
    """Have signals raise `_EndedBySignal`; return what restores how they were handled."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def raise_it(_number: int, _frame: FrameType | None) -> NoReturn:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # it ends already
        raise _EndedBySignal

    before = {number: signal.signal(number, raise_it) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


@contextlib.contextmanager
def _signals_held() -> Iterator[Callable[[], object]]:
    """Keep signals until the block ends or calls what it is given: in between, nobody would unmount."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def release() -> object:
        return signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield release
    finally:
        release()


def _start_thread(thread: threading.Thread, tree: int) -> None:
    """Start a thread that takes a mount over."""
    try:
        thread.start()
    except RuntimeError as error:  # where memory or the number of processes is limited
        if tree >= 0:
            os.close(tree)
        raise OSError(errno.EAGAIN, f"serving the mount: {error}") from error


class _Serving:
    """One mount from its beginning to its end.

    This thread answers requests, while another one attaches the mount: making an overlay asks the file
    system below it, which has to answer by then.
    """

    def __init__(self, repository: Repository, mount: FuseMount, on_ready: Callable[[], object]) -> None:
        self._repository = repository
        self._mount = mount
        self._on_ready = on_ready
        self._stack = ExitStack()
        self._error: BaseException | None = None
        self._mount_id: int | None = None
        self._is_user = not has_capability(CAP_SYS_ADMIN)

    def run(self, operations: Operations) -> None:
        with self._stack, _signals_held() as release:
            device, tree = self._connect()
            starter = threading.Thread(target=self._start, args=(tree,), daemon=True)
            try:
                _start_thread(starter, tree)
                release()
                serve(device, operations)
            finally:
                self._detach()
                os.close(device)  # whoever still waits for an answer gets an error
                if starter.ident is not None:
                    starter.join()
                self._detach()  # which may have been attached in the meantime
        if self._error is not None:
            raise self._error

    def _connect(self) -> tuple[int, int]:
        """Return the FUSE device and the mount; of a user's, which is attached already, a directory in it."""
        mount = self._mount
        source = make_source(mount.image_id)
        if self._is_user and mount.view is View.PLAIN:
            with ExitStack() as stack:
                open_mountpoint(stack, mount.mountpoint)
            device = mount_for_user(mount.mountpoint, source, allow_other=mount.allow_other)
            try:
                with ExitStack() as stack:
                    self._mount_id = find_mount_id(open_mountpoint(stack, mount.mountpoint))
            except BaseException:
                with contextlib.suppress(CfsError, OSError):
                    unmount_for_user(mount.mountpoint, lazy=True)
                os.close(device)
                raise
            return device, -1
        device = open_device()
        try:
            return device, create_mount(device, source)
        except BaseException:
            os.close(device)
            raise

    def _start(self, tree: int) -> None:
        """Attach the mount, see that it answers, and tell that it is ready."""
        try:
            with ExitStack() as stack:
                if tree >= 0:
                    stack.callback(os.close, tree)
                    tree = self._attach(stack, tree)
                else:
                    tree = open_mountpoint(stack, self._mount.mountpoint)
                os.fstatvfs(tree)
            self._stack.callback(os.close, publish(self._describe()))
            self._on_ready()
        except BaseException as error:  # noqa: BLE001 - it is raised by the other thread
            self._error = error
            self._detach()

    def _attach(self, stack: ExitStack, tree: int) -> int:
        """Attach the mount, or an overlay over it; return what is attached."""
        mount, objects = self._mount, self._repository.objects
        target = open_mountpoint(stack, mount.mountpoint)
        if mount.view is View.OVERLAY:
            options = MountOptions(
                label=LABEL,
                name=mount.image_id.hex(),
                verity=Verity.REQUIRE if self._repository.is_secure else Verity.OFF,
                writable_layer=mount.writable_layer,
                read_write=mount.read_write,
                userxattr=True,
            )
            tree = create_overlay(tree, [objects.objects_fd()], options)
            stack.callback(os.close, tree)
        self._mount_id = find_mount_id(tree)
        move_mount(tree, "", target)
        return tree

    def _describe(self) -> Served:
        repository, mount = self._repository, self._mount
        status = os.fstat(repository.dirfd)
        return Served(
            mount.image_id.hex(),
            mount.mountpoint,
            self._mount_id or 0,
            mount.view.value,
            os.path.abspath(repository.path),
            status.st_dev,
            status.st_ino,
        )

    def _detach(self) -> None:
        """Unmount what this has mounted, if it is still there; whoever uses it keeps what is open."""
        mount_id, self._mount_id = self._mount_id, None
        mountpoint = None if mount_id is None else find_mountpoint(mount_id)
        if mountpoint is None:
            return  # somebody else has unmounted it
        try:
            if self._is_user and self._mount.view is View.PLAIN:
                unmount_for_user(mountpoint, lazy=True)
            else:
                umount(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW)
        except Exception as error:  # noqa: BLE001 - the server ends, whatever remains
            _LOG.error("unmounting %s: %s", mountpoint, error)
