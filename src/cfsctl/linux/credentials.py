"""What this process may do: its capabilities and its user namespace."""

from __future__ import annotations

import os
from typing import Final

CAP_SYS_ADMIN: Final = 21

_INITIAL_USER_NAMESPACE: Final = f"user:[{0xEFFFFFFD}]"
"""PROC_USER_INIT_INO of linux/proc_ns.h."""


def has_capability(number: int) -> bool:
    """Return whether a capability is effective, in this user namespace; if unknown, whether this is root."""
    try:
        with open("/proc/self/status", "rb") as stream:
            (mask,) = [line.split()[1] for line in stream if line.startswith(b"CapEff:")]
        return bool(int(mask, 16) >> number & 1)
    except (OSError, ValueError):
        return os.geteuid() == 0


def is_in_initial_user_namespace() -> bool:
    """Return whether user IDs mean the same as for the whole system; False if that is unknown."""
    try:
        return os.readlink("/proc/self/ns/user") == _INITIAL_USER_NAMESPACE
    except OSError:
        return False
