"""Work beside the calling thread: forked worker processes, and a second thread for what only waits."""

from __future__ import annotations

from cfsctl.workers.background import BackgroundCall, BackgroundWriter
from cfsctl.workers.failures import WorkerDiedError, WorkerFailedError
from cfsctl.workers.fork_call import call_beside
from cfsctl.workers.pool import WorkerPool, default_worker_count, is_fork_safe

__all__ = [
    "BackgroundCall",
    "BackgroundWriter",
    "WorkerDiedError",
    "WorkerFailedError",
    "WorkerPool",
    "call_beside",
    "default_worker_count",
    "is_fork_safe",
]
