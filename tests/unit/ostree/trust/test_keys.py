"""Keys of the sign engines, and what a signature is worth."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cfsctl.ostree.trust.keys import Message, SignKey, make_key, parse_key, parse_key_file
from cfsctl.ostree.trust.verdict import UnusableKeyError

DATA = b"a commit"


def raw(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def der(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed448.Ed448PrivateKey | dsa.DSAPrivateKey,
) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signed() -> dict[str, tuple[SignKey, bytes]]:
    """Return a key and a signature over `DATA` of every kind."""
    one, two = ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()
    p256, p521 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP521R1())
    large = rsa.generate_private_key(65537, 2048)
    return {
        "ed25519": (SignKey("ed25519", raw(one)), one.sign(DATA)),
        "ed448": (SignKey("spki", der(two)), two.sign(DATA)),
        "p256": (SignKey("spki", der(p256)), p256.sign(DATA, ec.ECDSA(SHA256()))),
        "p521": (SignKey("spki", der(p521)), p521.sign(DATA, ec.ECDSA(SHA256()))),
        "rsa": (SignKey("spki", der(large)), large.sign(DATA, padding.PKCS1v15(), SHA256())),
    }


SIGNED = signed()


@pytest.mark.parametrize("kind", sorted(SIGNED))
def test_only_the_whole_signature_over_these_bytes_counts(kind: str) -> None:
    key, signature = SIGNED[kind]
    assert make_key(key.engine, key.data, "here") == key
    assert key.check(signature, Message(DATA))
    assert not key.check(signature, Message(DATA + b"."))
    assert not key.check(signature[:-1], Message(DATA))
    assert not key.check(signature + b"\0", Message(DATA))
    assert not key.check(b"", Message(DATA))
    assert not key.check(bytes(len(signature)), Message(DATA))
    for other in {*SIGNED} - {kind}:
        assert not SIGNED[other][0].check(signature, Message(DATA))


def test_a_key_as_libostree_writes_it() -> None:
    key = parse_key("ed25519", "45yzbkuEok0lLabxzdAHWUDSMZgYfxU40sN+LMfYHVA=", "example")
    assert key.name.startswith("e39cb36e4b84a24d252da6f1cdd0075940d23198187f1538d2c37e2cc7d81d50")


FIELD = 2**255 - 19
D = (-121665 * pow(121666, -1, FIELD)) % FIELD


def is_small_order(y: int) -> bool:
    """Return whether the points with this y coordinate vanish when doubled three times.

    Doubling maps y to a value that depends on y alone: with x^2 = (y^2-1)/(d y^2+1) on the curve.
    """
    for _ in range(3):
        squared = y * y % FIELD
        x_squared = (squared - 1) * pow(D * squared + 1, -1, FIELD) % FIELD
        product = D * x_squared * squared % FIELD
        y = (squared + x_squared) * pow(1 - product, -1, FIELD) % FIELD
    return y == 1


SMALL_ORDER = [
    *(0, 1, FIELD - 1, FIELD, FIELD + 1),
    *(
        int.from_bytes(bytes.fromhex(text), "little")
        for text in (
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        )
    ),
]
"""Every y coordinate, in every spelling, of a point whose order divides 8."""


def parse_ed25519(form: str, data: bytes) -> list[SignKey]:
    """Read the bytes of an Ed25519 key in one of the forms in which a user can give them."""
    wrapped = bytes.fromhex("302a300506032b6570032100") + data
    match form:
        case "inline":
            return [parse_key("ed25519", base64.b64encode(data).decode(), "here")]
        case "lines":
            return parse_key_file("ed25519", base64.b64encode(data) + b"\n", "here")
        case "der":
            return [parse_key("spki", base64.b64encode(wrapped).decode(), "here")]
        case _:
            pass
    body = base64.encodebytes(wrapped)
    return parse_key_file(
        "spki", b"-----BEGIN PUBLIC KEY-----\n" + body + b"-----END PUBLIC KEY-----\n", "here"
    )


@pytest.mark.parametrize("form", ["inline", "lines", "der", "pem"])
def test_points_of_small_order_are_no_keys(form: str) -> None:
    refused = set()
    for y in SMALL_ORDER:
        assert is_small_order(y % FIELD)
        for sign in (0, 1 << 255):
            data = (y | sign).to_bytes(32, "little")
            with pytest.raises(UnusableKeyError, match=r"here: .*every signature is valid"):
                parse_ed25519(form, data)
            refused.add(data)
    assert len(refused) == 14
    assert not is_small_order(2)
    assert parse_ed25519(form, SIGNED["ed25519"][0].data)


@pytest.mark.parametrize("form", ["inline", "lines", "der", "pem"])
def test_a_key_has_one_encoding(form: str) -> None:
    for y in range(FIELD + 2, 1 << 255):
        with pytest.raises(UnusableKeyError, match="not its usual encoding"):
            parse_ed25519(form, y.to_bytes(32, "little"))
    with pytest.raises(UnusableKeyError, match="not a point on the curve"):
        parse_ed25519(form, (2).to_bytes(32, "little"))


def test_ed448_points_of_small_order_are_no_keys() -> None:
    field = 2**448 - 2**224 - 1
    prefix = bytes.fromhex("3043300506032b6571033a00")
    for y in (0, 1, field - 1, field, field + 1):
        with pytest.raises(UnusableKeyError, match=r"every signature is valid|expected a public key in DER"):
            make_key("spki", prefix + y.to_bytes(57, "little"), "here")
    with pytest.raises(UnusableKeyError, match=r"not its usual encoding|expected a public key in DER"):
        make_key("spki", prefix + (field + 5).to_bytes(57, "little"), "here")


def test_only_newlines_separate_keys() -> None:
    text = base64.b64encode(SIGNED["ed25519"][0].data).decode()
    for separator in ("\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"):
        with pytest.raises(UnusableKeyError, match="file: "):
            parse_key_file("ed25519", f"{text}{separator}{text}\n".encode(), "file")
    assert len(parse_key_file("ed25519", f"{text}\r\n{text}".encode(), "file")) == 2


@pytest.mark.parametrize(
    ("engine", "data", "text"),
    [
        ("ed25519", bytes(31), "32 bytes, found 31"),
        ("dummy", b"key", "expected a key of type ed25519 or spki, found dummy"),
        ("spki", b"no key", "expected a public key in DER"),
        ("spki", der(rsa.generate_private_key(65537, 1024)), "at least 2048 bits of RSA, found 1024"),
        ("spki", der(dsa.generate_private_key(1024)), "expected an Ed25519, Ed448, EC or RSA key"),
    ],
    ids=["short", "dummy", "junk", "weak", "dsa"],
)
def test_what_is_no_key(engine: str, data: bytes, text: str) -> None:
    with pytest.raises(UnusableKeyError, match=f"here: .*{text}"):
        make_key(engine, data, "here")


def test_key_files() -> None:
    one, two = SIGNED["ed25519"][0], SignKey("ed25519", raw(ed25519.Ed25519PrivateKey.generate()))
    lines = b"\n\n".join(base64.b64encode(key.data) for key in (one, two)) + b"\n"
    assert parse_key_file("ed25519", lines, "file") == [one, two]
    pem = b"some words\n" + b"".join(
        b"-----BEGIN PUBLIC KEY-----\n"
        + base64.encodebytes(SIGNED[kind][0].data)
        + b"-----END PUBLIC KEY-----\n"
        for kind in ("p256", "rsa")
    )
    assert parse_key_file("spki", pem, "file") == [SIGNED["p256"][0], SIGNED["rsa"][0]]
    for engine, data in (("ed25519", b"\n"), ("spki", b"words"), ("ed25519", b"not base64!\n")):
        with pytest.raises(UnusableKeyError, match="file: "):
            parse_key_file(engine, data, "file")
