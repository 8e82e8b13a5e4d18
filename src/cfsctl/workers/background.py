"""Work in a thread of its own that overlaps with what the caller does: writing, or waiting for storage."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from cfsctl import heartbeat
from cfsctl.workers.threads import join

if TYPE_CHECKING:
    import queue
    import threading
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

T = TypeVar("T")

_DRAIN_S: Final = 0.05
"""How often a thread that is to end is polled, while there is nothing to take from it."""

_LEAVE_TIMEOUT_S: Final = 5.0
"""How long a thread that has returned may take to leave the process; a process that has any does not fork."""

QUEUE_DEPTH: Final = 8
"""Pieces that may wait; bounds memory to this many times the size of a piece."""


class BackgroundWriter:
    """Calls a function with pieces of data, in order, in a second thread.

    What the function raises is raised again by the next `write` or by `finish`.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        depth: int = QUEUE_DEPTH,
    ) -> None:
        """Start the thread."""
        import queue  # few commands have a use for it

        self._write = write
        self._queue: queue.Queue[bytes | None] = queue.Queue(depth)
        self._failure: BaseException | None = None
        self._thread = _start(self._run, "background-writer")

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            if self._failure is None:
                self._try(data)

    def _try(self, data: bytes) -> None:
        try:
            self._write(data)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that produces
            # From now on `_run` only empties the queue, so that the producer never waits for room.
            self._failure = error

    def write(self, data: bytes) -> None:
        """Queue a piece; waits while too many are waiting."""
        if self._failure is not None:
            raise self._failure
        self._queue.put(data)

    def finish(self) -> None:
        """Wait until everything is written."""
        self.abort()
        if self._failure is not None:
            raise self._failure

    def abort(self) -> None:
        """End the thread after what it has in hand; may be called again."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()


class BackgroundReader(Generic[T]):
    """Takes pieces from an iterator ahead of the caller, in a second thread.

    An iterator and a context manager: leaving it ends the thread, however many pieces are left. What the
    iterator raises is raised where its next piece would come.
    """

    def __init__(self, pieces: Iterator[T], depth: int = QUEUE_DEPTH) -> None:
        """Start the thread, which alone may use the iterator until the end."""
        import queue

        self._pieces = pieces
        self._queue: queue.Queue[T | BaseException | None] = queue.Queue(depth)
        self._is_closed = False
        self._thread = _start(self._run, "background-reader")

    def _run(self) -> None:
        try:
            for piece in self._pieces:
                self._queue.put(piece)
                if self._is_closed:
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that takes
            self._queue.put(error)
        else:
            self._queue.put(None)

    def __iter__(self) -> Iterator[T]:
        """Yield the pieces."""
        while (piece := self._queue.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self) -> None:
        """End the thread after the piece that it has in hand; may be called again."""
        import queue

        self._is_closed = True
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._queue.get(timeout=_DRAIN_S)
        self._thread.join()

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread."""
        self.close()


class BackgroundCall:
    """Calls a function in a second thread, once."""

    def __init__(self, function: Callable[[], object]) -> None:
        """Start the thread."""
        self._function = function
        self._failure: BaseException | None = None
        self._thread = _start(self._run, "background-call")

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001 - raised again by `finish`
            self._failure = error

    @property
    def is_done(self) -> bool:
        """Whether the function has returned, so that `finish` does not wait."""
        return not self._thread.is_alive()

    def finish(self) -> None:
        """Wait for the function to return, and raise what it raised."""
        while self._thread.is_alive():
            self._thread.join(heartbeat.piece(None))
            heartbeat.beat()
        join(self._thread, _LEAVE_TIMEOUT_S)
        if self._failure is not None:
            raise self._failure


def _start(function: Callable[[], None], name: str) -> threading.Thread:
    import threading  # costs milliseconds at start-up

    thread = threading.Thread(target=function, name=name, daemon=True)
    thread.start()
    return thread
