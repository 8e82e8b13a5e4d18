"""Expressions that need PCRE2: what is said without the package, and what it does with it."""

from __future__ import annotations

import sys

import pytest

from cfsctl.boot.selinux.escapes import PatternError, UnsupportedPatternError
from cfsctl.boot.selinux.patterns import compile_pattern
from cfsctl.boot.selinux.policy import Policy, PolicyError, parse_rule

NEEDY = "/usr/\\p{L}"


def test_missing_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pcre2", None)
    with pytest.raises(UnsupportedPatternError) as raised:
        compile_pattern(NEEDY, "-")
    assert "'pcre2'" in str(raised.value)
    rules = [parse_rule([NEEDY, "--", "l"], "file_contexts, line 3")]
    with pytest.raises(PolicyError, match="file_contexts, line 3") as of_policy:
        Policy(rules, {})
    assert "pip install 'cfsctl[pcre2]'" in str(of_policy.value.hint)


def test_package_is_used_where_it_is_installed() -> None:
    pytest.importorskip("pcre2", reason="the package pcre2 is not installed")
    match = compile_pattern(NEEDY, "-")
    assert match(b"/usr/a-")
    assert not match(b"/usr/1-")


@pytest.mark.parametrize("regex", ["/usr/\\p{", "/usr/\\p{Nothing}", "(\\pL"])
def test_invalid_expressions(regex: str) -> None:
    pytest.importorskip("pcre2", reason="the package pcre2 is not installed")
    with pytest.raises(PatternError, match="PCRE2: "):
        compile_pattern(regex, "-")


def test_endless_matching_is_no_match() -> None:
    pytest.importorskip("pcre2", reason="the package pcre2 is not installed")
    match = compile_pattern("(\\pL+)+", "-")
    assert not match(b"a" * 60 + b"1-")
