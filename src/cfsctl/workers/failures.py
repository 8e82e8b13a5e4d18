"""Errors of workers."""

from __future__ import annotations

from cfsctl.errors import CfsError


class WorkerDiedError(CfsError):
    """A worker process ended while it had work to do."""


class WorkerFailedError(CfsError):
    """A handler raised something that cannot travel between processes; the text says what."""


def note_traceback(error: Exception) -> None:
    """Store where an unexpected error happened, which the parent's traceback cannot show."""
    import traceback  # only for defects of our own

    error.add_note("In a worker process:\n" + "".join(traceback.format_exception(error)))
