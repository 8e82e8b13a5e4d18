"""Whose choices count where the two original implementations differ."""

from __future__ import annotations

from enum import Enum


class Dialect(Enum):
    """One of the two original implementations.

    They agree on nearly every tree. Where they do not, `cfsctl` follows the one and `mkcomposefs` the
    other, so that either gives the image its original gives.
    """

    RUST = "composefs-rs"
    C = "composefs"
