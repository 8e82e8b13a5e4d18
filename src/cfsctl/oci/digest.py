"""Digests of OCI documents and blobs: ``algorithm:encoded``, of plain bytes.

They name contents of registries and layouts, and are part of the names of streams; objects of the repository
are named by fs-verity digests, never by these.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from cfsctl.errors import ExitCode, FormatError, ReceivedDigestError

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGEST: Final = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([A-Za-z0-9=_-]+)")
_HEX: Final = re.compile(r"[0-9a-f]+")
_HEX_DIGITS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
MAX_DIGEST_CHARACTERS: Final = 200
"""Longest digest, so that it fits into a file name with what stands before it."""


class OciDigestError(FormatError):
    """Text that is not a digest, or a digest of an algorithm that cannot be computed here."""


class DigestArgumentError(OciDigestError):
    """A digest by which a user names something, and that can be none: nothing stored is at fault."""

    exit_code = ExitCode.USAGE


class Hash(Protocol):
    """A hash under construction, as hashlib has them."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Process the next bytes."""

    def hexdigest(self) -> str:
        """Return the digest."""


class OciDigest(NamedTuple):
    """A digest.

    Attributes:
        algorithm: For example ``sha256``.
        encoded: Lower-case hex for the algorithms that are known.
    """

    algorithm: str
    encoded: str

    def __str__(self) -> str:
        """Return it as documents have it."""
        return f"{self.algorithm}:{self.encoded}"

    def new_hash(self) -> Hash:
        """Return a hash of this algorithm.

        Raises:
            OciDigestError: It is not known.
        """
        return _find_hash(self)()

    def check(self, found: Hash, what: str) -> None:
        """Compare with the hash of what was received.

        Raises:
            ReceivedDigestError: It is another one.
        """
        if found.hexdigest() != self.encoded:
            actual = f"{self.algorithm}:{found.hexdigest()}"
            raise ReceivedDigestError(what, expected=str(self), actual=actual)

    def check_bytes(self, data: bytes, what: str) -> None:
        """Compare with the digest of a document; see `check`."""
        computed = self.new_hash()
        computed.update(data)
        self.check(computed, what)


def _find_hash(digest: OciDigest) -> Callable[[], Hash]:
    import hashlib  # brings OpenSSL, which commands that only name things do without

    functions: dict[str, Callable[[], Hash]] = {
        "sha256": hashlib.sha256,
        "sha384": hashlib.sha384,
        "sha512": hashlib.sha512,
    }
    try:
        return functions[digest.algorithm]
    except KeyError:
        expected = ", ".join(functions)
        raise OciDigestError(
            f"digest {digest}: expected one of {expected}, so that it can be checked"
        ) from None


def parse_digest(text: str, what: str = "digest") -> OciDigest:
    """Return the digest that a text is.

    Raises:
        OciDigestError: It is invalid.
    """
    match = _DIGEST.fullmatch(text) if len(text) <= MAX_DIGEST_CHARACTERS else None
    if match is None:
        raise OciDigestError(f"{what}: expected algorithm:digits, found {text[:80]!r}")
    digest = OciDigest(match[1], match[2])
    digits = _HEX_DIGITS.get(digest.algorithm)
    if digits is not None and not (len(digest.encoded) == digits and _HEX.fullmatch(digest.encoded)):
        raise OciDigestError(
            f"{what}: expected {digits} lower-case hexadecimal digits after {digest.algorithm}:,"
            f" found {text!r}"
        )
    return digest


def parse_digest_argument(text: str, what: str) -> OciDigest:
    """Return the digest by which a user names something.

    Raises:
        DigestArgumentError: It is invalid.
    """
    try:
        return parse_digest(text, what)
    except OciDigestError as error:
        raise DigestArgumentError(str(error)) from None


def compute_digest(data: bytes) -> OciDigest:
    """Return the sha256 digest of a document."""
    import hashlib  # see `_find_hash`

    return OciDigest("sha256", hashlib.sha256(data).hexdigest())
