"""Web servers of tests, each in a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

_POLL_S: Final = 0.02
"""How long the end of a server may take at most; its answers do not wait for this."""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves the files of a directory, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Log nothing: tests compare standard error."""


@contextlib.contextmanager
def serve(handler: Callable[..., BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Yield the URL, without a final slash, of a server that has its requests handled so."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def serve_directory(
    path: Path, handler: type[SimpleHTTPRequestHandler] = QuietHandler
) -> contextlib.AbstractContextManager[str]:
    """Yield the URL of a server with the files of a directory."""
    return serve(partial(handler, directory=str(path)))
