"""Make the three standard streams safe to use, even if some of them are closed.

A closed stream is treated as if it led to /dev/null, as composefs-rs does, but a closed standard input cannot
be read. A failure on standard output is reported as an error. A failure on standard error is ignored, since
it cannot be reported, and the work continues.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from _typeshed import ReadableBuffer, WriteableBuffer

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2

LOCALE_MARK: Final = "cfsctl-locale"
"""An option of the interpreter (-X): it is in UTF-8 mode although the locale has another encoding."""

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_CHUNK_BYTES: Final = 1 << 20


class StandardStreamError(CfsError):
    """A standard stream cannot be read or written."""


class StreamFullError(StandardStreamError):
    """A standard stream is a file, and its file system is full."""

    exit_code = ExitCode.NO_SPACE


def prepare_streams() -> None:
    """Open missing standard streams; must be called before the program opens any other file.

    Afterwards no file that is opened can get the number of a standard stream.
    """
    for fd in (_STDIN, _STDOUT, _STDERR):
        _occupy(fd)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(_Input(_STDIN)), "utf-8", "surrogateescape")
    sys.stdout = _text_writer(_Output(_STDOUT))
    sys.stderr = _text_writer(_ErrorOutput(_STDERR))


def silence_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush cannot fail."""
    try:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, _STDOUT)
        os.close(null)
    except OSError:  # nothing is left to write to, and nothing more to do about it
        return


def iter_stdin() -> Iterator[bytes]:
    """Yield what comes from standard input, in chunks."""
    read: Callable[[int], bytes] = stdin_bytes().read
    while chunk := read(_CHUNK_BYTES):
        yield chunk


def stdin_bytes() -> BinaryIO:
    """Return standard input; what fails while it is read names it."""
    return sys.stdin.buffer


def _occupy(fd: int) -> None:
    """Open this descriptor if it is closed; all lower ones must be open."""
    try:
        os.fstat(fd)
    except OSError:
        try:
            # Also for standard input: who reads it is to get an error, not an empty document.
            os.open(os.devnull, os.O_WRONLY)
        except OSError:
            os.open("/", os.O_PATH)  # neither to be read nor written


def _text_writer(stream: _Stream) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(stream), _encoding(), "backslashreplace", newline="\n")


def _encoding() -> str:
    """Return the encoding for text: PYTHONIOENCODING's, else the locale's, of those that contain ASCII."""
    name = os.environ.get("PYTHONIOENCODING", "").partition(":")[0]
    if not name and LOCALE_MARK in sys._xoptions:  # noqa: SLF001 - has no other name
        import locale

        name = locale.getencoding()
    try:
        codec = codecs.lookup(name or "utf-8")
        if codec.name != "ascii" and codec.encode("a\\\n")[0] == b"a\\\n":
            return codec.name
    except (LookupError, ValueError):
        pass
    return "utf-8"


class _Stream(io.RawIOBase):
    """A descriptor, which stays open; unlike `io.FileIO` it may also be one of a directory."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)


class _Input(_Stream):
    """Reads; an error names the stream."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            return os.readv(self._fd, [buffer])
        except OSError as error:
            raise StandardStreamError(f"reading standard input: {error.strerror}") from error


class _Output(_Stream):
    """Writes; an error names the stream, unless it is that the reader has gone."""

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return os.write(self._fd, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            kind = StreamFullError if error.errno in _NO_SPACE else StandardStreamError
            raise kind(f"writing to standard output: {error.strerror}") from error


class _ErrorOutput(_Stream):
    """Writes what it can; a message that cannot be written does not stop the work."""

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return os.write(self._fd, data)
        except OSError:
            return memoryview(data).nbytes


def flush_streams() -> bool:
    """Write out what is buffered; return whether that worked."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return False
    return True
