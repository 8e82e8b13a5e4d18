"""The state of files, and their content: digested, or stored.

What the listing found and what is read must be the same file in the same state, before reading and
after it; otherwise the image would describe something that never existed.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode
from cfsctl.fsverity.merkle import READ_SIZE, FileDigester, SmallFiles
from cfsctl.linux.sparse import iter_holes, may_have_holes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.scan.store import ObjectSink, ObjectWriter

MAX_WHOLE_BYTES: Final = 1 << 20
"""Files up to this size are held in memory, so that their digest tells whether they need storing at all."""

MAX_SMALL_BYTES: Final = READ_SIZE
"""Files up to this size are hashed together with others."""

_COPY_BYTES: Final = 1 << 16

_MAX_CONFIDENCE: Final = 8
"""How many files in a row have to be new, or known, before the next large one is taken to be so too."""

FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""How files are opened: what took the place of a file in the meantime is neither followed nor waited for."""


class NoProcError(CfsError):
    """There is no ``/proc``, which a scan needs."""


class ChangedError(CfsError):
    """Something that changed while it was scanned."""

    exit_code = ExitCode.ERROR

    def __init__(self, path: bytes, what: str = "") -> None:
        """Name the file, and what about it changed if that is known."""
        detail = f": {what}" if what else ""
        super().__init__(
            f"{os.fsdecode(path)}: changed while it was scanned{detail}",
            hint="scan again when nothing writes to the tree",
        )
        self.path = path
        self.what = what

    def beneath(self, base: bytes) -> ChangedError:
        """Return the same error with the path of the scanned directory in front."""
        return ChangedError(os.path.join(base, self.path), self.what)


class StoringError(OSError):
    """The store refused the content of a file; errno says why."""


State = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, mtime and ctime in nanoseconds. Every change of a file changes its ctime."""

_STATE_FIELDS: Final = ("device", "inode", "size", "modification time", "change time")


def file_state(status: os.stat_result) -> State:
    """Return what must not change while a file is scanned."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def check_state(expected: State, status: os.stat_result, path: bytes) -> None:
    """Check that a file is the one that was found, in the state it was in.

    Raises:
        ChangedError: It is not; the message says what differs.
    """
    found = file_state(status)
    if found == expected:
        return
    for field, before, after in zip(_STATE_FIELDS, expected, found, strict=True):
        if before != after:
            raise ChangedError(path, f"{field} was {before}, is {after}")


def read_exactly(fd: int, size: int, path: bytes) -> bytes:
    """Return the content of a file that has `size` bytes.

    Raises:
        ChangedError: It has more or fewer.
    """
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    pieces = [data]
    left = size + 1 - len(data)
    while left > 0 and data and (data := os.read(fd, left)):
        pieces.append(data)
        left -= len(data)
    if left != 1:
        raise _size_changed(path, size, size + 1 - left)
    return b"".join(pieces)


def read_whole(fd: int, state: State, path: bytes) -> bytes:
    """Return the content of a file that was found in this state and is in it still.

    Raises:
        ChangedError: It is not.
        OSError: It is, and cannot be read.
    """
    try:
        data = read_exactly(fd, state[2], path)
    except OSError:
        # What cannot be read may be something else by now.
        check_state(state, os.fstat(fd), path)
        raise
    check_state(state, os.fstat(fd), path)
    return data


def _size_changed(path: bytes, expected: int, found: int) -> ChangedError:
    return ChangedError(path, f"expected {expected} bytes, read {found if found < expected else 'more'}")


class ContentReader:
    """Turns open files into object IDs, and into objects where there is a store.

    Small files (`MAX_SMALL_BYTES`) are taken, and have their IDs and objects when several are finished.
    """

    __slots__ = ("_confidence", "_digester", "_paths", "_small", "_store")

    def __init__(self, algorithm: Algorithm, store: ObjectSink | None) -> None:
        """Take what is used for every file.

        Args:
            algorithm: Of the digests.
            store: Where content goes, or None to compute digests only.
        """
        self._digester = FileDigester(algorithm)
        self._small = SmallFiles(algorithm)
        self._paths: list[bytes] = []
        self._store = store
        self._confidence = 0

    def has(self, object_id: ObjectID, size: int) -> bool:
        """Return whether content needs no reading once its ID and size are known."""
        return self._store is None or self._store.is_sound(object_id, size)

    @property
    def is_full(self) -> bool:
        """Whether small files must be finished before the next one is taken."""
        return self._small.is_full

    def take(self, fd: int, state: State, path: bytes) -> None:
        """Read a small file, which `finish` returns the ID of; arguments and errors are those of `read`."""
        size = state[2]
        try:
            found = self._small.take(fd, size)
        except OSError:
            # What cannot be read may be something else by now.
            check_state(state, os.fstat(fd), path)
            raise
        self._paths.append(path)
        if found != size:
            raise _size_changed(path, size, found)
        check_state(state, os.fstat(fd), path)

    def finish(self) -> list[ObjectID]:
        """Return the IDs of the small files that were taken, in this order; their objects are in the store.

        Raises:
            StoringError: Storing failed; the file is named, below the root.
        """
        contents, paths = self._small.contents(), self._paths
        object_ids = self._small.finish()
        store = self._store
        if store is not None:
            for object_id, content, path in zip(object_ids, contents, paths, strict=True):
                try:
                    stored = store.ensure_bytes(content, object_id)
                except OSError as error:
                    raise _explain(error, path) from error
                self._learn(is_new=stored.is_new)
        paths.clear()
        return object_ids

    def clear(self) -> None:
        """Forget the small files that were taken: their task has failed."""
        self._small.clear()
        self._paths.clear()

    def read(self, fd: int, state: State, path: bytes) -> ObjectID:
        """Read a whole file; its object is in the store then, if there is one.

        Args:
            fd: The file at its beginning, borrowed.
            state: What was found when the file was listed.
            path: For messages.

        Raises:
            ChangedError: It is in another state, before or after reading; nothing was stored then.
            OSError: Reading or storing failed.
        """
        size = state[2]
        store = self._store
        if store is None or size > MAX_WHOLE_BYTES:
            return self._read_long(fd, state, path)
        data = read_whole(fd, state, path)
        try:
            stored = store.ensure_bytes(data)
        except OSError as error:
            raise _explain(error, path) from error
        self._learn(is_new=stored.is_new)
        return stored.object_id

    def _read_long(self, fd: int, state: State, path: bytes) -> ObjectID:
        check_state(state, os.fstat(fd), path)
        if self._store is not None:
            return self._keep(self._store, fd, state, path)
        object_id = self._digest(fd, state[2], path)
        check_state(state, os.fstat(fd), path)
        return object_id

    def _digest(self, fd: int, size: int, path: bytes) -> ObjectID:
        object_id, found = self._digester.compute(fd, size)
        if found != size:
            raise _size_changed(path, size, found)
        return object_id

    def _learn(self, *, is_new: bool) -> None:
        step = 1 if is_new else -1
        self._confidence = max(-_MAX_CONFIDENCE, min(_MAX_CONFIDENCE, self._confidence + step))

    def _keep(self, store: ObjectSink, fd: int, state: State, path: bytes) -> ObjectID:
        """Store a large file.

        Digesting it first avoids writing an object that exists; copying it at once avoids reading it
        twice. The files before it tell which is more likely.
        """
        size = state[2]
        if self._confidence < 0:
            object_id = self._digest(fd, size, path)
            if store.is_sound(object_id, size):
                check_state(state, os.fstat(fd), path)
                return object_id
        with _storing(path):
            writer = store.create()
        with writer:
            _copy(fd, size, writer, path)
            check_state(state, os.fstat(fd), path)
            with _storing(path):
                stored = writer.commit()
        self._learn(is_new=stored.is_new)
        return stored.object_id


@contextlib.contextmanager
def _storing(path: bytes) -> Iterator[None]:
    """Distinguish failures of the store from those of the file that is read."""
    try:
        yield
    except OSError as error:
        raise _explain(error, path) from error


def _explain(error: OSError, path: bytes) -> OSError:
    if isinstance(error, CfsError):
        return error
    return StoringError(error.errno, f"{error.strerror} (storing its content)", os.fsdecode(path))


def _copy(fd: int, size: int, writer: ObjectWriter, path: bytes) -> None:
    """Pass the whole file on, in pieces through one buffer, and its holes as such."""
    buffer = memoryview(bytearray(_COPY_BYTES))
    holes = iter_holes(fd, size) if may_have_holes(os.fstat(fd)) else iter(())
    copied = 0
    for start, end in holes:
        copied = _copy_data(fd, copied, start, buffer, writer, path)
        if copied < start:
            raise _size_changed(path, size, copied)
        with _storing(path):
            writer.write_hole(end - start)
        copied = end
    copied = _copy_data(fd, copied, size + 1, buffer, writer, path)
    if copied != size:
        raise _size_changed(path, size, copied)


def _copy_data(fd: int, start: int, end: int, buffer: memoryview, writer: ObjectWriter, path: bytes) -> int:
    """Pass a part of a file on, and return where it ended."""
    while start < end and (count := os.preadv(fd, [buffer[: end - start]], start)):
        try:
            writer.write(buffer[:count])
        except OSError as error:
            raise _explain(error, path) from error
        start += count
    return start
