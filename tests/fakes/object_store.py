"""An object store in memory, as far as writers of splitstreams need one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.fsverity.merkle import compute_digest

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm, ObjectID


class Stored:
    """What became of an object."""

    def __init__(self, object_id: ObjectID) -> None:
        """Keep the ID."""
        self.object_id = object_id


class MemoryWriter:
    """An object in the making. Its descriptor is a file of its own, so that it can serve as scratch."""

    def __init__(self, store: MemoryStore) -> None:
        """Begin empty."""
        self._store = store
        self._data = bytearray()
        self._fd = -1

    @property
    def fd(self) -> int:
        """A file in memory, made when it is first asked for."""
        if self._fd < 0:
            self._fd = os.memfd_create("object")
            self._store.scratch_files += 1
            self._store.open_files += 1
        return self._fd

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Append."""
        self._data += data

    def commit(self) -> Stored:
        """Store."""
        return Stored(self._store.add(bytes(self._data)))

    def abort(self) -> None:
        """Close the file, if there is one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._store.open_files -= 1


class MemoryStore:
    """Objects by ID.

    Attributes:
        objects: What is stored.
        scratch_files: Files that were made.
        open_files: Those of them that are still open.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        """Begin empty."""
        self.algorithm = algorithm
        self.objects: dict[ObjectID, bytes] = {}
        self.scratch_files = 0
        self.open_files = 0

    def create(self) -> MemoryWriter:
        """Begin an object."""
        return MemoryWriter(self)

    def add(self, data: bytes) -> ObjectID:
        """Store an object and return its ID."""
        object_id = compute_digest(data, self.algorithm)
        self.objects[object_id] = data
        return object_id

    def open(self, object_id: ObjectID) -> int:
        """Return a descriptor of an object, owned by the caller."""
        fd = os.memfd_create("object")
        os.write(fd, self.objects[object_id])
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
