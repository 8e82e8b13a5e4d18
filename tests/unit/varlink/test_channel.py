"""Messages and their descriptors on sockets and pipes."""

from __future__ import annotations

import array
import os
import socket
from typing import TYPE_CHECKING

import pytest

from cfsctl.varlink.channel import MAX_FDS, Channel
from cfsctl.varlink.messages import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Channel]]:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    with ours:
        yield ours, channel
    channel.close()


def send(connection: socket.socket, data: bytes, count: int = 0) -> None:
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    connection.sendmsg([data], rights)
    for fd in fds:
        os.close(fd)


def receive(channel: Channel) -> tuple[bytes, int]:
    message = channel.receive()
    assert message is not None
    for fd in message.fds:
        os.close(fd)
    return message.data, len(message.fds)


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_belong_to_the_message_that_they_came_with(ends: tuple[socket.socket, Channel]) -> None:
    ours, channel = ends
    for data, count in ((b"a", 0), (b"b", 2), (b"c", 0), (b"d", 0), (b"e", 1), (b"f", 3), (b"g", 0)):
        send(ours, data + b"\0", count)
    found = [receive(channel) for _ in range(7)]
    assert found == [(b"a", 0), (b"b", 2), (b"c", 0), (b"d", 0), (b"e", 1), (b"f", 3), (b"g", 0)]


def test_a_message_in_pieces_keeps_its_descriptors(ends: tuple[socket.socket, Channel]) -> None:
    ours, channel = ends
    send(ours, b"first\0sec", 1)
    send(ours, b"ond", 1)
    send(ours, b"\0third\0")
    assert [receive(channel) for _ in range(3)] == [(b"first", 0), (b"second", 2), (b"third", 0)]
    ours.close()
    assert channel.receive() is None


def test_too_many_descriptors_end_the_connection_and_are_closed() -> None:
    before = open_fds()
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    for _ in range(MAX_FDS // 100 + 1):
        send(ours, b"x", 100)
    with pytest.raises(MessageError, match=f"at most {MAX_FDS} descriptors"):
        channel.receive()
    channel.close()
    ours.close()
    assert open_fds() == before


def test_an_end_within_a_message_is_an_error(ends: tuple[socket.socket, Channel]) -> None:
    ours, channel = ends
    ours.sendall(b"half")
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(MessageError, match="within a message"):
        channel.receive()


def test_the_other_end_has_gone_when_it_is_closed_and_not_when_it_only_sends_no_more(
    ends: tuple[socket.socket, Channel],
) -> None:
    ours, channel = ends
    assert channel.peer_uid() == os.geteuid()
    assert not channel.is_gone()
    ours.shutdown(socket.SHUT_WR)
    assert not channel.is_gone()
    channel.send(b"reply\0")
    assert ours.recv(16) == b"reply\0"
    ours.close()
    assert channel.is_gone()
    with pytest.raises(OSError):  # noqa: PT011 - broken pipe, or reset
        channel.send(b"reply\0")


def test_pipes_pass_messages_only() -> None:
    calls, replies = os.pipe(), os.pipe()
    channel = Channel(calls[0], replies[1])
    os.write(calls[1], b"a\0")
    assert receive(channel) == (b"a", 0)
    channel.send(b"b\0")
    assert os.read(replies[0], 16) == b"b\0"
    assert not channel.can_pass_fds
    with pytest.raises(RuntimeError):
        channel.send(b"c\0", [0])
    os.close(replies[0])
    assert channel.is_gone()
    os.close(calls[1])
    assert channel.receive() is None
    channel.close()
