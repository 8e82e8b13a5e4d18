"""What servers say about themselves, and what others could say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.repository.mounting.servers import Served, find_server, find_servers, publish

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVED = Served("ab" * 64, os.fsdecode(b"/m/\xff\xfc"), 12, "fuse", "/r", 5, 6)


@pytest.fixture(autouse=True)
def _name() -> Iterator[None]:
    """Give this process its name back."""
    with open("/proc/self/comm", "rb") as stream:
        before = stream.read()
    yield
    with open("/proc/self/comm", "wb") as stream:
        stream.write(before.rstrip(b"\n"))


def test_server_is_found_while_it_says_so() -> None:
    fd = publish(SERVED)
    found = find_server(os.getpid())
    assert found is not None
    assert (found.pid, found.served, found.is_trusted) == (os.getpid(), SERVED, True)
    assert found.namespace == os.readlink("/proc/self/ns/mnt")
    assert found in find_servers()
    os.close(fd)
    assert find_server(os.getpid()) is None


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"image": 5}', b"\xff", b"[" * 30_000])
def test_server_that_says_something_else(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("json.dumps", lambda _: text.decode("latin-1"))
    fd = publish(SERVED)
    assert find_server(os.getpid()) is None
    os.close(fd)


def test_process_of_another_name_is_not_looked_into() -> None:
    fd = publish(SERVED)
    with open("/proc/self/comm", "wb") as stream:
        stream.write(b"other")
    assert find_server(os.getpid()) is None
    os.close(fd)


def test_what_it_says_cannot_be_changed() -> None:
    fd = publish(SERVED)
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    os.close(fd)
