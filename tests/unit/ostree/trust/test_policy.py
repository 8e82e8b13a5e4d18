"""Bindings and time: which commit may have which ref."""

from __future__ import annotations

import pytest

from cfsctl.digest import Checksum
from cfsctl.errors import ExitCode
from cfsctl.gvariant import Variant
from cfsctl.ostree.objects import Commit
from cfsctl.ostree.store.binding import (
    BindingError,
    DowngradeError,
    branch_names,
    check_binding,
    check_not_older,
    format_time,
)

ONE, TWO, ROOT = Checksum(b"\1" * 32), Checksum(b"\2" * 32), Checksum(bytes(32))


def make(timestamp_s: int = 0, parent: Checksum | None = None, **metadata: Variant) -> Commit:
    entries = tuple((key.replace("_", "."), value) for key, value in metadata.items())
    return Commit(entries, parent, "", "", timestamp_s, ROOT, ROOT)


def bound(value: Variant) -> Commit:
    return Commit((("other", Variant("s", "x")), ("ostree.ref-binding", value)), None, "", "", 0, ROOT, ROOT)


@pytest.mark.parametrize(
    ("ref", "names"),
    [
        ("main", {"main"}),
        ("a/b", {"a/b"}),
        ("heads/a/b", {"heads/a/b", "a/b"}),
        ("remotes/origin/a/b", {"remotes/origin/a/b", "a/b"}),
        ("origin:a/b", {"origin:a/b", "a/b"}),
        ("remotes/origin", {"remotes/origin"}),
        ("origin:", {"origin:"}),
    ],
)
def test_what_a_branch_may_be_called(ref: str, names: set[str]) -> None:
    assert branch_names(ref) == names


def test_a_commit_that_says_nothing_may_have_any_ref() -> None:
    check_binding(ONE, make(), "main")


def test_a_commit_may_have_the_refs_that_it_names() -> None:
    commit = bound(Variant("as", ["main", "testing"]))
    check_binding(ONE, commit, "testing")
    with pytest.raises(BindingError, match="bound to 'main', 'testing'") as caught:
        check_binding(ONE, commit, "stable")
    assert caught.value.exit_code is ExitCode.POLICY
    with pytest.raises(BindingError, match="bound to no refs"):
        check_binding(ONE, bound(Variant("as", [])), "stable")


@pytest.mark.parametrize("value", [Variant("s", "main"), Variant("u", 1)])
def test_a_binding_that_is_no_list(value: Variant) -> None:
    with pytest.raises(BindingError, match=f"expected a list of refs, found type {value.type}"):
        check_binding(ONE, bound(value), "main")


def test_every_binding_must_agree() -> None:
    metadata = tuple(("ostree.ref-binding", Variant("as", [name])) for name in ("main", "other"))
    with pytest.raises(BindingError, match="bound to 'other'"):
        check_binding(ONE, Commit(metadata, None, "", "", 0, ROOT, ROOT), "main")


def test_time_goes_on() -> None:
    check_not_older("main", (ONE, make(10)), (TWO, make(11)))
    check_not_older("main", (ONE, make(10)), (ONE, make(10)))
    check_not_older("main", (ONE, make(10)), (TWO, make(10, parent=ONE)))


@pytest.mark.parametrize("new", [make(9), make(10), make(9, parent=ONE), make(10, parent=ROOT)])
def test_time_does_not_go_back(new: Commit) -> None:
    with pytest.raises(
        DowngradeError, match=f"^ref 'main': expected a commit newer than {ONE.hex()} of 1970-01-01"
    ):
        check_not_older("main", (ONE, make(10)), (TWO, new))


def test_times_that_no_calendar_has() -> None:
    assert format_time(0) == "1970-01-01 00:00:00 UTC"
    assert format_time((1 << 64) - 1) == "18446744073709551615"
