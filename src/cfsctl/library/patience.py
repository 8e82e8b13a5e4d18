"""How long a user wants to wait for servers."""

from __future__ import annotations

from typing import NamedTuple


class Patience(NamedTuple):
    """How long a user wants to wait; None is the default of each.

    Attributes:
        connect_timeout_s: Time to a connection, TLS included.
        stall_timeout_s: Time without a byte of the answer after which a request has failed.
        retries: Further requests for a thing after one that failed, whatever it failed by.
    """

    connect_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    retries: int | None = None
