"""The content of files that are too large to be inline: digested, or stored, by forked workers.

A file is opened again where the scan found it, beneath the directory that is scanned and without
following links. What was found then and what is read now must be the same file in the same state,
before reading and after it; otherwise the image would describe something that never existed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, ExitCode
from cfsctl.fsverity.merkle import FileDigester
from cfsctl.linux.syscalls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.scan.store import ObjectSink

MAX_WHOLE_BYTES: Final = 4 << 20
"""Files up to this size are read at once: their digest tells whether they need storing at all."""

_COPY_BYTES: Final = 1 << 16
_MAX_PATH_BYTES: Final = 4000
"""Longer paths are opened piece by piece; the kernel takes 4095 bytes."""

_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


class ChangedError(CfsError):
    """A file that changed while it was scanned."""

    exit_code = ExitCode.ERROR

    def __init__(self, path: bytes) -> None:
        """Name the file."""
        super().__init__(
            f"{os.fsdecode(path)}: changed while it was scanned",
            hint="scan again when nothing writes to the tree",
        )
        self.path = path

    def __reduce__(self) -> tuple[type[ChangedError], tuple[bytes]]:
        """Travel between processes."""
        return type(self), (self.path,)


State = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, mtime and ctime in nanoseconds. Whatever changes a file changes its ctime."""


def file_state(status: os.stat_result) -> State:
    """Return what must not change while a file is scanned."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class FileTask(NamedTuple):
    """A file to read.

    Attributes:
        number: Its number in the scan.
        directory: Path of its directory below the root, empty for the root.
        name: Its name there.
        size: Its size in bytes.
        state: What was found when it was listed.
    """

    number: int
    directory: bytes
    name: bytes
    size: int
    state: State

    @property
    def path(self) -> bytes:
        """Path below the root."""
        return b"/".join((self.directory, self.name)) if self.directory else self.name


Results = list[tuple[int, "ObjectID"]]


class FileReader:
    """Reads files for one scan; lives in a worker."""

    def __init__(self, root: int, algorithm: Algorithm, store: ObjectSink | None) -> None:
        """Take what the scan uses.

        Args:
            root: Descriptor of the scanned directory, borrowed.
            algorithm: Of the digests.
            store: Where content goes, or None to compute digests only.
        """
        self._root = root
        self._directory = (b"", os.dup(root))
        self._digester = FileDigester(algorithm)
        self._store = store

    def __call__(self, tasks: Sequence[FileTask]) -> Results:
        """Return the object ID of each file."""
        return [(task.number, self._read(task)) for task in tasks]

    def close(self) -> None:
        """Close the directory that was read last."""
        os.close(self._directory[1])

    def _read(self, task: FileTask) -> ObjectID:
        fd = self._open(task)
        try:
            if file_state(os.fstat(fd)) != task.state:
                raise ChangedError(task.path)
            object_id = self._digest(fd, task) if self._store is None else self._keep(self._store, fd, task)
            if file_state(os.fstat(fd)) != task.state:
                raise ChangedError(task.path)
        finally:
            os.close(fd)
        return object_id

    def _open(self, task: FileTask) -> int:
        # Files come directory by directory, so walking there once is enough for most of them.
        path, directory = self._directory
        try:
            if path != task.directory:
                os.close(directory)
                self._directory = (b"", os.dup(self._root))
                directory = open_directory_below(self._root, task.directory)
                os.close(self._directory[1])
                self._directory = (task.directory, directory)
            return os.open(task.name, _OPEN_FLAGS, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ChangedError(task.path) from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fsdecode(task.path)) from error

    def _digest(self, fd: int, task: FileTask) -> ObjectID:
        object_id, size = self._digester.compute(fd)
        if size != task.size:
            raise ChangedError(task.path)
        return object_id

    def _keep(self, store: ObjectSink, fd: int, task: FileTask) -> ObjectID:
        size = task.size
        if size <= MAX_WHOLE_BYTES:
            data = read_exactly(fd, size, task.path)
            return store.ensure_bytes(data).object_id
        object_id = self._digest(fd, task)
        if store.contains(object_id, size):
            return object_id
        with store.create() as writer:
            _copy(fd, size, writer.write, task.path)
            return writer.commit().object_id


def check_state(fd: int, expected: State, path: bytes) -> None:
    """Check that an open file is the one that was found, in the state it was in.

    Raises:
        ChangedError: It is not.
    """
    if file_state(os.fstat(fd)) != expected:
        raise ChangedError(path)


def read_exactly(fd: int, size: int, path: bytes) -> bytes:
    """Return the content of a file that has `size` bytes.

    Raises:
        ChangedError: It has more or fewer.
    """
    pieces = []
    left = size + 1
    while left > 0 and (piece := os.read(fd, left)):
        pieces.append(piece)
        left -= len(piece)
    if left != 1:
        raise ChangedError(path)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _copy(fd: int, size: int, write: Callable[[bytes], object], path: bytes) -> None:
    copied = 0
    while data := os.pread(fd, _COPY_BYTES, copied):
        write(data)
        copied += len(data)
    if copied != size:
        raise ChangedError(path)


def open_directory_below(root: int, path: bytes) -> int:
    """Open a directory beneath another one, without following links.

    Args:
        root: The directory to start from, borrowed.
        path: Relative path of any length.

    Returns:
        A descriptor that the caller owns; it is only good for looking names up.

    Raises:
        OSError: There is no such directory.
    """
    directory = os.dup(root)
    try:
        while path:
            cut = len(path) if len(path) <= _MAX_PATH_BYTES else path.rindex(b"/", 0, _MAX_PATH_BYTES)
            following = openat2(directory, path[:cut], _DIRECTORY_FLAGS, resolve=_RESOLVE)
            os.close(directory)
            directory, path = following, path[cut + 1 :]
    except BaseException:
        os.close(directory)
        raise
    return directory
