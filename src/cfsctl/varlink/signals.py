"""How the call of a connection is ended from outside: by signals of the supervisor, which unwind it."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

GONE: Final = signal.SIGUSR1
"""Tells that the client has gone."""

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class CallEndedError(BaseException):
    """The client has gone, or the service ends; raised so that everything unwinds and cleans up."""


class CallSignals:
    """Turns signals into the end of a call.

    Attributes:
        is_gone: Whether the client has gone.
        is_ending: Whether the service ends.
    """

    def __init__(self) -> None:
        """Catch the signals."""
        self.is_gone = False
        self.is_ending = False
        self._is_interruptible = False
        self._ends_with_client = False
        for number in (GONE, *_ENDING):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == GONE:
            self.is_gone = True
        else:
            self.is_ending = True
        self._check()

    def _check(self) -> None:
        if self._is_interruptible and (self.is_ending or (self.is_gone and self._ends_with_client)):
            self._is_interruptible = False  # once: what unwinds must not be disturbed
            raise CallEndedError

    @contextlib.contextmanager
    def interruptible(self, *, with_client: bool) -> Iterator[None]:
        """Let signals end the block.

        Args:
            with_client: Also end it if the client has gone. Clients do not wait for calls without a reply.

        Raises:
            CallEndedError: A signal has come, also before the block.
        """
        self._ends_with_client = with_client
        self._is_interruptible = True
        try:
            self._check()
            yield
        finally:
            self._is_interruptible = False
