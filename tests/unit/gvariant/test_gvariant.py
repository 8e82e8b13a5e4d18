"""Decoding and encoding: the specification's examples, stored verdicts, limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfsctl.gvariant import GVariantError, Just, Value, Variant, decode, encode, is_normal, parse_type

_VECTORS = Path(__file__).parents[2] / "vectors" / "gvariant" / "hostile.tsv"


def _rows() -> list[tuple[str, str, str, str]]:
    lines = _VECTORS.read_text().splitlines()[1:]
    rows = [(*line.split("\t"), "")[:4] for line in lines]
    return [(kind, data, verdict, note) for kind, data, verdict, note in rows]


@pytest.mark.parametrize(("kind", "data", "verdict", "note"), _rows())
def test_stored_verdicts(kind: str, data: str, verdict: str, note: str) -> None:
    raw = bytes.fromhex(data)
    assert is_normal(kind, raw) == (verdict == "ok"), note
    if verdict == "ok":
        assert encode(kind, decode(kind, raw)) == raw


EXAMPLES: list[tuple[str, Value, str]] = [
    ("as", [], ""),
    ("as", [""], "00 01"),
    ("as", ["a", "bc"], "61 00 62 63 00 02 05"),
    ("aay", [b"", b"x"], "78 00 01"),
    ("(say)", ("f", b"\xaa\xaa"), "66 00 aa aa 02"),
    ("(a(say)a(sayay))", ([], []), "00"),
    ("a{sv}", [("k", Variant("u", 1))], "6b 00 00 00 00 00 00 00 01 00 00 00 00 75 02 0f"),
    ("ms", Just("x"), "78 00 00"),
    ("ms", None, ""),
    ("mms", Just(None), "00"),
    ("mu", Just(7), "07 00 00 00"),
    ("v", Variant("s", "x"), "78 00 00 73"),
    ("v", Variant("v", Variant("y", 1)), "01 00 79 00 76"),
    ("b", True, "01"),
    ("y", 200, "c8"),
    ("n", -2, "fe ff"),
    ("q", 0x1234, "34 12"),
    ("i", -1, "ff ff ff ff"),
    ("h", 3, "03 00 00 00"),
    ("x", -(1 << 63), "00 00 00 00 00 00 00 80"),
    ("t", 1 << 63, "00 00 00 00 00 00 00 80"),
    ("d", 1.5, "00 00 00 00 00 00 f8 3f"),
    ("s", "é", "c3 a9 00"),
    ("o", "/a/b_1", "2f 61 2f 62 5f 31 00"),
    ("o", "/", "2f 00"),
    ("g", "a{sv}i", "61 7b 73 76 7d 69 00"),
    ("()", (), "00"),
    ("(yu)", (5, 1), "05 00 00 00 01 00 00 00"),
    ("(uy)", (1, 5), "01 00 00 00 05 00 00 00"),
    ("a(uy)", [(1, 5), (2, 6)], "01 00 00 00 05 00 00 00 02 00 00 00 06 00 00 00"),
    ("ab", [True, False], "01 00"),
    ("an", [1, -1], "01 00 ff ff"),
    ("amu", [None, Just(1)], "01 00 00 00 00 04"),
    ("(sus)", ("a", 1, "b"), "61 00 00 00 01 00 00 00 62 00 02"),
    ("(ss)", ("a", "b"), "61 00 62 00 02"),
    ("{sy}", ("a", 9), "61 00 09 02"),
    (
        "(uuua(ayay))",
        (1, 2, 3, [(b"user.a\0", b"v")]),
        "01000000 02000000 03000000 75736572 2e610076 07 09",
    ),
]


@pytest.mark.parametrize(("kind", "value", "data"), EXAMPLES)
def test_examples(kind: str, value: Value, data: str) -> None:
    raw = bytes.fromhex(data)
    assert encode(kind, value) == raw
    assert decode(kind, raw) == value
    assert decode(kind, memoryview(bytearray(raw))) == value


@pytest.mark.parametrize("size", [1, 252, 253, 254, 255, 256, 65530, 65531, 65532, 65533, 65534, 65540])
def test_offset_width_changes(size: int) -> None:
    value = ["x" * size]
    raw = encode("as", value)
    assert len(raw) - size - 1 == (1 if size <= 253 else 2 if size <= 65532 else 4)
    assert decode("as", raw) == value


def test_offsets_wider_than_needed() -> None:
    raw = b"x" * 253 + b"\0" + (254).to_bytes(2, "little")
    assert len(raw) == 256
    assert not is_normal("as", raw)


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("u", "000000", "u: expected 4 bytes, found 3 at byte 0"),
        ("b", "02", "b: expected 0 or 1, found 2 at byte 0"),
        ("ab", "0002", "ab: expected bytes of 0 and 1"),
        ("s", "6162", "s: expected a final NUL, found none at byte 2"),
        ("s", "610062ff00", "s: expected no NUL but the last byte"),
        ("s", "61ff00", "s: expected UTF-8, found invalid start byte at byte 1"),
        ("o", "6100", "o: expected an object path"),
        ("o", "2f612f00", "o: expected an object path"),
        ("g", "6100", "g: expected type strings"),
        ("g", "6d7300", "g: expected type strings"),
        ("v", "01", "v: expected a NUL before the type string"),
        ("v", "0100ff", "v: expected a type string"),
        ("ms", "780001", "ms: expected a final zero byte, found 1 at byte 2"),
        ("as", "61006263000302", "as: expected an end from 0 to 2, found 98 at byte 0"),
        ("as", "610005", "as: expected whole offsets of 1 bytes, found a table from 5 to 3 at byte 2"),
        ("(uss)", "01000000610062000655", r"\(uss\): expected an end from 4 to 9, found 85 at byte 4"),
        ("(us)", "0100000061", "s: expected a final NUL"),
        ("(su)", "6100ff000100000002", "padding: expected 2 zero bytes"),
        ("(ss)", "", r"\(ss\): expected an end|s: expected a final NUL"),
    ],
)
def test_messages(kind: str, data: str, message: str) -> None:
    with pytest.raises(GVariantError, match=message):
        decode(kind, bytes.fromhex(data))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("u", "000000"),
        ("b", "02"),
        ("b", ""),
        ("d", "00"),
        ("s", "6162"),
        ("s", "ff00"),
        ("o", "6100"),
        ("g", "6100"),
        ("v", "7800"),
        ("v", "00000075"),
        ("v", "01ff"),
        ("v", "0061"),
        ("v", "00ff"),
        ("mu", "0000"),
        ("ms", "780001"),
        ("au", "0100000002"),
        ("as", "610005"),
        ("as", "61006263000206"),
        ("as", "61006263000302"),
        ("as", "61006200020103"),
        ("(yu)", "0100"),
        ("(uy)", "0100000005000100"),
        ("(say)", "6600aaaa07"),
        ("(uss)", "0100000061006206"),
        ("(uss)", "01000000610062000655"),
        ("(u)", ""),
    ],
)
def test_what_other_readers_take_for_defaults_is_refused(kind: str, data: str) -> None:
    raw = bytes.fromhex(data)
    assert not is_normal(kind, raw)
    with pytest.raises(GVariantError):
        decode(kind, raw)


def _nested_variants(levels: int) -> bytes:
    return b"x\0\0s" + b"\0v" * (levels - 1)


def test_value_depth_is_bounded() -> None:
    assert is_normal("v", _nested_variants(127))
    assert not is_normal("v", _nested_variants(128))


def test_hundred_thousand_levels() -> None:
    with pytest.raises(GVariantError, match="at most 128 levels"):
        decode("v", _nested_variants(100_000))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("au", bytes(404)),
        ("a(yy)", bytes(80)),
        ("as", encode("as", [""] * 101)),
        ("av", encode("av", [Variant("u", 1)] * 51)),
        ("g", b"i" * 101 + b"\0"),
        ("ab", bytes(101)),
    ],
)
def test_values_are_counted(kind: str, data: bytes) -> None:
    with pytest.raises(GVariantError, match="over the limit"):
        decode(kind, data, max_values=100)
    assert decode(kind, data, max_values=1000)


def test_bytes_are_not_counted() -> None:
    assert decode("ay", bytes(5000), max_values=1) == bytes(5000)


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [
        ("u", "1", TypeError),
        ("u", True, TypeError),
        ("u", 1.0, TypeError),
        ("d", 1, TypeError),
        ("b", 1, TypeError),
        ("s", b"x", TypeError),
        ("v", 1, TypeError),
        ("ms", "x", TypeError),
        ("as", "x", TypeError),
        ("ay", "x", TypeError),
        ("(s)", "x", TypeError),
        ("u", -1, ValueError),
        ("y", 256, ValueError),
        ("s", "a\0b", ValueError),
        ("o", "a", ValueError),
        ("g", "a", ValueError),
        ("(ss)", ("a",), ValueError),
        ("z", 1, GVariantError),
        ("v", Variant("z", 1), GVariantError),
        ("s", "\ud800", ValueError),
    ],
)
def test_wrong_values(kind: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        encode(kind, value)


def test_encoding_nested_too_deeply() -> None:
    value = Variant("s", "x")
    for _ in range(126):
        value = Variant("v", value)
    assert decode("v", encode("v", value)) == value
    with pytest.raises(ValueError, match="at most 128 levels"):
        encode("v", Variant("v", value))


@pytest.mark.parametrize("kind", ["*", "r", "a?"])
def test_patterns_are_no_types(kind: str) -> None:
    with pytest.raises(GVariantError):
        decode(kind, b"")
    with pytest.raises(GVariantError):
        encode(kind, ())
    with pytest.raises(GVariantError):
        is_normal(kind, b"")
    with pytest.raises(GVariantError):
        decode(parse_type(kind, definite=False), b"")
    with pytest.raises(GVariantError):
        encode(parse_type(kind, definite=False), ())


def test_bytes_for_ay() -> None:
    assert encode("ay", bytearray(b"ab")) == encode("ay", [97, 98]) == b"ab"
