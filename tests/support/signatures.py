"""Signatures as libostree's sign engines write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl import gvariant
from cfsctl.gvariant import Variant

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def sign_detached(key: Ed25519PrivateKey, data: bytes) -> bytes:
    """Return detached metadata with an ed25519 signature over some bytes."""
    return gvariant.encode("a{sv}", [("ostree.sign.ed25519", Variant("aay", [key.sign(data)]))])
