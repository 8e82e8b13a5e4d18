"""Deadlines and strict checks for responses, which the standard library lacks against hostile servers.

`http.client` applies its timeout to each read. A server that sends a byte now and then can block it forever,
in a head, in interim responses (1xx), in chunk extensions or in trailers. Here, the whole head has one
deadline, and after that only bytes of the body extend the deadline. The head is also checked for errors that
the library would overlook or guess at.
"""

from __future__ import annotations

import http.client
import io
import re
import time
from typing import TYPE_CHECKING, Any, Final, cast

import urllib3
import urllib3.connection

from cfsctl.http.answer import MAX_LENGTH, parse_length

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from cfsctl.http.fetcher import Limits

_BUFFER_BYTES: Final = 64 << 10

_MAX_HEAD_BYTES: Final = 300 << 10
_MAX_HEAD_LINES: Final = 5000
"""Of one answer with all interim answers before it; libcurl's limits."""

_MAX_CHUNK_LINE_BYTES: Final = 16 << 10

_MAX_IDLE_BYTES: Final = 1 << 20
_IDLE_PER_BODY_BYTE: Final = 16
"""What may come next to a body: this much, and more for each byte of it; chunks of one byte take 6."""

_PROTOCOL: Final = b"HTTP/"
_LINE_ENDS: Final = frozenset({b"\r\n", b"\n"})
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[^\n]*)?\r?\n")
_FRAMING: Final = re.compile(
    rb"(content-length|transfer-encoding|connection|proxy-connection|keep-alive):", re.IGNORECASE
)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)( [^\r\n\0]*)?\r?\n", re.IGNORECASE)
_CONTENT_LENGTHS: Final = re.compile(rb"content-length:[ \t]*(.*?)[ \t]*\r?\n", re.IGNORECASE)
_ENCODINGS: Final = re.compile(rb"transfer-encoding:[ \t]*(.*?)[ \t]*\r?\n", re.IGNORECASE)


class MalformedHeadError(Exception):
    """A head that is not HTTP, or contradicts itself; becomes a `MalformedAnswerError` in `client`."""


class ChunkError(http.client.HTTPException):
    """A body whose chunks are none; as with a body that breaks off, another try may bring a better one."""


class Pace:
    """Says when the next byte is due, and refuses a body that comes too slowly for too long."""

    def __init__(self, limits: Limits, deadline_s: float) -> None:
        """Give the head of an answer until `deadline_s`."""
        self._limits = limits
        self._due_s = deadline_s
        self._end_s = time.monotonic() + limits.exchange_timeout_s
        self._since_s = 0.0
        self._in_window = 0

    def begin_body(self) -> None:
        """Start the clock of the body."""
        self._open_window(time.monotonic())

    def _open_window(self, now_s: float) -> None:
        limits = self._limits
        self._since_s, self._in_window = now_s, 0
        self._due_s = now_s + min(limits.stall_timeout_s, limits.low_speed_time_s)

    def count(self, size: int) -> None:
        """Record bytes of the body."""
        now_s = time.monotonic()
        limits = self._limits
        window_s = now_s - self._since_s
        self._in_window += size
        if self._in_window >= limits.low_speed_bytes_per_s * max(window_s, limits.low_speed_time_s):
            self._open_window(now_s)
        else:
            self._due_s = min(now_s + limits.stall_timeout_s, self._since_s + limits.low_speed_time_s)

    def wait_s(self) -> float:
        """Return how long to wait for the next byte.

        Raises:
            TimeoutError: No longer.
        """
        now_s = time.monotonic()
        left_s = min(self._due_s, self._end_s) - now_s
        if left_s <= 0:
            raise TimeoutError(self.describe(now_s))
        return left_s

    def describe(self, now_s: float) -> str:
        """Return what has gone wrong when time is up."""
        if now_s >= self._end_s:
            return f"not complete after {self._limits.exchange_timeout_s:.0f} s"
        if not self._since_s:
            return "the head of the answer did not come in time"
        return (
            f"less than {self._limits.low_speed_bytes_per_s} bytes a second for {now_s - self._since_s:.0f} s"
        )


class _Wire(io.RawIOBase):
    """The bytes of one answer, each read within the time that the pace leaves."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        super().__init__()
        self._sock = sock
        # The raw reader keeps the socket open for as long as the answer is read.
        self._raw = cast("io.RawIOBase", sock.makefile("rb", buffering=0))
        self.pace = Pace(limits, time.monotonic() + (sock.gettimeout() or limits.stall_timeout_s))
        self._room = _MAX_IDLE_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:  # noqa: ANN401 - any writable buffer
        if self._room <= 0:
            raise MalformedHeadError("the server sends too much data outside of the body")
        self._sock.settimeout(self.pace.wait_s())
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError as error:
            raise TimeoutError(self.pace.describe(time.monotonic())) from error
        self._room -= count or 0
        return count

    def count(self, size: int) -> None:
        """Record bytes of the body."""
        self._room += size * (1 + _IDLE_PER_BODY_BYTE)
        self.pace.count(size)

    def close(self) -> None:
        self._raw.close()
        super().close()


class GuardedResponse(http.client.HTTPResponse):
    """An answer that is read under a clock, and whose head is checked first.

    Attributes:
        lines: The head as it came.
    """

    def __init__(self, limits: Limits, sock: socket.socket, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as http.client has it
        """Read nothing yet."""
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.wire = _Wire(sock, limits)
        self.fp = io.BufferedReader(self.wire, _BUFFER_BYTES)
        self.lines: list[bytes] = []

    def begin(self) -> None:
        """Read the head of the final answer, and pass over interim ones.

        Raises:
            MalformedHeadError: It is invalid.
        """
        if self.lines:
            return
        wire = self.fp
        self.lines = _read_head(wire)
        self.fp = cast("io.BufferedReader", io.BytesIO(b"".join(self._select_lines())))
        try:
            super().begin()
        finally:
            self.fp = wire
        self.wire.pace.begin_body()

    def _select_lines(self) -> Iterator[bytes]:
        """Yield what the library needs of the head; it takes no more than 100 fields."""
        yield self.lines[0]
        for line in self.lines[1:-1]:
            if _FRAMING.match(line) and not _is_overlong(line):
                yield line
        yield b"\r\n"

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        """Yield a chunked body, in pieces of `size` at most; the library is lenient with the framing.

        Format: RFC 9112, 7.1.

        Raises:
            ChunkError: It is not chunked.
            IncompleteRead: The connection ended.
        """
        reader = self.fp
        while left := _parse_chunk_size(_read_line(reader)):
            while left:
                data = reader.read1(min(left, size))
                if not data:
                    raise http.client.IncompleteRead(b"", left)
                left -= len(data)
                self.wire.count(len(data))
                yield data
            if _read_line(reader) not in _LINE_ENDS:
                raise ChunkError("a chunk of the body is longer than announced")
        while _read_line(reader) not in _LINE_ENDS:
            pass


def _read_line(reader: io.BufferedReader) -> bytes:
    line = reader.readline(_MAX_CHUNK_LINE_BYTES)
    if len(line) >= _MAX_CHUNK_LINE_BYTES:
        raise ChunkError("a line between the chunks of the body is too long")
    if not line.endswith(b"\n"):
        raise http.client.IncompleteRead(b"")
    return line


def _parse_chunk_size(line: bytes) -> int:
    match = _CHUNK_SIZE.match(line)
    if match is None:
        raise ChunkError(f"expected the size of a chunk of the body, found {line[:64]!r}")
    return int(match[1], 16)


def _is_overlong(line: bytes) -> bool:
    found = _CONTENT_LENGTHS.fullmatch(line)
    return found is not None and (parse_length(found[1].decode("latin-1")) or 0) > MAX_LENGTH


def _read_head(reader: io.BufferedReader) -> list[bytes]:
    """Return the lines of the first head that is not that of an interim answer."""
    room = _MAX_HEAD_BYTES
    count = 0
    while True:
        lines: list[bytes] = []
        while not lines or lines[-1] not in _LINE_ENDS:
            line = reader.readline(room + 1)
            room -= len(line)
            count += 1
            if room < 0 or count > _MAX_HEAD_LINES:
                raise MalformedHeadError("the headers of the response are too large")
            if not lines and not line[: len(_PROTOCOL)].upper().startswith(_PROTOCOL[: len(line)]):
                raise MalformedHeadError(f"expected a status line of HTTP/1, found {line[:64]!r}")
            if not line.endswith(b"\n"):
                raise http.client.RemoteDisconnected(
                    "the connection ended within the headers of the response"
                )
            lines.append(line)
        status = _check_head(lines)
        # 101 changes the protocol, so that no other answer follows.
        if status >= 200 or status == 101:
            lines[0] = _PROTOCOL + lines[0][len(_PROTOCOL) :]
            return lines


def _check_head(lines: list[bytes]) -> int:
    """Return the status of a head.

    Raises:
        MalformedHeadError: It is not a response head, or its fields contradict each other or the request.
    """
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise MalformedHeadError(f"expected a status line of HTTP/1, found {lines[0][:64]!r}")
    for line in lines[1:-1]:
        if b"\0" in line or b"\r" in line[:-2] or (b":" not in line and line[:1] not in b" \t"):
            raise MalformedHeadError(f"expected a header field, found {line[:64]!r}")
    block = lines[1:-1]
    _check_lengths(
        [
            part
            for line in block
            if (found := _CONTENT_LENGTHS.fullmatch(line))
            for part in found[1].split(b",")
        ]
    )
    encodings = [found[1].lower() for line in block if (found := _ENCODINGS.fullmatch(line))]
    if any(
        part.strip() not in {b"chunked", b"identity", b""} for text in encodings for part in text.split(b",")
    ):
        raise MalformedHeadError(
            f"the body has the transfer encoding {b', '.join(encodings)[:64]!r}, unasked"
        )
    return int(match[1])


def _check_lengths(texts: list[bytes]) -> None:
    lengths = {text.strip() for text in texts}
    for text in lengths:
        if not text.isdigit():
            raise MalformedHeadError(f"expected a length of the body, found {text[:64]!r}")
    if len(lengths) > 1:
        raise MalformedHeadError("the response has two different content lengths")


def make_pools(limits: Limits) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """Return the kinds of connections, by scheme, whose answers are guarded."""

    def respond(sock: socket.socket, *args: Any, **options: Any) -> GuardedResponse:  # noqa: ANN401 - as http.client has it
        return GuardedResponse(limits, sock, *args, **options)

    class Connection(urllib3.connection.HTTPConnection):
        response_class = staticmethod(respond)  # type: ignore[assignment]  # it is only called

    class SecureConnection(urllib3.connection.HTTPSConnection):
        response_class = staticmethod(respond)  # type: ignore[assignment]  # it is only called

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}
