"""Keys of libostree's sign engines, ``ed25519`` and ``spki``, and what their signatures are worth.

    ed25519   32 bytes; in files and options base64, a key a line
    spki      SubjectPublicKeyInfo, DER; in options base64 of that, in files PEM blocks ``PUBLIC KEY``

Whatever goes wrong while a signature is looked at means that it is not valid, and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.ostree.trust.verdict import UnusableKeyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

ENGINES: Final = ("ed25519", "spki")

MAX_KEY_FILE_BYTES: Final = 16 << 20
"""Bytes of a file of keys."""

MIN_RSA_BITS: Final = 2048

_ED25519_SIZE: Final = 32
_ED25519_SIGNATURE_SIZE: Final = 64

_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)-----END PUBLIC KEY-----")

_FIELD: Final = 2**255 - 19

_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        _FIELD - 1,
        _FIELD,
        _FIELD + 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)
"""The y coordinates, in every spelling, of points whose order divides 8: anything is signed by such a key."""


class SignKey(NamedTuple):
    """A public key.

    Attributes:
        engine: ``ed25519`` or ``spki``.
        data: 32 bytes, or DER.
    """

    engine: str
    data: bytes

    @property
    def name(self) -> str:
        """Return what messages call it: itself in hex, or its SHA-256 where it is long."""
        return self.data.hex() if self.engine == "ed25519" else hashlib.sha256(self.data).hexdigest()

    def check(self, signature: bytes, data: bytes) -> bool:
        """Return whether a signature over some bytes is by this key."""
        try:
            verify = _load(self)
            verify(signature, data)
        except Exception:  # noqa: BLE001 - only a normal return is a success
            return False
        return True


def make_key(engine: str, data: bytes, where: str) -> SignKey:
    """Return a key that can be used.

    Args:
        engine: ``ed25519`` or ``spki``.
        data: The key.
        where: Where it is from, for the message.

    Raises:
        UnusableKeyError: It is none, or too weak.
    """
    if engine not in ENGINES:
        raise UnusableKeyError(f"{where}: expected a key of type {' or '.join(ENGINES)}, found {engine}")
    key = SignKey(engine, data)
    try:
        _load(key)
    except UnusableKeyError as error:
        raise UnusableKeyError(f"{where}: {error}") from error
    return key


def parse_key(engine: str, text: str, where: str) -> SignKey:
    """Return the key that an option gives in base64.

    Raises:
        UnusableKeyError: It is none, or too weak.
    """
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnusableKeyError(f"{where}: expected a key in base64, found {error}") from error
    return make_key(engine, data, where)


def parse_key_file(engine: str, data: bytes, where: str) -> list[SignKey]:
    """Return the keys of a file, of which there must be one.

    Raises:
        UnusableKeyError: There is none, or one that cannot be used.
    """
    if engine == "spki":
        keys = [
            parse_key(engine, b"".join(match[1].split()).decode("ascii"), where)
            for match in _PEM.finditer(data)
        ]
    else:
        lines = data.decode("utf-8", "replace").splitlines()
        keys = [parse_key(engine, line, where) for line in lines if line.strip()]
    if not keys:
        raise UnusableKeyError(f"{where}: expected at least one {engine} key, found none")
    return keys


def _load(key: SignKey) -> Callable[[bytes, bytes], object]:
    """Return the function that verifies (signature, data) with a key.

    Raises:
        UnusableKeyError: There is none.
    """
    if key.engine == "ed25519":
        return _load_ed25519(key.data)
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415 - 40 ms

    try:
        public = load_der_public_key(key.data)
    except Exception as error:
        raise UnusableKeyError(f"expected a public key in DER, found {error}") from error
    return _verifier_of(public)


def _load_ed25519(data: bytes) -> Callable[[bytes, bytes], object]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - 40 ms

    if len(data) != _ED25519_SIZE:
        raise UnusableKeyError(f"expected an ed25519 key of {_ED25519_SIZE} bytes, found {len(data)}")
    if int.from_bytes(data, "little") & ((1 << 255) - 1) in _SMALL_ORDER:
        raise UnusableKeyError("expected an ed25519 key, found a point under which every signature is valid")
    public = Ed25519PublicKey.from_public_bytes(data)

    def verify(signature: bytes, data: bytes) -> None:
        if len(signature) != _ED25519_SIGNATURE_SIZE:
            raise ValueError(f"expected {_ED25519_SIGNATURE_SIZE} bytes, found {len(signature)}")
        public.verify(signature, data)

    return verify


def _verifier_of(public: PublicKeyTypes) -> Callable[[bytes, bytes], object]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - see above

    match public:
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return public.verify
        case ec.EllipticCurvePublicKey():
            return lambda signature, data: public.verify(signature, data, ec.ECDSA(SHA256()))
        case rsa.RSAPublicKey():
            if public.key_size < MIN_RSA_BITS:
                raise UnusableKeyError(
                    f"expected at least {MIN_RSA_BITS} bits of RSA, found {public.key_size}"
                )
            return lambda signature, data: public.verify(signature, data, padding.PKCS1v15(), SHA256())
        case _:
            raise UnusableKeyError(
                f"expected an Ed25519, Ed448, EC or RSA key, found {type(public).__name__}"
            )
