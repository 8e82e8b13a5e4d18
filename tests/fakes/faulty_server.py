"""A web server that does what it is told, right or wrong.

A test says what happens on a path as a list of reactions, one for each request; the last one stays.
Paths without reactions are files below the server's root, or 404.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import struct
import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self, TypeAlias

    from tests.support.certificates import Certificate

    Reaction: TypeAlias = "Callable[[Exchange], bool]"

_STALL_S = 3600.0
_CHUNK = bytes(16384)
_TLS_HANDSHAKE = b"\x16"


class Exchange:
    """One request, and the ways to answer it. A reaction returns whether the connection stays open."""

    def __init__(self, connection: socket.socket, stopped: threading.Event, path: str) -> None:
        self.connection = connection
        self.path = path
        self._stopped = stopped

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def send_head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def wait(self, seconds: float) -> bool:
        """Sleep, and return whether the server still runs."""
        return not self._stopped.wait(seconds)


def respond(body: bytes = b"", status: int = 200, **headers: str) -> Reaction:
    """Answer properly; underscores in names of headers stand for hyphens."""

    def react(exchange: Exchange) -> bool:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        exchange.send_head(status, {"Content-Length": str(len(body)), **fields})
        exchange.send(body)
        return True

    return react


def redirect(location: str, status: int = 302) -> Reaction:
    return respond(b"elsewhere", status, Location=location)


def announce(length: int, body: bytes) -> Reaction:
    """Send a body that has another length than the header says, and hang up."""

    def react(exchange: Exchange) -> bool:
        exchange.send_head(200, {"Content-Length": str(length)})
        exchange.send(body)
        return False

    return react


def unannounced(body: bytes) -> Reaction:
    """Send a body whose end is the end of the connection."""

    def react(exchange: Exchange) -> bool:
        exchange.send_head(200, {"Connection": "close"})
        exchange.send(body)
        return False

    return react


def endless(body: bytes = b"") -> Reaction:
    """Send a body that goes on with zeros for ever."""

    def react(exchange: Exchange) -> bool:
        exchange.send_head(200, {"Connection": "close"})
        exchange.send(body)
        while exchange.wait(0):
            exchange.send(_CHUNK)
        return False

    return react


def drip(body: bytes, pause_s: float) -> Reaction:
    """Send a body byte by byte."""

    def react(exchange: Exchange) -> bool:
        exchange.send_head(200, {"Content-Length": str(len(body))})
        for value in body:
            exchange.send(bytes([value]))
            if not exchange.wait(pause_s):
                return False
        return True

    return react


def send_raw(data: bytes) -> Reaction:
    """Send bytes as they are, and hang up."""

    def react(exchange: Exchange) -> bool:
        exchange.send(data)
        return False

    return react


def send_on_and_on(data: bytes, piece: bytes, pause_s: float = 0.02, times: int = 2000) -> Reaction:
    """Send bytes as they are, and then the same piece again and again."""

    def react(exchange: Exchange) -> bool:
        exchange.send(data)
        for _ in range(times):
            exchange.send(piece)
            if not exchange.wait(pause_s):
                break
        return False

    return react


def stall(body: bytes | None = None, length: int = 0) -> Reaction:
    """Fall silent after a part of the body, or before the header if there is none."""

    def react(exchange: Exchange) -> bool:
        if body is not None:
            exchange.send_head(200, {"Content-Length": str(length)})
            exchange.send(body)
        exchange.wait(_STALL_S)
        return False

    return react


def reset(body: bytes | None = None, length: int = 0) -> Reaction:
    """Reset the connection after a part of the body, or before the header if there is none."""

    def react(exchange: Exchange) -> bool:
        if body is not None:
            exchange.send_head(200, {"Content-Length": str(length)})
            exchange.send(body)
            exchange.wait(0.05)  # so that the bytes are read before the reset drops them
        exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        exchange.connection.close()
        return False

    return react


class _TCPServer(socketserver.ThreadingTCPServer):
    daemon_threads = False  # closing the server waits for them
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that hangs up is what many tests are about."""


class FaultyServer:
    """A server on the loopback interface; a context manager.

    Attributes:
        url: Its root, without a slash at the end.
        counts: Requests for each path.
        seen: Header fields of each request by lower-case name, by path.
        bodies: Bodies of requests that had one, by path.
        peers: Where the last request for each path came from.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        certificate: Certificate | None = None,
        client: Certificate | None = None,
    ) -> None:
        """Serve by TLS if there is a certificate, and ask clients for theirs if that is given."""
        self.counts: Counter[str] = Counter()
        self.seen: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
        self.bodies: defaultdict[str, list[bytes]] = defaultdict(list)
        self.peers: dict[str, object] = {}
        self._root = root
        self._reactions: dict[str, list[Reaction]] = {}
        self._connections: list[socket.socket] = []
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate.path, certificate.key_path)
            if client is not None:
                self._context.verify_mode = ssl.CERT_REQUIRED
                self._context.load_verify_locations(client.path)
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._serve(self.request)

        self._server = _TCPServer(("127.0.0.1", 0), Handler)
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def on(self, path: str, *reactions: Reaction) -> str:
        """Say what happens on a path; return its URL."""
        self._reactions[path] = list(reactions)
        return self.url + path

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.append(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
            with self._lock:
                self._connections.append(connection)
        with connection, connection.makefile("rb") as reader:
            if reader.peek(1)[:1] == _TLS_HANDSHAKE:
                # What follows need not have an end of a line, which would be waited for.
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                return
            while (line := reader.readline()).strip():
                path = line.split()[1].decode()
                headers: dict[str, str] = {}
                while field := reader.readline().decode().strip():
                    name, _, value = field.partition(":")
                    headers[name.lower()] = value.strip()
                self.peers[path] = connection.getpeername()
                body = reader.read(int(headers.get("content-length", "0")))
                if body:
                    self.bodies[path].append(body)
                reaction = self._choose(path, headers)
                if not reaction(Exchange(connection, self._stopped, path)):
                    return

    def _choose(self, path: str, headers: dict[str, str]) -> Reaction:
        with self._lock:
            self.counts[path] += 1
            self.seen[path].append(headers)
            reactions = self._reactions.get(path)
            if reactions is None:
                return self._find_file(path)
            return reactions.pop(0) if len(reactions) > 1 else reactions[0]

    def _find_file(self, path: str) -> Reaction:
        file = None if self._root is None else self._root / unquote(path).lstrip("/")
        if file is None or not file.is_file():
            return respond(b"no such file", 404)
        return respond(file.read_bytes())
