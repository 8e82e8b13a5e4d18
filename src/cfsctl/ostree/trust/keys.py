"""Keys of libostree's sign engines, ``ed25519`` and ``spki``, and the verification of their signatures.

    ed25519   32 bytes; in files and options base64, a key a line
    spki      SubjectPublicKeyInfo, DER; in options base64 of that, in files PEM blocks ``PUBLIC KEY``

Any error during the verification of a signature only means that the signature is not valid.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.ostree.key_file import BLANKS, split_lines
from cfsctl.ostree.trust.verdict import UnusableKeyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

ENGINES: Final = ("ed25519", "spki")

MAX_KEY_FILE_BYTES: Final = 16 << 20
"""Bytes of a file of keys."""

MIN_RSA_BITS: Final = 2048

_ED25519_SIZE: Final = 32
_ED25519_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
"""Begins an Ed25519 key as SubjectPublicKeyInfo; the key follows."""


_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)-----END PUBLIC KEY-----")

_ED25519_FIELD: Final = 2**255 - 19
_ED25519_D: Final = -121665 * pow(121666, -1, _ED25519_FIELD) % _ED25519_FIELD
_ED448_FIELD: Final = 2**448 - 2**224 - 1

_ED25519_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        _ED25519_FIELD - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)
"""The y coordinates of points whose order divides 8: anything is signed by such a key."""

_ED448_SMALL_ORDER: Final = frozenset({0, 1, _ED448_FIELD - 1})
"""The same for Ed448, where the order divides 4."""


class Message:
    """What signatures are over; hashed once, however many of them are tried."""

    def __init__(self, data: bytes) -> None:
        """Hash nothing yet."""
        self.data = data

    @functools.cached_property
    def sha256(self) -> bytes:
        """Return the SHA-256 of the bytes."""
        return hashlib.sha256(self.data).digest()


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

    @property
    def identity(self) -> SignKey:
        """Return the key in the form that all spellings of it have: an Ed25519 key may be given as either."""
        is_wrapped = self.engine == "spki" and self.data.startswith(_ED25519_PREFIX)
        return SignKey("ed25519", self.data[len(_ED25519_PREFIX) :]) if is_wrapped else self

    def check(self, signature: bytes, message: Message) -> bool:
        """Return whether a signature over some bytes is by this key."""
        try:
            verify = _load(self)
            verify(signature, message)
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
        UnusableKeyError: It is not a valid key, or it is too weak.
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
        UnusableKeyError: It is not a valid key, or it is too weak.
    """
    try:
        data = base64.b64decode(text.strip(BLANKS), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnusableKeyError(f"{where}: expected a key in base64, found {error}") from error
    return make_key(engine, data, where)


def parse_key_file(engine: str, data: bytes, where: str) -> list[SignKey]:
    """Return the keys of a file, of which there must be one.

    Raises:
        UnusableKeyError: None exists, or one that cannot be used.
    """
    if engine == "spki":
        keys = [
            parse_key(engine, b"".join(match[1].split()).decode("ascii"), where)
            for match in _PEM.finditer(data)
        ]
    else:
        lines = split_lines(data.decode("utf-8", "replace"))
        keys = [parse_key(engine, line, where) for line in lines if line]
    if not keys:
        raise UnusableKeyError(f"{where}: expected at least one {engine} key, found none")
    return keys


def _load(key: SignKey) -> Callable[[bytes, Message], object]:
    """Return the function that verifies (signature, message) with a key.

    Raises:
        UnusableKeyError: None exists.
    """
    if key.engine == "ed25519":
        return _load_ed25519(key.data)
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # 40 ms

    try:
        public = load_der_public_key(key.data)
    except Exception as error:
        raise UnusableKeyError(f"expected a public key in DER, found {error}") from error
    return _verifier_of(public)


def _load_ed25519(data: bytes) -> Callable[[bytes, Message], object]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # 40 ms

    if len(data) != _ED25519_SIZE:
        raise UnusableKeyError(f"expected an ed25519 key of {_ED25519_SIZE} bytes, found {len(data)}")
    _check_ed25519(data)
    return _verify_whole(Ed25519PublicKey.from_public_bytes(data))


def _verify_whole(public: Ed25519PublicKey | Ed448PublicKey) -> Callable[[bytes, Message], object]:
    return lambda signature, message: public.verify(signature, message.data)


def _check_ed25519(data: bytes) -> None:
    """Refuse keys that are not the canonical encoding of a point of large order, in any form.

    The library takes any 32 bytes. Under a point of small order there are signatures that are valid for
    everything, and which of the other encodings are keys depends on the library.

    Raises:
        UnusableKeyError: It is not.
    """
    field = _ED25519_FIELD
    y = int.from_bytes(data, "little") & ((1 << 255) - 1)
    _check_coordinate("ed25519", y, field, _ED25519_SMALL_ORDER)
    squared = y * y % field
    x_squared = (squared - 1) * pow(_ED25519_D * squared + 1, -1, field) % field
    if pow(x_squared, (field - 1) // 2, field) != 1:
        raise UnusableKeyError("expected an ed25519 key, found a value that is not a point on the curve")


def _check_ed448(data: bytes) -> None:
    """Refuse such Ed448 keys in the same way.

    Raises:
        UnusableKeyError: It is not the one encoding of a point of large order.
    """
    _check_coordinate("ed448", int.from_bytes(data[:56], "little"), _ED448_FIELD, _ED448_SMALL_ORDER)


def _check_coordinate(name: str, y: int, field: int, small: frozenset[int]) -> None:
    if y % field in small:
        raise UnusableKeyError(f"expected an {name} key, found a point under which every signature is valid")
    if y >= field:
        raise UnusableKeyError(f"expected an {name} key, found a value that is not its usual encoding")


def _verifier_of(public: PublicKeyTypes) -> Callable[[bytes, Message], object]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256

    match public:
        case ed25519.Ed25519PublicKey():
            _check_ed25519(public.public_bytes_raw())
            return _verify_whole(public)
        case ed448.Ed448PublicKey():
            _check_ed448(public.public_bytes_raw())
            return _verify_whole(public)
        case ec.EllipticCurvePublicKey():
            return lambda signature, message: public.verify(
                signature, message.sha256, ec.ECDSA(Prehashed(SHA256()))
            )
        case rsa.RSAPublicKey():
            if public.key_size < MIN_RSA_BITS:
                raise UnusableKeyError(
                    f"expected at least {MIN_RSA_BITS} bits of RSA, found {public.key_size}"
                )
            return lambda signature, message: public.verify(
                signature, message.sha256, padding.PKCS1v15(), Prehashed(SHA256())
            )
        case _:
            raise UnusableKeyError(
                f"expected an Ed25519, Ed448, EC or RSA key, found {type(public).__name__}"
            )
