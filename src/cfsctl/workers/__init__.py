"""Work outside of the calling thread: forked worker processes, and a second thread for what only waits."""

from __future__ import annotations

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
