"""The outcome of looking at signatures."""

from __future__ import annotations

from typing import NamedTuple

from cfsctl.ostree.policy import PolicyError


class SignatureError(PolicyError):
    """Something that must be signed and is not, or not by a key that counts."""


class UnusableKeyError(PolicyError):
    """A key, or a file of keys, that cannot be used."""


class Verified(NamedTuple):
    """A valid signature by a key that counts.

    Attributes:
        engine: ``gpg``, ``ed25519`` or ``spki``.
        key: The key: fingerprint of the primary OpenPGP key, or the public key in hex (of spki its SHA-256).
        time_s: When it was made, in seconds since 1970; None where signatures do not say.
        user: Name of the key's owner as the keyring has it, or None.
    """

    engine: str
    key: str
    time_s: int | None = None
    user: str | None = None

    def describe(self) -> str:
        """Return it in words."""
        return f"{self.engine} key {self.key}" + (f" ({self.user})" if self.user else "")
