"""Protection against endless dumps.

A tree is in memory while its dump is read. An endless dump must be refused before it fills the memory. So
only the lines of a dump of usual size are passed on directly. Further lines are first written to an unnamed
file and counted.
"""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING, Final

from cfsctl import limits
from cfsctl.dumpfile.format import MAX_LINE, DumpfileError
from cfsctl.linux.error_paths import relative_to

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol, Self

    class ByteStream(Protocol):
        """What a dump is read from."""

        def read(self, size: int, /) -> bytes:
            """Return up to `size` bytes; none at the end."""


DIRECT_LINES: Final = 320_000
"""Lines that are handed on at once; a tree of so many entries takes 150 MB."""

MAX_DUMP_LINES: Final = limits.MAX_ENTRIES
MAX_DUMP_BYTES: Final = 4 << 30
"""What a dump may have; a line of a usual one has 200 bytes."""

_COPY_BYTES: Final = 1 << 20


class GuardedDump:
    """A stream that ends with an error where it has more lines than any tree.

    A context manager: leaving it lets the file go.
    """

    def __init__(self, stream: ByteStream) -> None:
        """Read nothing yet; the stream is borrowed."""
        self._stream = stream
        self._lines = 0
        self._spool: IO[bytes] | None = None

    def read(self, size: int, /) -> bytes:
        """Return the next bytes.

        Raises:
            DumpfileError: There are more lines, or bytes, than a dump may have.
            OSError: The stream cannot be read, or the file not be written.
        """
        if self._spool is not None:
            return self._spool.read(size)
        data = self._stream.read(size)
        self._lines += data.count(b"\n")
        if self._lines > DIRECT_LINES:
            self._spool = self._copy()
        return data

    def _copy(self) -> IO[bytes]:
        """Write the rest to a file; what the parser refuses anyway need not be copied to its end."""
        import tempfile  # only for very long dumps

        directory = tempfile.gettempdir()
        spool = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by `close`
        try:
            for data in self._iter_rest():
                with relative_to(directory):
                    spool.write(data)
            with relative_to(directory):
                spool.seek(0)  # writes what is left
        except BaseException:
            with contextlib.suppress(OSError):  # the same that ended it
                spool.close()
            raise
        return spool

    def _iter_rest(self) -> Iterator[bytes]:
        size = line_size = 0
        while data := self._stream.read(_COPY_BYTES):
            yield data
            size += len(data)
            self._lines += data.count(b"\n")
            line_size = len(data) - data.rfind(b"\n") - 1 + (0 if b"\n" in data else line_size)
            if self._lines > MAX_DUMP_LINES:
                raise DumpfileError(f"expected at most {MAX_DUMP_LINES} lines, found more")
            if size > MAX_DUMP_BYTES:
                raise DumpfileError(f"expected at most {MAX_DUMP_BYTES} bytes, found more")
            if line_size > MAX_LINE or b"\0" in data:
                return

    def close(self) -> None:
        """Release the file; may be called again."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def __enter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the file."""
        self.close()
