"""Handle termination signals and the time limit: end within a second, and print what was left behind.

The first SIGINT, SIGTERM or SIGHUP, or the end of the time limit, unwinds the program, so that temporary
files are removed and workers end. Threads that wait too long for a server or a disk are abandoned: when the
timeout expires, the process just ends. Every operation is safe against that, as against a power failure.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from types import FrameType

SIGNAL_BASE: Final = 128
"""Added to the number of a signal, this is the exit status of a program that it ended."""

_PATIENCE_S: Final = 0.7
"""Time to unwind."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)

TIME_LIMIT_STATUS: Final = 124
"""Exit status when the time limit is over, as that of timeout(1)."""

_REASONS: Final = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "ended by SIGTERM",
    signal.SIGHUP: "ended by SIGHUP",
    signal.SIGALRM: "not done within the time that --timeout gives",
}

_KEPT: Final = {
    "pull": "what was fetched and verified is kept; run the same command again to go on from there",
    "pull-local": "what was copied and verified is kept; run the same command again to go on from there",
    "apply-delta": "objects that were made are kept; run the same command again to go on from there",
    "create-image": "files that were stored are kept; run the same command again, which stores the others",
    "import-image": "nothing got a name yet; run the same command again",
    "import-layer": "nothing got a name yet; run the same command again",
    "commit": "objects that were stored are kept; run the same command again",
    "copy": "objects that were copied are kept; run the same command again to go on from there",
    "export": "objects that were written are kept; run the same command again to go on from there",
    "gc": "only garbage was removed; run it again to remove the rest",
    "mkcomposefs": "no image was written; run the same command again",
    "fsck": "what was found so far is not shown; run it again",
}
"""What remains of a command that was cut short, and how to go on."""


class TerminatedError(BaseException):
    """A signal asked the program to end; raised so that everything unwinds and cleans up."""

    def __init__(self, signal_number: int) -> None:
        """Store the number of the signal."""
        super().__init__(signal_number)
        self.signal_number = signal_number


class Interruption:
    """Waits for the signals that end a program, from when it is made until `close`."""

    def __init__(self, tell_last: Callable[[int], None]) -> None:
        """Catch the signals, except those that were ignored when the program was started.

        Args:
            tell_last: Called with the number of the signal when the time to unwind is up.
        """
        self._tell_last = tell_last
        self._closed: threading.Event | None = None
        self._turn: threading.Lock | None = None
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._begin)

    def close(self) -> None:
        """Stop the clock, if it runs."""
        if self._closed is not None:
            self._closed.set()

    def take_turn(self) -> None:
        """Return if nothing was told yet; otherwise the process is about to end, and this never returns.

        Two threads may want to tell at the same time, when unwinding takes about as long as it may.
        """
        while self._turn is not None and not self._turn.acquire(blocking=False):
            signal.pause()

    def _begin(self, number: int, _frame: FrameType | None) -> None:
        if self._closed is not None:
            return  # told before: the clock runs
        import threading  # costs milliseconds at start-up

        self._turn = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, args=(number, os.getpid()), daemon=True).start()
        raise TerminatedError(number)

    def _watch(self, number: int, pid: int) -> None:
        assert self._closed is not None
        assert self._turn is not None
        is_late = not self._closed.wait(_PATIENCE_S)
        if is_late and os.getpid() == pid and self._turn.acquire(blocking=False):
            self._tell_last(number)
            end_at_once(number)


def limit_time(seconds: float) -> None:
    """End the program when this time has passed, as a signal would; 0 is no limit."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def status_of(number: int) -> int:
    """Return the exit status of a program that this signal has ended."""
    return TIME_LIMIT_STATUS if number == signal.SIGALRM else SIGNAL_BASE + number


def end_at_once(number: int) -> NoReturn:
    """End the process, without waiting for any thread."""
    os._exit(status_of(number))


def closing_line(number: int, command: str | None) -> str | None:
    """Return what is said last: what was kept, and how to go on; None if there is nothing to say.

    Args:
        number: The signal.
        command: Name of the command that ran, if it got that far.
    """
    kept = _KEPT.get(command or "")
    reason = _REASONS[signal.Signals(number)]
    if kept is None:
        return reason if number == signal.SIGALRM else None
    return f"{reason}: {kept}"
