"""Adapt the number of parallel transfers.

A nearby server keeps a few connections busy. A server with a latency of 20 ms answers only 50 requests per
second on each connection. So the window grows when most of the time is spent waiting, and stays larger only
if the throughput increased; otherwise the link is saturated, and more connections would only slow down
others. If a server asks for fewer requests, the window shrinks.
"""

from __future__ import annotations

import math

INTERVAL_S = 0.25
"""Shortest time over which a rate is measured."""

_THROTTLE_INTERVAL_S = 1.0
"""Shortest time between two reductions."""

_IDLE_SHARE = 0.5
"""Share of time spent waiting beyond which more in flight might help."""

_WORTHWHILE_GAIN = 1.15
"""Growth of the rate that justifies a larger window."""


class Window:
    """A number of transfers that adapts between bounds.

    Attributes:
        size: Transfers that may be in flight now.
    """

    def __init__(self, initial: int, maximum: int) -> None:
        """Begin with `initial` transfers; never allow more than `maximum`."""
        self.size = min(initial, maximum)
        self._maximum = maximum
        self._settled = False
        self._before_growth: tuple[int, float] | None = None
        self._paused_s = 0.0
        self._throttled_s = -math.inf
        self._restart(0.0)

    def _restart(self, now_s: float) -> None:
        self._since_s = now_s
        self._waited_s = 0.0
        self._completed = 0

    def pause(self, now_s: float) -> None:
        """Stop the clock: nothing is in flight, for reasons that are ours."""
        self._paused_s = now_s

    def resume(self, now_s: float) -> None:
        """Resume measuring as if there had been no pause."""
        self._since_s += now_s - self._paused_s

    def widen(self, minimum: int, maximum: int) -> None:
        """Allow more: transfers share connections, so that each costs less."""
        self._maximum = max(self._maximum, maximum)
        self.size = max(self.size, min(minimum, self._maximum))

    def throttle(self, now_s: float) -> None:
        """Halve the window and leave it there: the server has asked for less.

        Answers to requests that were on their way together count once.
        """
        if now_s < self._throttled_s + _THROTTLE_INTERVAL_S:
            return
        self._throttled_s = now_s
        self.size = max(1, self.size // 2)
        self._settled = True

    def count(self, completed: int) -> None:
        """Record transfers that ended."""
        self._completed += completed

    def adapt(self, waited_s: float, now_s: float) -> None:
        """Record time spent waiting with all transfers in flight, and adapt when it is time."""
        self._waited_s += waited_s
        elapsed_s = now_s - self._since_s
        if self._settled or elapsed_s < INTERVAL_S or self._completed < self.size:
            return
        self._judge(self._completed / elapsed_s, self._waited_s / elapsed_s)
        self._restart(now_s)

    def _judge(self, rate: float, idle_share: float) -> None:
        if self._before_growth is not None:
            size, rate_before = self._before_growth
            self._before_growth = None
            if rate < rate_before * _WORTHWHILE_GAIN:
                self.size = size
                self._settled = True
                return
        if idle_share > _IDLE_SHARE and self.size < self._maximum:
            self._before_growth = (self.size, rate)
            self.size = min(2 * self.size, self._maximum)
