"""Names, versions, and the order of choice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.boot.paths import BootNameError, check_name, check_path
from cfsctl.boot.versions import version_key

ORDER = [
    "122.1~rc1",
    "122.1",
    "123~rc1-1",
    "123",
    "123-a",
    "123-a.1",
    "123-1",
    "123-1.1",
    "123^post1",
    "123.a-1",
    "123.1-1",
    "123a-1",
    "124-1",
]
"""The example of the specification of version formats, the oldest first."""


@pytest.mark.parametrize(("older", "newer"), [*itertools.pairwise(ORDER)])
def test_order_of_versions(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("5.9", "5.10"),
        ("6.1.0-9", "6.10.0"),
        ("6.1.0-9-amd64", "6.1.0-10-amd64"),
        ("", "0"),
        ("9" * 5000, "1" + "0" * 5000),
    ],
)
def test_order_of_kernels(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)


def test_leading_zeros_do_not_count() -> None:
    assert version_key("1.007") == version_key("1.7")


@given(st.text(max_size=50), st.text(max_size=50))
def test_any_two_versions_compare(first: str, second: str) -> None:
    assert (version_key(first) < version_key(second)) != (version_key(second) <= version_key(first))


@pytest.mark.parametrize("name", ["6.1.0-9-amd64", "my-id", "a b", "Fedora_42+x~1", "ü"])
def test_good_names(name: str) -> None:
    assert check_name(name, "name") == name


@given(st.text(max_size=40))
def test_any_path_is_clean_or_refused(path: str) -> None:
    try:
        clean = check_path(path, "path")
    except BootNameError:
        return
    assert not clean.startswith("/")
    assert not {"", ".", ".."} & set(clean.split("/"))
    assert clean.isprintable()
