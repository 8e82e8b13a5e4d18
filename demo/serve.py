"""Serve a directory on 127.0.0.1 at a free port, and print the port."""

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class QuietHandler(SimpleHTTPRequestHandler):
    """Serve files without a log line for each."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


def main() -> None:
    """Serve until the process is ended."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=sys.argv[1]))
    print(server.server_port, flush=True)  # noqa: T201 - the port is the program's result
    server.serve_forever()


if __name__ == "__main__":
    main()
