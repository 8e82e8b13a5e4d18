"""Escaping, both ways."""

from __future__ import annotations

import pytest

from cfsctl.dumpfile.format import escape, escape_in_xattr, escape_names, escape_value, unescape

WRITTEN = [
    (b"plain/path", "plain/path"),
    (b"a b", "a\\x20b"),
    (b"\\", "\\\\"),
    (b"\n\r\t", "\\n\\r\\t"),
    (b"\0\x7f\x80\xff", "\\x00\\x7f\\x80\\xff"),
    ("\u00e4".encode(), "\\xc3\\xa4"),
    (b"~!'\"", "~!'\""),
]


@pytest.mark.parametrize(("data", "text"), WRITTEN)
def test_bytes_are_written_as_printable_ascii(data: bytes, text: str) -> None:
    assert escape(data) == escape_value(data) == escape_in_xattr(data) == text
    assert unescape(text.encode()) == data


def test_what_stands_for_nothing_is_told_from_itself() -> None:
    assert escape_value(b"") == "-"
    assert escape_value(b"-") == "\\x2d"
    assert escape_value(b"--") == "--"
    assert escape(b"-") == escape_in_xattr(b"-") == "-"
    assert escape_in_xattr(b"") == ""


def test_the_sign_between_key_and_value_is_escaped_in_attributes_only() -> None:
    assert escape(b"a=b") == "a=b"
    assert escape_in_xattr(b"a=b") == "a\\x3db"


def test_every_byte_comes_back() -> None:
    data = bytes(range(256))
    assert unescape(escape(data).encode()) == data
    assert unescape(escape_in_xattr(data).encode()) == data


READ = [
    (b"\\x41\\x4a\\x4A", b"AJJ"),
    (b"\\\\x41", b"\\x41"),
    (b"\xc3\xa4\\n", b"\xc3\xa4\n"),
    (b"\xff\xfe", b"\xff\xfe"),
    (b"\\\\\\\\", b"\\\\"),
]


@pytest.mark.parametrize(("text", "data"), READ)
def test_text_that_is_not_what_would_be_written(text: bytes, data: bytes) -> None:
    assert unescape(text) == data


@pytest.mark.parametrize(
    "text",
    [b"\\", b"a\\", b"\\q", b"\\x", b"\\x4", b"\\xzz", b"\\x+a", b"\\X41", b"\\u0041", b"\\N{DIGIT ONE}",
     b"\\\\\\", b"\\101", b"\\a", b"\\'", b"\\\n"],
)  # fmt: skip
def test_anything_else_after_a_backslash_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^invalid escape"):
        unescape(text)


def test_names_together_are_escaped_like_each_of_them() -> None:
    plain = [b"a", b"b=c", b"-", b"~" * 255]
    odd = [
        [],
        [b"a\nb"],
        [b"a", b"\n", b"b"],
        [b"sp ace", b"x"],
        [b"\xff"],
        [b"\\"],
        *([name] for name in plain),
    ]
    for names in (plain, *odd):
        assert escape_names(names) == [escape(name) for name in names]
