"""Many clients at once, some of which disappear: no reply is lost, and nothing remains of them."""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.programs import run_cfsctl
from tests.support.varlink import OCI, REPOSITORY, SERVICE, TIMEOUT_S, running_service
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.varlink import Service

CONNECTIONS = 200
LONG_S = 60

CALLS: list[tuple[str, dict[str, Any], str]] = [
    (f"{OCI}.ListImages", {}, "images"),
    (f"{OCI}.Inspect", {"image": "site"}, "manifest"),
    (f"{OCI}.HasLayer", {"diff_id": f"sha256:{'1' * 64}"}, "present"),
    (f"{REPOSITORY}.ListImageRefs", {}, "images"),
    (f"{REPOSITORY}.ImageObjects", {"name": "plain"}, "object_ids"),
    (f"{REPOSITORY}.Fsck", {"metadata_only": True}, "ok"),
    (f"{SERVICE}.GetInfo", {}, "interfaces"),
]
"""Methods, parameters besides the handle, and what the reply must have."""


class Caller:
    """One client after the other on a slot."""

    def __init__(self, service: Service, repository: Path, seed: int) -> None:
        self._service = service
        self._repository = repository
        self._random = random.Random(seed)
        self.answered = self.abandoned = 0
        self.connect()

    def connect(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT_S)  # the queue of the service may be full
        self.socket.connect(os.fspath(self._service.address))
        self._buffer = b""
        self._handle: int | None = None
        self._left = self._random.randrange(1, 12)
        self._send(f"{REPOSITORY}.OpenRepository", {"path": os.fspath(self._repository)}, "handle")

    def _send(self, method: str, parameters: dict[str, Any], expected: str) -> None:
        self._expected = expected
        self.socket.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")

    def read(self) -> bool:
        """Take what has come; return whether this client is done."""
        data = self.socket.recv(1 << 16)
        assert data, "a reply was lost"
        self._buffer += data
        if not self._buffer.endswith(b"\0"):
            return False
        reply = json.loads(self._buffer[:-1])
        self._buffer = b""
        assert self._expected in reply["parameters"], reply
        self.answered += 1
        if self._handle is None:
            self._handle = reply["parameters"]["handle"]
        if not self._left:
            return True
        self._left -= 1
        method, parameters, expected = self._random.choice(CALLS)
        own = {} if method.startswith(SERVICE) else {"handle": self._handle}
        self._send(method, parameters | own, expected)
        if self._random.random() < 0.1:  # killed before it can read the reply
            self.abandoned += 1
            return True
        return False


def drive(service: Service, repository: Path, is_over: Callable[[int], bool]) -> tuple[int, int]:
    """Keep all slots busy until enough replies have come; return replies, and clients that disappeared."""
    callers = [Caller(service, repository, seed) for seed in range(CONNECTIONS)]
    with selectors.DefaultSelector() as selector:
        for caller in callers:
            selector.register(caller.socket, selectors.EVENT_READ, caller)
        while not is_over(sum(caller.answered for caller in callers)):
            ready = selector.select(TIMEOUT_S)
            assert ready, "no reply came"
            for key, _ in ready:
                if key.data.read():
                    selector.unregister(key.data.socket)
                    key.data.socket.close()
                    key.data.connect()
                    selector.register(key.data.socket, selectors.EVENT_READ, key.data)
    for caller in callers:
        caller.socket.close()
    return sum(caller.answered for caller in callers), sum(caller.abandoned for caller in callers)


def resident_kib(pid: int) -> int:
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")
    )
    return int(line.split()[1])


def wait_until_idle(service: Service) -> None:
    """Wait until every connection so far was accepted, served and closed.

    Connections are accepted in turn. So once one more is answered, none of those that clients have abandoned
    waits in the queue any more.
    """
    with service.connect() as client:
        client.call(f"{SERVICE}.GetInfo")
    wait_until(lambda: not service.processes())


def count_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def check(tmp_path: Path, repository: Path, is_over: Callable[[int], bool]) -> None:
    with running_service(tmp_path) as service:
        pid = service.process.pid
        wait_until_idle(service)
        before = count_descriptors(pid)
        drive(service, repository, lambda answered: answered >= CONNECTIONS)
        wait_until_idle(service)
        wait_until(lambda: count_descriptors(pid) == before)
        first_kib = resident_kib(pid)
        answered, abandoned = drive(service, repository, is_over)
        assert answered >= CONNECTIONS
        assert abandoned
        wait_until_idle(service)
        wait_until(lambda: count_descriptors(pid) == before)
        assert resident_kib(pid) - first_kib < 8 << 10
        locked = run_cfsctl("--repo", repository, "--lock-timeout", "0", "gc")
        assert locked.returncode == 0, locked.stderr
        with service.connect() as client:
            assert client.call(f"{REPOSITORY}.Fsck", handle=client.open(repository)).parameters["ok"]


def test_clients_that_disappear_leave_nothing(tmp_path: Path, repository: Path) -> None:
    check(tmp_path, repository, lambda answered: answered >= 3 * CONNECTIONS)


@pytest.mark.deep
def test_a_minute_of_clients_that_disappear(tmp_path: Path, repository: Path) -> None:
    end_s = time.monotonic() + LONG_S
    check(tmp_path, repository, lambda _: time.monotonic() >= end_s)
