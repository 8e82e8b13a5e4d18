"""From the stream back to an archive's pieces: bytes in, pieces out, in bounded memory however they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.dirfdstream.format import INLINE, MAX_INLINE_BYTES, MAX_NAME_BYTES, REFERENCE, Tag
from cfsctl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator


class DirfdStreamError(FormatError):
    """Bytes that are not such a stream."""


class FileReference(NamedTuple):
    """The content of a file stands here.

    Attributes:
        size: Bytes that it has.
        directory: Number of the directory.
        name: Its path there, which nobody has checked.
    """

    size: int
    directory: int
    name: bytes


class StreamDecoder:
    """Takes a stream apart."""

    def __init__(self) -> None:
        """Start empty."""
        self._head = bytearray()  # of a piece, as long as it is not complete
        self._left = 0  # bytes of the current piece that are still to come
        self._reference: tuple[int, int, int] | None = None

    def feed(self, data: bytes) -> Iterator[memoryview | FileReference]:
        """Take the next bytes, and yield the pieces in them; all must be taken.

        Raises:
            DirfdStreamError: They are not valid.
        """
        view = memoryview(data)
        while view:
            if self._left:
                piece = view[: self._left]
                self._left -= len(piece)
                view = view[len(piece) :]
                yield piece
                continue
            wanted = self._wanted() - len(self._head)
            self._head += view[:wanted]
            view = view[wanted:]
            found = self._take_head()
            if found is not None:
                yield found

    def _wanted(self) -> int:
        """Return how many bytes the head has, as far as is known."""
        if not self._head:
            return 1
        if self._head[0] != Tag.REFERENCE:
            return INLINE.size
        return REFERENCE.size if self._reference is None else REFERENCE.size + self._reference[2]

    def _take_head(self) -> FileReference | None:
        """Deal with a head that may be complete; return the reference that it is."""
        if self._head[0] > Tag.REFERENCE:
            raise DirfdStreamError(
                f"splitdirfdstream read error: unknown chunk type byte 0x{self._head[0]:02x}"
            )
        if self._head[0] != Tag.REFERENCE:
            if len(self._head) == INLINE.size:
                self._begin_inline(INLINE.unpack(self._head)[1])
            return None
        if len(self._head) < REFERENCE.size:
            return None
        if self._reference is None:
            self._reference = self._parse_reference()
        size, directory, name_length = self._reference
        if len(self._head) < REFERENCE.size + name_length:
            return None
        name = bytes(self._head[REFERENCE.size :])
        self._head.clear()
        self._reference = None
        return FileReference(size, directory, name)

    def _begin_inline(self, length: int) -> None:
        if length > MAX_INLINE_BYTES:
            raise DirfdStreamError(
                f"splitdirfdstream read error: expected at most {MAX_INLINE_BYTES} bytes, found {length}"
            )
        self._head.clear()
        self._left = length

    def _parse_reference(self) -> tuple[int, int, int]:
        _, size, directory, name_length = REFERENCE.unpack(self._head)
        if not 0 < name_length <= MAX_NAME_BYTES:
            raise DirfdStreamError(
                f"splitdirfdstream read error: expected a name of 1 to {MAX_NAME_BYTES} bytes,"
                f" found {name_length}"
            )
        if size >= 1 << 63:
            raise DirfdStreamError(
                f"splitdirfdstream read error: expected less than 2^63 bytes, found {size}"
            )
        return size, directory, name_length

    def finish(self) -> None:
        """Check that the stream may end here.

        Raises:
            DirfdStreamError: It ends within a piece.
        """
        if self._head or self._left:
            raise DirfdStreamError("splitdirfdstream read error: it ends too early")
