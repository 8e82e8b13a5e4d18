"""Key files as GLib reads them."""

from __future__ import annotations

import pytest

from cfsctl.ostree.key_file import parse_key_file

SEPARATORS = ("\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r", "\0", "\xa0")
"""What Python takes for the end of a line, or a blank, and GLib does not."""


def test_groups_and_values() -> None:
    text = "# comment\n[one]\r\na = 1\n  b=two words  \nnot a pair\n#c=3\n[two] \n=x\n[one]\na=2\n"
    assert parse_key_file(text) == {"one": {"a": "2", "b": "two words"}, "two": {"": "x"}}


@pytest.mark.parametrize("separator", SEPARATORS)
def test_only_a_newline_ends_a_line(separator: str) -> None:
    value = f'nice{separator}[remote "vendor"]{separator}gpg-verify=false'
    text = f'[remote "vendor"]\nurl=here\n[remote "evil"]\nxa.title={value}\n'
    assert parse_key_file(text) == {'remote "vendor"': {"url": "here"}, 'remote "evil"': {"xa.title": value}}


@pytest.mark.parametrize("line", ["[a]b]", "[a] x", '[b]=[remote "vendor"]', "[", "[a", "[remote]\x0b"])
def test_what_is_not_a_group(line: str) -> None:
    assert list(parse_key_file(f"[first]\n{line}\nkey=value\n")) == ["first"]
    assert parse_key_file(f"[first]\n{line}\nkey=value\n")["first"]["key"] == "value"
