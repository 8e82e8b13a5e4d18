"""Progress and cancellation as programs see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from cfsctl.errors import CfsError
from cfsctl.progress import Event, silent

if TYPE_CHECKING:
    from cfsctl.progress import Reporter

Progress: TypeAlias = Callable[[Event], object]
"""Called with each event; if it raises, the operation ends with that error."""


class CancelledError(CfsError):
    """For progress callbacks that end an operation and have no error of their own to raise."""

    def __init__(self, message: str = "cancelled", *, hint: str | None = None) -> None:
        """Take a message, which is rarely needed."""
        super().__init__(message, hint=hint)


def make_reporter(progress: Progress | None) -> Reporter:
    """Return what passes events to a callback; once that has raised, it raises the same again and again.

    So an operation that recovers from an error, as a pull does from a broken delta, ends all the same.
    """
    if progress is None:
        return silent
    raised: list[BaseException] = []

    def report(event: Event, /) -> None:
        if raised:
            raise raised[0]
        try:
            progress(event)
        except BaseException as error:
            raised.append(error)
            raise

    return report
