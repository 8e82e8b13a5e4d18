"""The two kinds of digest and their text forms.

An `ObjectID` is the fs-verity digest of a file and names an object; a `Checksum` is the SHA-256 by
which OSTree names its objects. Both are raw bytes at run time, so that they are cheap as keys, and
distinct types to the type checker, so that they never mix.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NewType

from cfsctl.errors import FormatError

ObjectID = NewType("ObjectID", bytes)
"""fs-verity digest, raw: 32 bytes for SHA-256, 64 for SHA-512."""

Checksum = NewType("Checksum", bytes)
"""OSTree object name, raw: 32 bytes of SHA-256."""

LG_BLOCKSIZE = 12
"""Base-2 logarithm of the only fs-verity block size in use."""

_LOWER_HEX = re.compile(r"[0-9a-f]*\Z")

_MIN_ID_DIGITS = 2
"""Digits of an ID that have to be typed before IDs are offered next to names."""


class Algorithm(Enum):
    """A hash algorithm of fs-verity; the value is the kernel's number for it."""

    SHA256 = 1
    SHA512 = 2

    @property
    def hash_name(self) -> str:
        """Name as `hashlib` and the command line spell it."""
        return "sha256" if self is Algorithm.SHA256 else "sha512"

    @property
    def digest_size(self) -> int:
        """Size of a digest in bytes."""
        return 32 if self is Algorithm.SHA256 else 64

    @property
    def label(self) -> str:
        """Name as meta.json spells it, for example ``fsverity-sha512-12``."""
        return f"fsverity-{self.hash_name}-{LG_BLOCKSIZE}"

    @classmethod
    def from_hash_name(cls, name: str) -> Algorithm:
        """Return the algorithm called ``sha256`` or ``sha512``.

        Raises:
            ValueError: Another name.
        """
        for algorithm in cls:
            if algorithm.hash_name == name:
                return algorithm
        raise ValueError(f"unsupported hash algorithm '{name}' (expected sha256 or sha512)")

    @classmethod
    def of_digest(cls, digest: bytes) -> Algorithm:
        """Return the algorithm whose digests have the size of this one.

        Raises:
            ValueError: No algorithm has digests of this size.
        """
        for algorithm in cls:
            if algorithm.digest_size == len(digest):
                return algorithm
        raise ValueError(f"no fs-verity algorithm has digests of {len(digest)} bytes")


class DigestFormatError(FormatError):
    """Text that is not a digest."""


def parse_hex(text: str, size: int, what: str = "digest") -> bytes:
    """Return the bytes of a digest written in lower-case hex.

    Args:
        text: ``2 * size`` lower-case hexadecimal digits.
        size: Size of the digest in bytes.
        what: What the text is meant to be, for the message.

    Raises:
        DigestFormatError: Another length, or a character that is not a lower-case hex digit.
    """
    if len(text) != 2 * size:
        raise DigestFormatError(
            f"{what}: expected {2 * size} hexadecimal digits, found {len(text)} characters"
        )
    if not _LOWER_HEX.match(text):
        raise DigestFormatError(f"{what}: expected lower-case hexadecimal digits, found {text!r}")
    return bytes.fromhex(text)


def parse_object_id(text: str, algorithm: Algorithm) -> ObjectID:
    """Return the object ID that `text` writes as lower-case hex.

    Raises:
        DigestFormatError: Not an ID of this algorithm.
    """
    return ObjectID(parse_hex(text, algorithm.digest_size, f"{algorithm.hash_name} object ID"))


def find_object_name(text: str, algorithm: Algorithm) -> ObjectID | None:
    """Return the object ID that `text` writes as lower-case hex, or None if it is anything else."""
    try:
        return parse_object_id(text, algorithm)
    except DigestFormatError:
        return None


def parse_checksum(text: str) -> Checksum:
    """Return the OSTree checksum that `text` writes as 64 lower-case hex digits.

    Raises:
        DigestFormatError: Not a checksum.
    """
    return Checksum(parse_hex(text, 32, "OSTree checksum"))


def object_path(object_id: ObjectID) -> str:
    """Return the path of an object relative to ``objects/``: ``xx/rest`` in lower-case hex."""
    text = object_id.hex()
    return f"{text[:2]}/{text[2:]}"


def parse_object_path(path: str, algorithm: Algorithm) -> ObjectID:
    """Return the ID of the object at ``xx/rest``, whatever precedes that in `path`.

    Raises:
        DigestFormatError: The path does not end in the path of an object of this algorithm.
    """
    tail = path[-(2 * algorithm.digest_size + 1) :]
    if len(tail) != 2 * algorithm.digest_size + 1 or tail[2] != "/":
        raise DigestFormatError(
            f"object path: expected .../xx/rest of a {algorithm.hash_name} ID, found {path!r}"
        )
    return parse_object_id(tail[:2] + tail[3:], algorithm)


def qualified(object_id: ObjectID) -> str:
    """Return the ID with its algorithm, for example ``sha512:<hex>``."""
    return f"{Algorithm.of_digest(object_id).hash_name}:{object_id.hex()}"


def may_be_id(word: str) -> bool:
    """Return whether what has been typed so far is enough of an ID to complete it."""
    return len(word) >= _MIN_ID_DIGITS and _LOWER_HEX.match(word) is not None


_ID_PREFIX = re.compile(r"(@?(?:(?:sha256|sha512):)?)([0-9a-f]*)")


def id_prefix(word: str) -> str | None:
    """Return what stands before the digits of an ID that has been begun, or None if none has been.

    Digits alone have to be enough of an ID; behind ``sha512:`` or ``@`` none are needed.
    """
    match = _ID_PREFIX.fullmatch(word)
    if match is None or not (match[1] or len(match[2]) >= _MIN_ID_DIGITS):
        return None
    return match[1]
