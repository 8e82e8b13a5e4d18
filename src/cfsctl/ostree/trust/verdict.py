"""Results and errors of verifying signatures."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from cfsctl.ostree.store.binding import PolicyError
from cfsctl.timestamps import format_timestamp

VERIFY_TIMEOUT_S: Final = 10.0
"""Time for all signatures of one commit, or one summary, wherever they come from."""


class Deadline:
    """The deadline for checking the signatures of one commit or summary.

    Attributes:
        seconds: How long there was from the beginning.
    """

    def __init__(self, seconds: float = VERIFY_TIMEOUT_S) -> None:
        """Begin now."""
        self.seconds = seconds
        self._end_s = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Return the seconds that are left, 0 if it is over."""
        return max(0.0, self._end_s - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Return whether the deadline has passed."""
        return not self.left_s


class SignatureError(PolicyError):
    """Something that must be signed and is not, or not by a key that counts."""


class UnusableKeyError(PolicyError):
    """A key, or a file of keys, that cannot be used."""


class ValidSignature(NamedTuple):
    """A valid signature by a key that counts.

    Attributes:
        engine: ``gpg``, ``ed25519`` or ``spki``.
        key: The key: fingerprint of the primary OpenPGP key, or the public key in hex (of spki its SHA-256).
        time_s: When it was made, in seconds since 1970; None if signatures do not say.
        user: Name of the key's owner as the keyring has it, or None.
    """

    engine: str
    key: str
    time_s: int | None = None
    user: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return it as it is printed in JSON."""
        timestamp = None if self.time_s is None else format_timestamp(self.time_s)
        return {"engine": self.engine, "key": self.key, "timestamp": timestamp, "user": self.user}

    def describe(self) -> str:
        """Return it in words."""
        return f"{self.engine} key {self.key}" + (f" ({self.user})" if self.user else "")
