"""Starts cfsctl from a process that has imported it already, which takes a fraction of the time.

Half of the processor time of a test that runs a command goes to starting Python and importing the program.
What a user sees is the same: arguments, environment, streams, working directory, umask and exit status. The
process that serves has no threads and opens nothing; each command runs in a child of its own. Where that
would not be the same, because of a variable that Python itself reads, for example, `run` says so by returning
None. With CFSCTL_TESTS_REAL in the environment it always does.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.support.warm_server import REQUEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ROOT: Final = Path(__file__).parents[2]
_CHUNK_BYTES: Final = 1 << 16
_AT_START: Final = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_", "TZ", "OPENSSL_", "SSL_", "GNUTLS_")
"""Beginnings of the names of variables that Python or a library reads once, when it starts."""


class _Server:
    """The process that starts commands, and what is sent to it."""

    def __init__(self) -> None:
        self.identity = _identity(os.environ)
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            subprocess.run(
                [sys.executable, "-m", "tests.support.warm_server"],
                stdin=theirs.fileno(),
                cwd=_ROOT,
                check=True,
            )

    def close(self) -> None:
        """End it."""
        self._socket.close()

    @contextlib.contextmanager
    def own(self) -> Iterator[bool]:
        """Reserve it for one command; the result is whether that is possible."""
        is_ours = self._lock.acquire(blocking=False)
        try:
            yield is_ours
        finally:
            if is_ours:
                self._lock.release()

    def start(self, request: bytes, descriptors: Sequence[int]) -> int:
        """Start a command and return its process ID."""
        socket.send_fds(self._socket, [request], descriptors)
        return self._receive()

    def wait(self) -> int:
        """Return how the command that was started last has ended."""
        return self._receive()

    def _receive(self) -> int:
        if not (data := self._socket.recv(100)):
            raise ConnectionError("the process that starts commands has ended")
        return int(data)


_server: _Server | None = None


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Start commands of this process from one that has imported the program, for now."""
    global _server  # noqa: PLW0603 - one for each process
    if "CFSCTL_TESTS_REAL" in os.environ:
        yield
        return
    _server = _Server()
    try:
        yield
    finally:
        _server.close()
        _server = None


def _identity(variables: Mapping[str, str]) -> tuple[object, ...]:
    """Return what a process gets from its parent once and for all."""
    read_at_start = {name: value for name, value in variables.items() if name.startswith(_AT_START)}
    return os.getpid(), os.getresuid(), os.getresgid(), read_at_start


def run(
    command: Sequence[str | Path],
    *,
    cwd: str | Path | None,
    stdin: bytes | int | None,
    env: Mapping[str, str] | None,
    limits: Mapping[int, int],
    timeout_s: float,
    stdout: int | None = None,
) -> subprocess.CompletedProcess[bytes] | None:
    """Run a command and return how it has ended and what it has printed, or None if it cannot be done here.

    Args:
        command: The path of its script, and its arguments.
        cwd: Its working directory, ours unless it is given.
        stdin: What it reads from a pipe, or a descriptor of what it reads; None for /dev/null.
        env: All of its environment, ours unless it is given.
        limits: Resources of setrlimit(2) and how much of each it may have.
        timeout_s: When it is killed.
        stdout: A descriptor of what it writes to; a pipe unless it is given.

    Raises:
        subprocess.TimeoutExpired: It was killed.
    """
    variables = os.environ if env is None else env
    if _server is None or _server.identity != _identity(variables):
        return None
    words = [os.fsdecode(argument) for argument in command]
    request = json.dumps(
        {
            "arguments": words,
            "environment": dict(variables),
            "umask": _umask(),
            "limits": list(limits.items()),
        }
    ).encode()
    with _server.own() as is_ours:
        if not is_ours or len(request) > REQUEST_BYTES:
            return None
        with _Pipes(cwd or ".", stdin, stdout) as pipes:
            pid = _server.start(request, pipes.theirs)
            try:
                out, err = pipes.communicate(time.monotonic() + timeout_s)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                _server.wait()
                raise subprocess.TimeoutExpired(words, timeout_s) from None
            return subprocess.CompletedProcess(command, _server.wait(), out, err)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


class _Pipes:
    """The standard streams of a command: our ends, and, until it has them, its ends."""

    def __init__(self, place: str | Path, data: bytes | int | None, out: int | None) -> None:
        self._data = memoryview(data if isinstance(data, bytes) else b"")
        self._inputs: list[int] = []
        self._outputs: list[int] = []
        self.theirs: list[int] = []
        if isinstance(data, bytes):
            self._add(self._inputs, *os.pipe())
        else:
            self.theirs.append(os.open(os.devnull, os.O_RDONLY) if data is None else os.dup(data))
        if out is None:
            self._add(self._outputs, *reversed(os.pipe()))
        else:
            self.theirs.append(os.dup(out))
        self._add(self._outputs, *reversed(os.pipe()))
        self.theirs.append(os.open(place, os.O_PATH | os.O_DIRECTORY))

    def _add(self, ends: list[int], theirs: int, ours: int) -> None:
        self.theirs.append(theirs)
        ends.append(ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hand_over()
        for ends in (self._inputs, self._outputs):
            while ends:
                os.close(ends.pop())

    def _hand_over(self) -> None:
        while self.theirs:
            os.close(self.theirs.pop())

    def communicate(self, deadline_s: float) -> tuple[bytes, bytes]:
        """Write and read until the command has closed its ends."""
        self._hand_over()
        found: dict[int, list[bytes]] = {fd: [] for fd in self._outputs}
        with selectors.DefaultSelector() as selector:
            for fd in found:
                selector.register(fd, selectors.EVENT_READ)
            for fd in self._inputs:
                os.set_blocking(fd, False)
                selector.register(fd, selectors.EVENT_WRITE)
            while selector.get_map():
                ready = selector.select(max(0, deadline_s - time.monotonic()))
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    is_open = self._read(key.fd, found[key.fd]) if key.fd in found else self._write(key.fd)
                    if not is_open:
                        selector.unregister(key.fd)
        *out, err = (b"".join(chunks) for chunks in found.values())
        return b"".join(out), err

    def _read(self, fd: int, chunks: list[bytes]) -> bool:
        chunk = os.read(fd, _CHUNK_BYTES)
        chunks.append(chunk)
        return bool(chunk)

    def _write(self, fd: int) -> bool:
        """Write what fits; close the pipe after the last byte, or if nobody reads it."""
        try:
            self._data = self._data[os.write(fd, self._data) if self._data else 0 :]
        except BrokenPipeError:
            self._data = memoryview(b"")
        if self._data:
            return True
        self._inputs.remove(fd)
        os.close(fd)
        return False
