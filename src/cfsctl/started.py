"""When this program was loaded, for those who must know whether its files are still what was loaded."""

from __future__ import annotations

import time
from typing import Final

STARTED_NS: Final = time.time_ns()
"""Time of day in nanoseconds; the package imports this module before any other of its own."""
