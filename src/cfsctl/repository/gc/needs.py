"""Which refs need which objects, by the directories that objects are in, so that one is in memory at a time.

A record is the number of a ref and eight bytes of an ID, after the one that its directory is named for.
Records are kept in memory while they are few, and then go to a temporary file without a name.
"""

from __future__ import annotations

import os
import struct
import tempfile
from typing import IO, TYPE_CHECKING, Final, Self

from cfsctl.linux.files import write_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.digest import ObjectID

PART: Final = slice(1, 9)
"""What of an ID is in a record."""

_RECORD = struct.Struct("<8sI")
_FAN_OUT: Final = 256
_MOST_IN_MEMORY: Final = 48 << 20
"""Bytes of records that are kept in memory."""


class Needs:
    """Records of what refs need; to be closed, or used in a `with` statement."""

    def __init__(self) -> None:
        """Start empty."""
        self._parts = [bytearray() for _ in range(_FAN_OUT)]
        self._size = 0
        self._file: IO[bytes] | None = None
        self._written: list[list[tuple[int, int]]] = [[] for _ in range(_FAN_OUT)]

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.close()

    def add(self, number: int, object_ids: Iterable[ObjectID]) -> None:
        """Record that a ref needs objects, each given once.

        Raises:
            OSError: There is no room for a temporary file.
        """
        parts, tail = self._parts, struct.pack("<I", number)
        count = 0
        for object_id in object_ids:
            parts[object_id[0]] += object_id[PART] + tail
            count += 1
        self._size += count * _RECORD.size
        if self._size > _MOST_IN_MEMORY:
            self._write()

    def records(self, first: int) -> list[tuple[bytes, int]]:
        """Return the records of a directory: a part of each ID, and the number of the ref.

        Args:
            first: First byte of the IDs.
        """
        return [record for piece in self._iter_pieces(first) for record in _RECORD.iter_unpack(piece)]

    def _iter_pieces(self, first: int) -> Iterator[bytes | bytearray]:
        for offset, size in self._written[first]:
            assert self._file is not None
            yield os.pread(self._file.fileno(), size, offset)
        yield self._parts[first]

    def _write(self) -> None:
        """Move all records that are in memory to the file."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `__exit__`
        for first, part in enumerate(self._parts):
            self._written[first].append((self._file.tell(), len(part)))
            write_all(self._file.fileno(), part)
            part.clear()
        self._size = 0
