"""Whiteouts that programs understand in different ways: applied as ever, and remarked on."""

from __future__ import annotations

import pytest

from cfsctl.oci.tar import Entry, TarParser
from cfsctl.oci.to_tree import TreeBuilder
from tests.support.oci import Member, directory, file, hard_link, make_tar, symlink


def build(*layers: list[Member]) -> TreeBuilder:
    builder = TreeBuilder()
    for layer in layers:
        builder.begin_layer()
        for event in TarParser().feed(make_tar(layer)):
            if isinstance(event, Entry):
                builder.apply(event, None)
    return builder


def names(builder: TreeBuilder) -> set[bytes]:
    return set(builder.filesystem.root.entries)


@pytest.mark.parametrize("whiteout", [".wh.a", ".wh..wh..opq"])
def test_a_whiteout_of_the_same_layer_is_remarked_on(whiteout: str) -> None:
    builder = build([file("a"), file(whiteout)])
    assert names(builder) == set()
    assert [remark for remark in builder.remarks if "its own layer" in remark and whiteout in remark]


@pytest.mark.parametrize("whiteout", [".wh.a", ".wh..wh..opq", ".wh.absent", ".wh."])
def test_a_whiteout_of_a_lower_layer_is_as_it_should_be(whiteout: str) -> None:
    builder = build([file("a")], [file(whiteout)])
    assert names(builder) == ({b"a"} if whiteout in {".wh.absent", ".wh."} else set())
    assert builder.remarks == (["'/.wh.': a whiteout of nothing"] if whiteout == ".wh." else [])


def test_a_name_moved_by_a_hard_link_is_as_it_should_be() -> None:
    builder = build([file("a")], [hard_link("b", "a"), file(".wh.a")])
    assert (names(builder), builder.remarks) == ({b"b"}, [])


@pytest.mark.parametrize(
    "whiteout", [hard_link(".wh.a", "absent"), symlink(".wh.a", "x"), directory(".wh.a")]
)
def test_a_whiteout_of_any_type_removes(whiteout: Member) -> None:
    builder = build([file("a")], [whiteout])
    assert names(builder) == set()
    assert [remark for remark in builder.remarks if "not a regular file" in remark]


def test_a_layer_full_of_them_has_few_remarks() -> None:
    builder = build([entry for number in range(100) for entry in (file(f"{number}"), file(f".wh.{number}"))])
    assert len(builder.remarks) == 3
