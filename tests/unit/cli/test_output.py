"""What reaches a terminal, in text and in JSON."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from cfsctl.cli import output

HOSTILE = (
    "a\x00\x07\x1b[31m\x7f\x85\x9bm\u00ad\u200b\u200f\u202e\u2066\u2028\ufeff\ue000\U000e0041\udcff\r\nb"
)
"""C0, DEL, C1, soft hyphen, zero width, marks and overrides of direction, separators, tags, bytes."""


def dangerous(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}} - {"\n"}


@pytest.mark.parametrize("print_it", [output.print_line, output.tell])
def test_nothing_that_steers_a_terminal_is_printed(
    print_it: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(print_it)
    print_it(HOSTILE)
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert text.count("\n") == 1
    assert not dangerous(text)
    assert r"\xff" in text
    assert r"\x1b[31m" in text


@pytest.mark.parametrize("render", [output.format_json, output.format_json_line])
def test_json_escapes_it_and_means_the_same(render: object) -> None:
    assert callable(render)
    text = render({"name": HOSTILE, HOSTILE: [HOSTILE], "ordinary": "ä 日本"})
    assert not dangerous(text)
    assert json.loads(text) == {"name": HOSTILE, HOSTILE: [HOSTILE], "ordinary": "ä 日本"}


def test_ordinary_text_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_lines(["Grüße, 日本語 \\x1b", "b"])
    assert capsys.readouterr().out == "Grüße, 日本語 \\x1b\nb\n"
    assert output.format_json({"a": "日本"}) == '{\n  "a": "日本"\n}'


def test_long_messages_lose_their_middle(capsys: pytest.CaptureFixture[str]) -> None:
    output.tell("begin " + "x" * 1_000_000 + " end")
    output.tell_document({"message": "begin " + "\x9b" * 1_000_000 + " end", "exit_code": 1})
    line, document = capsys.readouterr().err.splitlines()
    assert len(line) < 2100
    assert (line[:6], line[-4:]) == ("begin ", " end")
    assert "998010 characters left out" in line
    message = json.loads(document)["message"]
    assert (message[:6], message[-4:]) == ("begin ", " end")
    assert len(message) < 2100


def test_bytes_and_text_keep_their_order(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output.print_line("one")
    output.write_bytes([b"\x1b\xff", bytearray(b"two\n")])
    output.print_line("three")
    sys.stdout.flush()
    assert capsysbinary.readouterr().out == b"one\n\x1b\xfftwo\nthree\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot open http://me:secret@host/x", "cannot open http://host/x"),
        ("'http://me:secret@host' and 'ftp://:x@y'", "'http://host' and 'ftp://y'"),
        ("http://host:80/a@b is here", "http://host:80/a@b is here"),
        ("me:not@a.url", "me:not@a.url"),
    ],
)
def test_passwords_of_urls_are_in_no_message(text: str, shown: str) -> None:
    assert output.hide_credentials(text) == shown
