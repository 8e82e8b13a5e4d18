"""Progress and cancellation as programs see them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, ParamSpec, TypeAlias, TypeVar, cast

from cfsctl import heartbeat
from cfsctl.errors import CfsError
from cfsctl.progress import Event, Waiting, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.progress import Reporter

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Progress: TypeAlias = Callable[[Event], object]
"""Called with each event, several times a second; if it raises, the operation ends with that error."""

_IS_GENERATOR: Final = 0x20
"""Flag of the code of a generator function; `inspect`, which has a name for it, is slow to import."""


class CancelledError(CfsError):
    """For progress callbacks that end an operation and have no error of their own to raise."""

    def __init__(self, message: str = "cancelled", *, hint: str | None = None) -> None:
        """Take a message, which is rarely needed."""
        super().__init__(message, hint=hint)


class Cancellation:
    """Ends operations from another thread, or from a signal handler; passed to them as their `progress`.

        cancellation = cfsctl.Cancellation(show)
        threading.Timer(60, cancellation.cancel).start()
        repository.pull(url, ref, progress=cancellation)

    An operation ends with `CancelledError` within a fifth of a second, also while a server is silent.
    """

    __slots__ = ("_progress", "is_cancelled")

    def __init__(self, progress: Progress | None = None) -> None:
        """Pass events on to a callback, if one is given."""
        self._progress = progress
        self.is_cancelled = False

    def cancel(self) -> None:
        """End every operation that has this as its `progress`, also those that begin later."""
        self.is_cancelled = True

    def __call__(self, event: Event, /) -> None:
        """Take an event.

        Raises:
            CancelledError: The operation is to end.
        """
        if self.is_cancelled:
            raise CancelledError
        if self._progress is not None:
            self._progress(event)


class _Relay:
    """Passes events to a callback; once it has raised an error, every event raises it again.

    So an operation that recovers from an error, as a pull does from a broken delta, ends all the same.
    """

    __slots__ = ("_progress", "_raised")

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._raised: BaseException | None = None

    def __call__(self, event: Event, /) -> None:
        if self._raised is not None:
            raise self._raised
        try:
            self._progress(event)
        except BaseException as error:
            self._raised = error
            heartbeat.end()
            raise

    def beat(self) -> None:
        self(Waiting())


def make_reporter(progress: Progress | None) -> Reporter:
    """Return a reporter that passes events to a callback, and keeps raising what it has raised."""
    if progress is None:
        return silent
    return progress if isinstance(progress, _Relay) else _Relay(progress)


def cancellable(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that calls its `progress` several times a second while it waits.

    Args:
        function: Has a keyword argument `progress`, a `Progress` or None; it may be a generator function.
    """
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _IS_GENERATOR:
        return _cancellable_generator(function)

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        relay = _relay(options)
        if relay is None:
            return function(*arguments, **options)
        with heartbeat.watched(relay.beat):
            return function(*arguments, **options)

    return call


def _cancellable_generator(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        relay = _relay(options)
        if relay is None:
            return function(*arguments, **options)
        items = cast("Iterator[object]", function(*arguments, **options))
        return cast("R", _iter_watched(items, relay))

    return call


def _iter_watched(items: Iterator[T], relay: _Relay) -> Iterator[T]:
    """Yield what an operation yields; its own steps are watched, but not what the caller does between."""
    end = object()
    try:
        while True:
            with heartbeat.watched(relay.beat):
                item = next(items, end)
            if item is end:
                return
            yield cast("T", item)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _relay(options: dict[str, object]) -> _Relay | None:
    """Replace the callback among keyword arguments by one that goes on raising; return it."""
    progress = options.get("progress")
    if progress is None:
        return None
    relay = options["progress"] = make_reporter(cast("Progress", progress))
    return cast("_Relay", relay)
