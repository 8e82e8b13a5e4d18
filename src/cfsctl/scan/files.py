"""The content of files that are too large to be inline: digested, or stored, by forked workers.

A file is opened again where the scan found it, beneath the directory that is scanned and without
following links. What was found then and what is read now must be the same file in the same state,
before reading and after it; otherwise the image would describe something that never existed.
"""

from __future__ import annotations

import os
import stat
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


class State(NamedTuple):
    """What must not change while a file is scanned."""

    mode: int
    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int


def file_state(status: os.stat_result) -> State:
    """Return the state of a file."""
    return State(
        status.st_mode, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


class FileTask(NamedTuple):
    """A file to read: its number in the scan, its path below the root, and its state."""

    number: int
    path: bytes
    state: State


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
        self._digester = FileDigester(algorithm)
        self._store = store

    def __call__(self, tasks: Sequence[FileTask]) -> Results:
        """Return the object ID of each file."""
        return [(task.number, self._read(task)) for task in tasks]

    def _read(self, task: FileTask) -> ObjectID:
        fd = open_below(self._root, task.path)
        try:
            check_state(fd, task.state, task.path)
            object_id = self._digest(fd, task) if self._store is None else self._keep(self._store, fd, task)
            check_state(fd, task.state, task.path)
        finally:
            os.close(fd)
        return object_id

    def _digest(self, fd: int, task: FileTask) -> ObjectID:
        object_id, size = self._digester.compute(fd)
        if size != task.state.size:
            raise ChangedError(task.path)
        return object_id

    def _keep(self, store: ObjectSink, fd: int, task: FileTask) -> ObjectID:
        size = task.state.size
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


def open_below(root: int, path: bytes) -> int:
    """Open a file for reading beneath a directory, without following links or waiting for anything.

    Args:
        root: The directory, borrowed.
        path: Relative path of any length.

    Returns:
        A descriptor that the caller owns.

    Raises:
        ChangedError: There is no such file any more, or it is something else by now.
    """
    directory = root
    rest = path
    try:
        while len(rest) > _MAX_PATH_BYTES:
            cut = rest.rindex(b"/", 0, _MAX_PATH_BYTES)
            following = openat2(directory, rest[:cut], _DIRECTORY_FLAGS, resolve=_RESOLVE)
            if directory != root:
                os.close(directory)
            directory, rest = following, rest[cut + 1 :]
        return openat2(directory, rest, _OPEN_FLAGS, resolve=_RESOLVE)
    except PermissionError as error:
        raise PermissionError(error.errno, error.strerror, os.fsdecode(path)) from None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ChangedError(path) from error
    finally:
        if directory != root:
            os.close(directory)


def is_regular(mode: int) -> bool:
    """Return whether st_mode is that of a regular file."""
    return stat.S_ISREG(mode)
