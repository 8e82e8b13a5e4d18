"""Make a scanned directory bootable; the SELinux policy is read from the directory itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.boot.entries import find_boot_entries
from cfsctl.boot.transform import make_bootable
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.linux.files import open_regular, read_all
from cfsctl.scan.files import ChangedError

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm
    from cfsctl.tree.model import ExternalFile, FileSystem

_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_directory_bootable(
    path: str, filesystem: FileSystem, algorithm: Algorithm, *, check_entries: bool
) -> None:
    """Change the tree of a directory to one that can be booted.

    Symbolic links on the way to the SELinux policy are followed within the directory only: with the original
    they can lead to the policy of the machine that builds.

    Args:
        path: The directory that was scanned.
        filesystem: Its tree, which is changed.
        algorithm: Hash algorithm of the tree's objects.
        check_entries: Refuse a tree whose boot entries cannot be read.

    Raises:
        NotBootableError: ``/usr``, ``/boot`` or ``/sysroot`` is missing.
        FormatError: A boot entry or the SELinux policy is malformed.
        TreePathError: A boot entry names a file that is missing.
        ChangedError: A file is not what it was when it was scanned.
        OSError: A file cannot be read.
    """
    root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        reader = _DirectoryContents(root, algorithm)
        if check_entries:
            find_boot_entries(filesystem, reader)
        make_bootable(filesystem, reader)
    finally:
        os.close(root)


class _DirectoryContents:
    """Reads files of a directory by their path in its tree."""

    def __init__(self, root: int, algorithm: Algorithm) -> None:
        self._root = root
        self._algorithm = algorithm

    def __call__(self, path: bytes, node: ExternalFile, /) -> bytes:
        """Return the content of a file, which must still have the digest that the tree has for it."""
        *above, name = path.strip(b"/").split(b"/")
        content = self._read(above, name, node.size)
        if compute_digest(content, self._algorithm) != node.object_id:
            raise ChangedError(path.lstrip(b"/"), "its content changed")
        return content

    def _read(self, above: list[bytes], name: bytes, size: int) -> bytes:
        # One component at a time: a link that was put in the way in the meantime is not followed.
        directory = os.dup(self._root)
        try:
            for part in above:
                below = os.open(part, _FLAGS, dir_fd=directory)
                os.close(directory)
                directory = below
            file = open_regular(directory, name)
        finally:
            os.close(directory)
        try:
            return read_all(file, size + 1)
        finally:
            os.close(file)
