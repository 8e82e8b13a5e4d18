"""How the service works, as its command line says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import cfsctl


class ServiceOptions(NamedTuple):
    """How the service opens and makes repositories.

    Attributes:
        insecure: Do without fs-verity, unless a call says otherwise.
        require_verity: Refuse repositories without fs-verity.
        upgrade: Write a meta.json where there is only a repository of the old format.
        lock_timeout_s: Longest time to wait for the lock of a repository; None waits forever.
        durability: When what is written reaches the disk; None is before anything gets a name.
    """

    insecure: bool = False
    require_verity: bool = False
    upgrade: bool = True
    lock_timeout_s: float | None = None
    durability: cfsctl.Durability | None = None
