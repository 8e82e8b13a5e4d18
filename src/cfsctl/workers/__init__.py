"""Work outside of the calling thread: forked worker processes, and a second thread for what only waits.

Each name is imported when it is first used: those who need one of the modules can do without the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cfsctl.processors import default_worker_count
    from cfsctl.workers.background import BackgroundCall, BackgroundReader, BackgroundWriter
    from cfsctl.workers.failures import WorkerDiedError, WorkerFailedError
    from cfsctl.workers.fork_call import run_in_fork
    from cfsctl.workers.pool import WorkerPool, is_fork_safe

__all__ = [
    "BackgroundCall",
    "BackgroundReader",
    "BackgroundWriter",
    "WorkerDiedError",
    "WorkerFailedError",
    "WorkerPool",
    "default_worker_count",
    "is_fork_safe",
    "run_in_fork",
]

_MODULES: Final = {
    "BackgroundCall": "cfsctl.workers.background",
    "BackgroundReader": "cfsctl.workers.background",
    "BackgroundWriter": "cfsctl.workers.background",
    "WorkerDiedError": "cfsctl.workers.failures",
    "WorkerFailedError": "cfsctl.workers.failures",
    "WorkerPool": "cfsctl.workers.pool",
    "default_worker_count": "cfsctl.processors",
    "is_fork_safe": "cfsctl.workers.pool",
    "run_in_fork": "cfsctl.workers.fork_call",
}


def __getattr__(name: str) -> object:
    """Import a name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value
