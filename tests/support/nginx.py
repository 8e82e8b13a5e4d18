"""A real web server for tests: nginx on the loopback interface, with a configuration of its own."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.certificates import Certificate

_START_TIMEOUT_S = 120.0
_RANDOM = random.SystemRandom()  # Hypothesis makes all workers draw the same numbers from the usual one.

_CONFIGURATION = """
daemon off;
master_process off;
pid {work}/nginx.pid;
error_log {work}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format requests '$server_protocol $status $request_uri';
    access_log {work}/access.log requests;
    default_type application/octet-stream;
    keepalive_requests 1000000;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{
        listen 127.0.0.1:{port}{listen};
        root "{root}";
        {extra}
    }}
}}
"""


class Nginx:
    """A running server.

    Attributes:
        url: Its root, without a slash at the end.
    """

    def __init__(self, url: str, work: Path) -> None:
        self.url = url
        self._work = work

    def read_requests(self) -> list[tuple[str, int, str]]:
        """Return (protocol, status, path) of the requests so far, in the order in which they ended."""
        lines = (self._work / "access.log").read_text().splitlines()
        return [(protocol, int(status), path) for protocol, status, path in map(str.split, lines)]


_PORTS = range(20_000, 32_768)
"""Ports that the kernel gives to nobody who asks for any, so that none is taken before the server has it."""


def find_free_port() -> int:
    """Return a port that nobody listens on, and that hardly anybody will take."""
    while True:
        port = _RANDOM.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def run_nginx(
    root: Path, work: Path, *, certificate: Certificate | None = None, extra: str = ""
) -> Iterator[Nginx]:
    """Serve a directory; skips the test where there is no nginx.

    Args:
        root: What is served.
        work: An existing directory for the server's own files.
        certificate: Serve by TLS and HTTP/2 with this one.
        extra: Lines for the server's block.
    """
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed (package nginx-light)")
    port = find_free_port()
    if certificate is not None:
        extra += f"ssl_certificate {certificate.path}; ssl_certificate_key {certificate.key_path};"
    configuration = work / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            work=work, root=root, port=port, extra=extra, listen="" if certificate is None else " ssl http2"
        )
    )
    command = ["nginx", "-c", str(configuration), "-p", str(work), "-e", str(work / "error.log")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            _await_port(process, port)
            yield Nginx(f"{'http' if certificate is None else 'https'}://127.0.0.1:{port}", work)
        finally:
            process.terminate()


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"nginx did not start on port {port} (exit status {process.returncode})")
        time.sleep(0.02)
