"""Directories for what a deployment writes.

    STATEROOT/state/deploy/IMAGE/var          bound to /var
    STATEROOT/state/deploy/IMAGE/etc/upper    upper layer of the overlay on /etc
    STATEROOT/state/deploy/IMAGE/etc/work     its work directory

`cfsctl.boot.setup_root` uses them when the image boots.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError
from cfsctl.linux.files import fsync_directory, make_directory
from cfsctl.linux.syscalls import openat2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from cfsctl.digest import ObjectID

DEPLOYMENTS: Final = "state/deploy"

DIRECTORIES: Final = {"var": 0o755, "etc": 0o755, "etc/upper": 0o755, "etc/work": 0o700}
"""Directories of a deployment with their modes; the merged directory takes its mode from ``upper``."""

_LABELLED: Final = {"var": "var", "etc/upper": "etc"}
"""Directories that replace one of the image, and which one."""

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class StateError(CfsError):
    """State directories that cannot be made."""


class StateRoot:
    """The directory that has the states of all deployments."""

    def __init__(self, path: str) -> None:
        """Open the directory.

        Raises:
            StateError: It is missing.
        """
        self.path = path
        self._made: list[str] = []
        try:
            self._fd = os.open(path, _FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StateError(
                f"state root {path}: {error.strerror}", hint="name the directory with --stateroot"
            ) from error

    def __enter__(self) -> Self:
        """Return the root itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        os.close(self._fd)

    def path_of(self, image_id: ObjectID) -> str:
        """Return the path of an image's state."""
        return os.path.join(self.path, DEPLOYMENTS, image_id.hex())

    def ensure(self, image_id: ObjectID, labels: Mapping[str, bytes] | None = None) -> None:
        """Make the directories of a deployment as far as they are missing.

        Args:
            image_id: The image that is deployed.
            labels: SELinux labels of directories of the image, by name; set where the system allows it.

        Raises:
            OSError: One cannot be made; those that were made are gone again.
        """
        self._made = []
        top = f"{DEPLOYMENTS}/{image_id.hex()}"
        try:
            for path in ("state", DEPLOYMENTS, top):
                self._ensure_one(path, 0o755, None)
            for name, mode in DIRECTORIES.items():
                self._ensure_one(f"{top}/{name}", mode, (labels or {}).get(_LABELLED.get(name, "")))
        except BaseException:
            self.undo()
            raise

    def _ensure_one(self, path: str, mode: int, label: bytes | None) -> None:
        try:
            os.close(openat2(self._fd, path, _FLAGS))
        except FileNotFoundError:
            above, _, name = path.rpartition("/")
            parent = openat2(self._fd, above or ".", _FLAGS)
            try:
                make_directory(name, mode, parent)
                self._made.append(path)
                if label is not None:
                    _set_label(parent, name, label)
                fsync_directory(parent)
            finally:
                os.close(parent)

    def undo(self) -> None:
        """Remove the directories that the last `ensure` has made, as far as they are empty."""
        for path in reversed(self._made):
            with contextlib.suppress(OSError):
                os.rmdir(path, dir_fd=self._fd)
        self._made = []

    def list_names(self) -> list[str]:
        """Return the names of all states, sorted; they are IDs of images, if nobody else put them there."""
        try:
            fd = openat2(self._fd, DEPLOYMENTS, _FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def remove(self, image_id: ObjectID) -> bool:
        """Remove the state of an image with all that is in it; return whether there was one.

        Raises:
            OSError: Something cannot be removed.
        """
        try:
            fd = openat2(self._fd, DEPLOYMENTS, _FLAGS)
        except FileNotFoundError:
            return False
        import shutil  # needs libraries that an initramfs does without

        try:
            shutil.rmtree(image_id.hex(), dir_fd=fd)
            os.fsync(fd)
        except FileNotFoundError:
            return False
        finally:
            os.close(fd)
        return True


def _set_label(parent: int, name: str, label: bytes) -> None:
    fd = os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=parent)
    try:
        # A system without SELinux, or without the right to set labels, labels them when it boots.
        with contextlib.suppress(OSError):
            os.setxattr(fd, "security.selinux", label.rstrip(b"\0") + b"\0")
    finally:
        os.close(fd)
