"""The digest store of mkcomposefs: contents of files in a plain directory, named by digest.

    DIR/xx/rest    content, by its fs-verity digest in hex; files 0644, directories 0755

Nothing else is in the directory, so it may be given to mount.composefs as basedir. A file that is there
already is left alone. New ones get fs-verity where the file system has it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import object_path
from cfsctl.fsverity.kernel import VerityError, enable
from cfsctl.fsverity.merkle import Hasher, compute_digest
from cfsctl.linux.files import AnonymousFile, make_directory
from cfsctl.linux.sparse import write_hole, write_sparse

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import Algorithm, ObjectID

_FILE_MODE: Final = 0o644
_DIRECTORY_MODE: Final = 0o755


class StoredFile(NamedTuple):
    """What became of content.

    Attributes:
        object_id: Its digest.
        is_new: Whether it did not exist before.
    """

    object_id: ObjectID
    is_new: bool


class DigestStore:
    """The directory; may be used in several processes at once."""

    def __init__(self, dirfd: int, algorithm: Algorithm) -> None:
        """Take the directory, borrowed, and the hash that files are named by."""
        self.dirfd = dirfd
        self.algorithm = algorithm

    def ensure_bytes(self, data: bytes | memoryview, object_id: ObjectID | None = None) -> StoredFile:
        """Store content from memory, unless it exists.

        Args:
            data: The content.
            object_id: Its digest, if that is known.

        Raises:
            OSError: Nothing was stored then.
        """
        if object_id is None:
            object_id = compute_digest(data, self.algorithm)
        if self.is_sound(object_id):
            return StoredFile(object_id, is_new=False)
        with AnonymousFile(self.dirfd, _FILE_MODE) as file:
            write_sparse(file.fd, data)
            return self.publish(file, object_id)

    def is_sound(self, object_id: ObjectID, size: int | None = None) -> bool:
        """Return whether content of this size exists; it is not read."""
        try:
            status = os.stat(object_path(object_id), dir_fd=self.dirfd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return size is None or status.st_size == size

    def create(self) -> FileWriter:
        """Begin content that comes in pieces.

        Raises:
            OSError: As open(2).
        """
        return FileWriter(self, AnonymousFile(self.dirfd, _FILE_MODE))

    def publish(self, file: AnonymousFile, object_id: ObjectID) -> StoredFile:
        """Give a complete file its place."""
        file.make_read_only()
        # fs-verity is optional here: the options of the mount decide whether it is required.
        with suppress(VerityError):
            enable(file.fd, self.algorithm)
        path = object_path(object_id)
        with suppress(FileExistsError):
            make_directory(path[:2], _DIRECTORY_MODE, self.dirfd)
        try:
            file.link(self.dirfd, path)
        except FileExistsError:
            return StoredFile(object_id, is_new=False)
        return StoredFile(object_id, is_new=True)


class FileWriter:
    """Takes the bytes of one file; without `commit` they are dropped."""

    def __init__(self, store: DigestStore, file: AnonymousFile) -> None:
        """Take ownership of a new file."""
        self._store = store
        self._file = file
        self._hasher = Hasher(store.algorithm)

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes.

        Raises:
            OSError: As write(2).
        """
        self._hasher.update(data)
        write_sparse(self._file.fd, data)

    def write_hole(self, size: int) -> None:
        """Add so many zeros.

        Raises:
            OSError: As ftruncate(2).
        """
        self._hasher.update_zeros(size)
        write_hole(self._file.fd, size)

    def commit(self) -> StoredFile:
        """Store what was written.

        Raises:
            OSError: Nothing was stored then.
        """
        return self._store.publish(self._file, self._hasher.digest())

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was not committed."""
        self._file.close()
