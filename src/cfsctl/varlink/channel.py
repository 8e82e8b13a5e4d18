"""The two ends of one connection: messages in and out, with the descriptors that come along."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.varlink.messages import MessageBuffer, MessageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_READ_BYTES: Final = 1 << 16
_MAX_FDS_AT_ONCE: Final = 253
"""The kernel's SCM_MAX_FD: most descriptors that one sendmsg(2) may have."""

MAX_FDS: Final = 240
"""Most descriptors of one message, as composefs-rs has it."""


class ReceivedMessage(NamedTuple):
    """A message.

    Attributes:
        data: Its bytes, without the NUL.
        fds: Descriptors that came with it, which are the receiver's.
    """

    data: bytes
    fds: list[int]


class Channel:
    """A connection: a socket, or two pipes, which cannot pass descriptors."""

    def __init__(self, read_fd: int, write_fd: int | None = None) -> None:
        """Take ownership of descriptors.

        Args:
            read_fd: Where calls come from.
            write_fd: Where replies go; None is the same.
        """
        self._read_fd = read_fd
        self._write_fd = read_fd if write_fd is None else write_fd
        self._socket = _open_socket(read_fd)
        self._buffer = MessageBuffer()
        self._fds: dict[int, list[int]] = {}
        """Descriptors that nobody took yet, by the number of their message."""

        self._ended = 0  # messages whose end was read
        self._taken = 0

    @property
    def can_pass_fds(self) -> bool:
        """Whether it can pass descriptors."""
        return self._socket is not None

    def peer_uid(self) -> int:
        """Return the user at the other end; with pipes that is this process's own."""
        if self._socket is None:
            return os.geteuid()
        credentials = array.array(
            "i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 3 * array.array("i").itemsize)
        )
        return credentials[1] & 0xFFFFFFFF

    @property
    def write_fd(self) -> int:
        """The descriptor whose hang-up says that nobody reads replies any more."""
        return self._write_fd

    def is_gone(self) -> bool:
        """Return whether nobody reads replies any more."""
        poll = select.poll()
        poll.register(self._write_fd, 0)
        return bool(poll.poll(0))

    def receive(self) -> ReceivedMessage | None:
        """Wait for the next message; None at the end.

        Raises:
            MessageError: It is too long, ends too early, or has too many descriptors.
            OSError: The connection is broken.
        """
        while (message := self._buffer.take()) is None:
            if not self._read():
                if len(self._buffer):
                    raise MessageError("connection: it ended within a message")
                return None
        fds = self._fds.pop(self._taken, [])
        self._taken += 1
        return ReceivedMessage(message, fds)

    def _read(self) -> bool:
        """Read once; return False at the end."""
        if self._socket is None:
            data = os.read(self._read_fd, _READ_BYTES)
        else:
            data, fds = self._read_with_fds(self._socket)
            self._ended += data.count(0)
            if fds:
                self._assign(fds, is_ended=data.endswith(b"\0"))
        self._buffer.feed(data)
        return bool(data)

    def _assign(self, fds: list[int], *, is_ended: bool) -> None:
        """Note which message descriptors belong to.

        The kernel never lets a read continue past bytes that have descriptors: they belong to the message
        that the last byte of this read belongs to.
        """
        self._fds.setdefault(self._ended - is_ended, []).extend(fds)
        count = sum(map(len, self._fds.values()))
        if count > MAX_FDS:
            raise MessageError(f"message: expected at most {MAX_FDS} descriptors, found {count}")

    @staticmethod
    def _read_with_fds(connection: socket.socket) -> tuple[bytes, list[int]]:
        space = socket.CMSG_SPACE(_MAX_FDS_AT_ONCE * array.array("i").itemsize)
        data, ancillary, flags, _ = connection.recvmsg(_READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) // fds.itemsize * fds.itemsize])
        if flags & socket.MSG_CTRUNC:
            close_all(fds)
            raise MessageError("message: its descriptors could not all be received")
        return data, list(fds)

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message, and wait as long as the other end does not read.

        Args:
            data: The message with its NUL.
            fds: Descriptors to pass, borrowed.

        Raises:
            OSError: The other end has gone.
        """
        rest = memoryview(data)
        if fds:
            if self._socket is None:
                raise RuntimeError("descriptors can only be passed on a socket")
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            rest = rest[self._socket.sendmsg([data], rights, socket.MSG_NOSIGNAL) :]
        while rest:
            sent = (
                os.write(self._write_fd, rest)
                if self._socket is None
                else self._socket.send(rest, socket.MSG_NOSIGNAL)
            )
            rest = rest[sent:]

    def is_ready(self) -> bool:
        """Return whether a short message can be sent without waiting."""
        poll = select.poll()
        poll.register(self._write_fd, select.POLLOUT)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close it, with all descriptors that nobody took."""
        for fds in self._fds.values():
            close_all(fds)
        self._fds.clear()
        if self._socket is not None:
            self._socket.detach()
        for fd in {self._read_fd, self._write_fd}:
            with contextlib.suppress(OSError):
                os.close(fd)


def _open_socket(fd: int) -> socket.socket | None:
    """Return a descriptor as a socket, or None if it is something else."""
    try:
        return socket.socket(fileno=fd)
    except OSError:
        return None


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
