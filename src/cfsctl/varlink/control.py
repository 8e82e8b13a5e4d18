"""How the process of a connection asks the supervisor about handles: one request and one answer at a time."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Final

from cfsctl.varlink.registry import HandleRecord

if TYPE_CHECKING:
    from cfsctl.varlink.registry import Owner, Registry

_MAX_BYTES: Final = 1 << 16


class RemoteHandles:
    """The handles of this connection, which the supervisor knows; see `HandleStore`."""

    def __init__(self, control: socket.socket) -> None:
        """Borrow the connection to the supervisor."""
        self._control = control

    def open(self, record: HandleRecord) -> int | None:
        """Return a new handle for a repository, or None if this connection has too many."""
        answer = self._ask("open", record)
        return answer if isinstance(answer, int) else None

    def find(self, handle: int) -> HandleRecord | None:
        """Return what a handle stands for, or None if this connection may not use it."""
        answer = self._ask("find", handle)
        return HandleRecord(*answer) if isinstance(answer, list) else None

    def close(self, handle: int) -> bool:
        """Forget a handle; return False if this connection may not use it."""
        return self._ask("close", handle) is True

    def _ask(self, verb: str, argument: object) -> object:
        # Paths are kept as they are: names that are not UTF-8 become surrogates, which ASCII JSON can hold.
        self._control.send(json.dumps([verb, argument]).encode())
        answer = self._control.recv(_MAX_BYTES)
        if not answer:
            raise ConnectionError("the varlink service has ended")
        found: object = json.loads(answer)
        return found


def answer(control: socket.socket, registry: Registry, owner: Owner) -> bool:
    """Answer one request of a connection; return False if there is none, because it has ended."""
    try:
        request = control.recv(_MAX_BYTES)
    except OSError:
        return False
    if not request:
        return False
    verb, argument = json.loads(request)
    found: object
    if verb == "open":
        found = registry.open(owner, HandleRecord(*argument))
    elif verb == "find":
        found = registry.find(owner, argument)
    else:
        found = registry.close(owner, argument)
    try:
        control.send(json.dumps(found).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True
