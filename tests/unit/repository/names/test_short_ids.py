"""Beginnings of IDs."""

from __future__ import annotations

import pytest

from cfsctl.repository.names.names import InvalidNameError, check_new_ref
from cfsctl.repository.names.short_ids import (
    AmbiguousIdError,
    ShortId,
    choose_id,
    distinct_length,
    parse_short_id,
)

TYPED = {
    "1a2b": ShortId(None, "1a2b", is_marked=False),
    "1A2B": ShortId(None, "1a2b", is_marked=False),
    "sha512:1a2b": ShortId("sha512", "1a2b", is_marked=True),
    "@1a2b": ShortId(None, "1a2b", is_marked=True),
    "@sha256:1a2b3c": ShortId("sha256", "1a2b3c", is_marked=True),
    "f" * 128: ShortId(None, "f" * 128, is_marked=False),
    "1a2": None,
    "": None,
    "@": None,
    "sha512:": None,
    "md5:1a2b": None,
    "1a2g": None,
    "1a2b\n": None,
    "1a2b ": None,
    "f" * 129: None,
    "@@1a2b": None,
    "\u0661\u0662\u0663\u0664": None,
}


@pytest.mark.parametrize("text", TYPED, ids=repr)
def test_what_is_the_beginning_of_an_id(text: str) -> None:
    assert parse_short_id(text) == TYPED[text]


IDS = ["aaaa0000ffff1111", "aaaa0000ffff2222", "bbbb000000000000"]


def test_the_only_one_is_found() -> None:
    assert choose_id("bbbb", [*IDS, IDS[2]], "ID") == IDS[2]
    assert choose_id("aaaa0000ffff2", IDS, "ID") == IDS[1]
    assert choose_id("cccc", IDS, "ID") is None


def test_several_are_listed_so_that_they_can_be_told_apart() -> None:
    names = {IDS[0]: "web"}
    with pytest.raises(AmbiguousIdError) as caught:
        choose_id("aaaa", IDS, "image ID", names.get)
    assert str(caught.value) == ("ambiguous image ID 'aaaa': 2 match: aaaa0000ffff1 (web), aaaa0000ffff2")
    assert caught.value.hint == "type more digits"


def test_very_many_are_counted() -> None:
    with pytest.raises(AmbiguousIdError, match=r"300 match: .* and 292 more$"):
        choose_id("aaaa", [f"aaaa{number:04x}" for number in range(300)], "ID")


def test_digits_that_tell_ids_apart() -> None:
    assert distinct_length(IDS) == 13
    assert distinct_length(IDS[:1]) == distinct_length([]) == 0


NEW = {
    "web": "web",
    "a/b": "a/b",
    "refs/web": "web",
    "refs/a/b": "a/b",
    "/a": "a",
    "cafe": "cafe",
    "k:v": "k:v",
    "@q": "@q",
    "sha512:latest": "sha512:latest",
    "a" * 63: "a" * 63,
}


@pytest.mark.parametrize("name", NEW)
def test_a_new_ref_is_named_as_it_will_be_found(name: str) -> None:
    assert check_new_ref(name) == NEW[name]


@pytest.mark.parametrize(
    "name",
    [
        "sha512:abc",
        "sha256:0",
        "@sha512:abc",
        "SHA512:ABC",
        "a" * 64,
        "A" * 64,
        "a" * 128,
        "@" + "a" * 64,
        "refs/" + "a" * 64,
        "refs/sha512:abc",
        "refs/refs/x",
        "refs/refs",
        "refs",
        "refs/",
    ],
)
def test_a_new_ref_that_nobody_could_reach_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError):
        check_new_ref(name)
