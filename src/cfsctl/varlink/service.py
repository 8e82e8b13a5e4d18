"""The ways to serve: at an address, on what was passed on, or on standard input and output."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.varlink.channel import Channel
from cfsctl.varlink.sockets import BoundSocket, take_passed
from cfsctl.varlink.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from cfsctl.varlink.options import ServiceOptions


def serve_address(
    address: str, options: ServiceOptions, when_ready: Callable[[], object] = lambda: None
) -> None:
    """Make a socket, and serve until the process is told to end.

    Args:
        address: Path of the socket.
        options: How repositories are opened.
        when_ready: Called once clients can connect.

    Raises:
        AddressError: No socket can have this address.
        AddressInUseError: There is something already.
        OSError: The kernel refuses.
    """
    bound = BoundSocket(address)
    try:
        when_ready()
        Supervisor([bound.listener], options).run()
    finally:
        bound.close()


def serve_passed(environment: MutableMapping[str, str], options: ServiceOptions) -> None:
    """Serve on the sockets that were passed on, as systemd does; see `take_passed`.

    Raises:
        ActivationError: One of them is of no use.
    """
    passed = take_passed(environment)
    channels = [Channel(connection.detach()) for connection in passed.connections]
    Supervisor(passed.listeners, options).run(channels)


def serve_stdio(options: ServiceOptions) -> None:
    """Serve one client on standard input and output, where nothing else must be written then."""
    channel = Channel(os.dup(0), os.dup(1))
    Supervisor([], options).run([channel])
