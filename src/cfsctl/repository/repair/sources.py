"""Sources for a repair: other repositories, and any directory that contains the same files.

Sources are not trusted: an object is accepted only if its content has the expected digest.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.errors import CfsError, DigestMismatchError
from cfsctl.fsverity.merkle import FileDigester
from cfsctl.linux.files import open_regular
from cfsctl.linux.names import scan_directory
from cfsctl.linux.syscalls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from cfsctl.repository.objects.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.repository.repository import Repository

_COPY_BYTES: Final = 1 << 20
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class RepairSource(Protocol):
    """A place that may have what is missing.

    Attributes:
        description: The place as the user knows it.
    """

    @property
    def description(self) -> str:
        """Return the place as the user knows it."""

    def restore(self, wanted: frozenset[ObjectID], store: ObjectStore) -> Iterator[ObjectID]:
        """Store the wanted objects that this source has; yield the ID of each stored object.

        What cannot be read is skipped.
        """

    def restore_stream(self, name: str, repository: Repository) -> bool:
        """Restore a stream with everything that it needs, if this source has it.

        Args:
            name: Its content identifier. What the repository has of it cannot be read, or is nothing.
            repository: The repository that is repaired, of which the caller has the lock.

        Returns:
            Whether the stream was restored.
        """

    def close(self) -> None:
        """Release all descriptors."""


def copy_content(fd: int, object_id: ObjectID, store: ObjectStore) -> bool:
    """Store the content of a file if it is that of an object; return whether it is.

    Args:
        fd: The file, borrowed; its position does not matter.
        object_id: The object.
        store: Where it goes.

    Raises:
        OSError: Reading or writing failed.
    """
    with store.create() as writer:
        writer.write_file(fd)
        try:
            writer.commit(object_id)
        except DigestMismatchError:
            return False
    return True


class RepositorySource:
    """Another composefs repository of the same hash algorithm: objects are found by their names.

    Attributes:
        description: Its path.
    """

    def __init__(self, path: str, store: ObjectStore) -> None:
        """Open it.

        Args:
            path: The repository's directory.
            store: The repository that is repaired.

        Raises:
            OSError: It cannot be opened.
        """
        self.description = path
        self._dirfd = os.open(path, _DIRECTORY_FLAGS)
        self._objects = ObjectStore(self._dirfd, store.algorithm)

    def restore(self, wanted: frozenset[ObjectID], store: ObjectStore) -> Iterator[ObjectID]:
        """Restore objects by their names; see `RepairSource.restore`."""
        for object_id in sorted(wanted):
            try:
                fd = self._objects.open(object_id)
            except (CfsError, OSError):
                continue
            try:
                if copy_content(fd, object_id, store):
                    yield object_id
            finally:
                os.close(fd)

    def restore_stream(self, name: str, repository: Repository) -> bool:
        """Copy the stream that is under this name there; see `RepairSource.restore_stream`."""
        from cfsctl.repository.copying import copy_stream  # few repairs come so far
        from cfsctl.repository.repository import Repository as Opened

        try:
            with Opened.open(self.description) as source:
                copy_stream(source, repository, name)
        except (CfsError, FileNotFoundError):
            return False
        return True

    def close(self) -> None:
        """Release all descriptors."""
        self._objects.close()
        os.close(self._dirfd)


class TreeSource:
    """A directory: all files below it are read until everything that is wanted has been found.

    Links are not followed.

    Attributes:
        description: Its path.
    """

    def __init__(self, path: str, dirfd: int | None = None) -> None:
        """Open it.

        Args:
            path: The directory.
            dirfd: Where a relative path starts, borrowed, or None for the working directory.

        Raises:
            OSError: It cannot be opened.
        """
        self.description = path
        self._root = os.open(path, _DIRECTORY_FLAGS, dir_fd=dirfd)

    def restore(self, wanted: frozenset[ObjectID], store: ObjectStore) -> Iterator[ObjectID]:
        """Read every file until nothing more is wanted; see `RepairSource.restore`."""
        left = set(wanted)
        digester = FileDigester(store.algorithm)
        for fd in self._iter_files():
            try:
                object_id, _ = digester.compute(fd)
            except OSError:
                continue
            if object_id in left and copy_content(fd, object_id, store):
                left.discard(object_id)
                yield object_id
            if not left:
                return

    def _iter_files(self) -> Iterator[int]:
        """Yield a descriptor of each regular file, borrowed until the next one."""
        pending = [b"."]
        while pending:
            path = pending.pop()
            try:
                directory = openat2(
                    self._root, path, _DIRECTORY_FLAGS, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
                )
            except OSError:
                continue
            try:
                # Read by descriptor, entries have names of text; what is not Unicode survives in them.
                with scan_directory(directory) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(os.path.join(path, os.fsencode(entry.name)))
                        elif entry.is_file(follow_symlinks=False):
                            yield from _open_for_a_while(directory, entry.name)
            finally:
                os.close(directory)

    def restore_stream(self, _name: str, _repository: Repository) -> bool:
        """Return nothing: in a directory nothing says which stream a file is."""
        return False

    def close(self) -> None:
        """Release all descriptors."""
        os.close(self._root)


def _open_for_a_while(directory: int, name: str) -> Iterator[int]:
    try:
        fd = open_regular(directory, name)
    except OSError:
        return
    try:
        yield fd
    finally:
        os.close(fd)
