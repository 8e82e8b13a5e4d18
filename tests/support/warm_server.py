"""Runs cfsctl in children of a process that has imported it already.

Started by `tests.support.warm`, with a socket as its standard input. Each request is a JSON document with the
descriptors of the standard streams and of the working directory; the answers are the number of the child,
and how it ended.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import socket
import sys
from importlib import import_module

from tests.support import disk

MODULES = (
    "cfsctl.cli.app",
    "cfsctl.cli.encoding",
    "cfsctl.cli.errors",
    "cfsctl.cli.interruption",
    "cfsctl.cli.main",
    "cfsctl.cli.options.groups",
    "cfsctl.library.repository",
    "cfsctl.ostree.store.refs",
    "cfsctl.repository.setup.init",
    "cfsctl.splitstream",
    "cfsctl.tree.transform",
)
"""What most commands import; the rest is imported by whichever command needs it."""

REQUEST_BYTES = 1 << 20
DESCRIPTORS = 4


def serve(control: socket.socket) -> dict[str, object] | None:
    """Answer requests until nobody asks any more.

    Returns:
        In a child, what it has to run; in the server itself, None.
    """
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, DESCRIPTORS)
        if not data:
            return None
        pid = os.fork()
        if pid == 0:
            control.close()
            _take_over(descriptors)
            request: dict[str, object] = json.loads(data)
            return request
        for fd in descriptors:
            os.close(fd)
        control.send(b"%d" % pid)
        control.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _take_over(descriptors: list[int]) -> None:
    """Make descriptors the standard streams and the working directory of this process."""
    *streams, place = descriptors
    os.fchdir(place)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    for fd in descriptors:
        os.close(fd)


def main() -> int:
    """Serve; in each child, run cfsctl as its script would."""
    if os.fork():
        return 0  # No child of the tests, some of which look for children that were left behind.
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    for name in MODULES:
        import_module(name)
    disk.skip_waiting()
    gc.freeze()
    request = serve(control)
    if request is None:
        return 0
    sys.argv = list(request["arguments"])  # type: ignore[call-overload]  # a list of strings
    os.umask(int(request["umask"]))  # type: ignore[call-overload]  # a number
    for kind, limit in request["limits"]:  # type: ignore[attr-defined]  # a list of pairs
        resource.setrlimit(kind, (limit, limit))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]  # a dictionary of strings
    from cfsctl.cli.main import main as run  # in the child, as the script does

    return run()


if __name__ == "__main__":
    sys.exit(main())
