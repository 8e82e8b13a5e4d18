"""The way of any error from a worker to the parent."""

from __future__ import annotations

import io
import pickle
import sys
from typing import TYPE_CHECKING, cast

from cfsctl.workers.failures import WorkerFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    _Reduction = tuple[Callable[..., BaseException], tuple[object, ...]]


class _ErrorPickler(pickle.Pickler):
    """Pickles exceptions by their state: classes with a signature of their own do not pickle otherwise."""

    def reducer_override(self, value: object) -> _Reduction:
        if not isinstance(value, BaseException):
            return cast("_Reduction", NotImplemented)
        system = (
            (value.errno, value.strerror, value.filename, value.filename2)
            if isinstance(value, OSError)
            else None
        )
        cause = value.__cause__
        if cause is not None and not _can_travel(type(cause)):
            cause = WorkerFailedError(f"{type(cause).__name__}: {cause}")
        return _rebuild_error, (type(value), value.args, value.__dict__, cause, system)


def _can_travel(kind: type) -> bool:
    """Return whether a class can be found by its name; some of extension modules cannot."""
    return getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind


def dump_error(error: BaseException) -> bytes:
    """Return an exception as bytes that unpickle to it, with its cause and attributes."""
    stream = io.BytesIO()
    try:
        _ErrorPickler(stream, pickle.HIGHEST_PROTOCOL).dump(error)
        pickle.loads(stream.getbuffer())  # noqa: S301 - our own, to see that the parent will manage
        return stream.getvalue()
    except Exception:  # noqa: BLE001 - whatever it was, the parent must hear of the failure
        return pickle.dumps(WorkerFailedError(f"{type(error).__name__}: {error}"))


def _rebuild_error(
    kind: type[BaseException],
    args: tuple[object, ...],
    state: dict[str, object],
    cause: BaseException | None,
    system: tuple[int | None, str | None, object, object] | None,
) -> BaseException:
    """Make the exception again without calling its constructor."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    error.__cause__ = cause
    if system is not None and isinstance(error, OSError):
        error.errno, error.strerror, error.filename, error.filename2 = system
    return error
