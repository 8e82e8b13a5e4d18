"""Store content of known size as an object, in constant memory.

small      gathered, and stored in one call, which finds out first whether it is there already
larger     written and digested as it comes
large      the same in a second thread, while the caller unpacks and hashes
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, cast

from cfsctl.errors import FormatError
from cfsctl.fsverity.merkle import Hasher
from cfsctl.linux.ioctls import try_clone
from cfsctl.workers import BackgroundWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.repository.objects.store import ObjectStore, ObjectWriter, StoredObject

GATHERED_BYTES: Final = 1 << 20
"""Content of at most this size is gathered in memory."""

THREADED_BYTES: Final = 8 << 20
"""From this size on a second thread pays."""

_READ_BYTES: Final = 1 << 17


class WrongSizeError(FormatError):
    """Content that is shorter or longer than was announced."""


class ContentIngest:
    """Takes one content in pieces and stores it.

    Attributes:
        size: Bytes that the content is to have.
    """

    __slots__ = ("_background", "_left", "_objects", "_parts", "_writer", "size")

    def __init__(self, objects: ObjectStore, size: int, *, may_thread: bool = False) -> None:
        """Begin.

        Args:
            objects: Where the object goes.
            size: Bytes that will come.
            may_thread: Whether a second thread may write; pieces must not change afterwards then.
        """
        self.size = size
        self._objects = objects
        self._left = size
        self._parts: list[bytes | memoryview] = []
        self._writer: ObjectWriter | None = None
        self._background: BackgroundWriter | None = None
        if size > GATHERED_BYTES:
            self._writer = objects.create()
            if may_thread and size >= THREADED_BYTES:
                self._background = BackgroundWriter(self._writer.write)

    @property
    def is_complete(self) -> bool:
        """Whether all bytes have come."""
        return not self._left

    def write(self, data: bytes | memoryview) -> None:
        """Process the next bytes, which are not copied and must not change.

        Raises:
            WrongSizeError: There are more than were announced.
            OSError: As write(2).
        """
        self._left -= len(data)
        if self._left < 0:
            raise WrongSizeError(f"expected {self.size} bytes of content, found more")
        if self._background is not None:
            self._background.write(cast("bytes", data))  # any immutable bytes will do
        elif self._writer is not None:
            self._writer.write(data)
        else:
            self._parts.append(data)

    def finish(self) -> StoredObject:
        """Store the object.

        Raises:
            WrongSizeError: Bytes are missing.
            OSError: It is not in the store then.
        """
        if self._left:
            raise WrongSizeError(f"expected {self.size} bytes of content, found {self.size - self._left}")
        if self._background is not None:
            self._background.finish()
            self._background = None
        if self._writer is not None:
            return self._writer.commit()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        return self._objects.ensure_bytes(data)

    def abort(self) -> None:
        """Release everything; may be called again and after `finish`."""
        if self._background is not None:
            self._background.abort()
            self._background = None
        if self._writer is not None:
            self._writer.abort()


def ingest_clone(
    objects: ObjectStore,
    source: int,
    size: int,
    observe: Callable[[bytes], object],
    confirm: Callable[[], None],
) -> StoredObject | None:
    """Store a file as a clone of an open one, which shares its blocks where the file system can.

    It takes no space then. The clone is digested, not the source: the source could be changed at any
    time.

    Args:
        objects: Where the object goes.
        source: The open file, borrowed.
        size: Bytes that it is to have.
        observe: Called with the content of the clone, in pieces.
        confirm: Called afterwards; raises if the object must not be stored.

    Returns:
        None if blocks cannot be shared; nothing has been stored then.

    Raises:
        WrongSizeError: It has another size.
        OSError: As read(2), or the clone could not be stored.
    """
    with objects.begin() as file:
        if not try_clone(file.fd, source):
            return None
        actual = os.fstat(file.fd).st_size
        if actual != size:
            raise WrongSizeError(f"expected {size} bytes of content, found {actual}")
        object_id = _digest(objects.algorithm, file.fd, size, observe)
        confirm()
        return objects.publish(file, object_id, size)


def _digest(algorithm: Algorithm, fd: int, size: int, observe: Callable[[bytes], object]) -> ObjectID:
    """Return the object ID of an open file, and pass its content on."""
    hasher = Hasher(algorithm)
    background = BackgroundWriter(hasher.update) if size >= THREADED_BYTES else None
    update = hasher.update if background is None else background.write
    try:
        position = 0
        while chunk := os.pread(fd, _READ_BYTES, position):
            update(chunk)
            observe(chunk)
            position += len(chunk)
    finally:
        if background is not None:
            background.finish()
    return hasher.digest()
