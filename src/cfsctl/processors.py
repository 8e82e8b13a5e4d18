"""The processors of this machine; apart from what starts workers, which takes longer to import."""

from __future__ import annotations

import os
from typing import Final

_MAX_DEFAULT_WORKERS: Final = 8
"""More workers than this are not started unasked; storage is the limit then."""


def default_worker_count() -> int:
    """Return how many workers keep the processors busy that this process may use."""
    return min(len(os.sched_getaffinity(0)), _MAX_DEFAULT_WORKERS)
