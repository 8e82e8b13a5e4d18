"""A varlink client, and the service that it talks to."""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.programs import CFSCTL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

TIMEOUT_S = 120
"""Only a guard."""

REPOSITORY = "org.composefs.Repository"
OCI = "org.composefs.Oci"
SERVICE = "org.varlink.service"


class Answer(NamedTuple):
    """All replies to one call."""

    frames: list[dict[str, Any]]
    fds: list[list[int]]
    is_closed: bool

    @property
    def last(self) -> dict[str, Any]:
        return self.frames[-1]

    @property
    def parameters(self) -> dict[str, Any]:
        assert "error" not in self.last, self.last
        found: dict[str, Any] = self.last.get("parameters", {})
        return found

    @property
    def error(self) -> str:
        found: str = self.last["error"]
        return found

    def all_fds(self) -> list[int]:
        return [fd for frame in self.fds for fd in frame]


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(TIMEOUT_S)
        self._buffer = b""

    @classmethod
    def connect(cls, path: Path | str) -> Self:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(os.fspath(path))
        return cls(connection)

    def send(self, request: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        message = json.dumps(request).encode() + b"\0"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([message], rights)

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """Return the next reply with its descriptors, or None at the end."""
        fds = array.array("i")
        while b"\0" not in self._buffer:
            data, ancillary, _, _ = self.socket.recvmsg(1 << 16, socket.CMSG_SPACE(253 * fds.itemsize))
            for _, _, content in ancillary:
                fds.frombytes(content)
            if not data:
                return None, list(fds)
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message), list(fds)

    def request(self, request: Mapping[str, Any], fds: Sequence[int] = ()) -> Answer:
        """Send a call, and return all replies; the caller closes their descriptors."""
        self.send(request, fds)
        frames: list[dict[str, Any]] = []
        all_fds: list[list[int]] = []
        while True:
            frame, received = self.receive()
            if frame is None:
                return Answer(frames, all_fds, is_closed=True)
            frames.append(frame)
            all_fds.append(received)
            if not frame.get("continues"):
                return Answer(frames, all_fds, is_closed=False)

    def call(
        self, method: str, *, more: bool = False, fds: Sequence[int] = (), **parameters: object
    ) -> Answer:
        request: dict[str, Any] = {"method": method, "parameters": parameters}
        return self.request(request | ({"more": True} if more else {}), fds)

    def open(self, path: Path | str) -> int:
        """Open a repository, and return its handle."""
        handle: int = self.call(f"{REPOSITORY}.OpenRepository", path=os.fspath(path)).parameters["handle"]
        return handle

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Service(NamedTuple):
    """A service that runs."""

    process: subprocess.Popen[bytes]
    address: Path

    def connect(self) -> Client:
        return Client.connect(self.address)

    def processes(self) -> list[int]:
        """Return the processes of connections."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(path, encoding="ascii") as children:
            return [int(pid) for pid in children.read().split()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)


@contextlib.contextmanager
def running_service(
    directory: Path, *options: str, name: str = "socket", prefix: Sequence[str] = ()
) -> Iterator[Service]:
    """Run a service in a directory until the block ends; `prefix` is a program that starts it."""
    address = directory / name
    process = subprocess.Popen(
        [*prefix, os.fspath(CFSCTL), *options, "varlink", "--address", os.fspath(address)],
        cwd=directory,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()  # which comes once it listens
        assert b"serving" in line, line
        yield Service(process, address)
    finally:
        process.terminate()
        with process:
            process.wait(TIMEOUT_S)


def start_passed(arguments: Sequence[str], fd: int, names: str | None = None) -> subprocess.Popen[bytes]:
    """Start cfsctl the way systemd does, with a descriptor as number 3."""
    program = (
        "import os, sys; fd = int(sys.argv[1]); os.dup2(fd, 3); os.set_inheritable(3, True);"
        "os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"
    )
    environment = {**os.environ, "LISTEN_FDS": "1"} | ({} if names is None else {"LISTEN_FDNAMES": names})
    command = [sys.executable, "-c", program, str(fd), os.fspath(CFSCTL), *arguments]
    return subprocess.Popen(command, pass_fds=[fd], env=environment, stderr=subprocess.PIPE)


@contextlib.contextmanager
def passed_service(
    directory: Path, arguments: Sequence[str] = (), names: str | None = None
) -> Iterator[Path]:
    """Run a service on a socket that is passed on to it; yield the address."""
    address = directory / "passed"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(address))
        listener.listen()
        process = start_passed(arguments, listener.fileno(), names)
        with process:
            try:
                yield address
            finally:
                process.terminate()
            assert process.wait(TIMEOUT_S) == 0


def wait_for_gone(connection: socket.socket) -> None:
    """Wait until the other end has closed a connection."""
    connection.settimeout(TIMEOUT_S)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1 << 16):
            pass
