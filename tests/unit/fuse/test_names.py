"""Names under which attributes are presented."""

from __future__ import annotations

import pytest

from cfsctl.fuse.names import View, present, present_all

NAMES: list[tuple[bytes, bytes | None, bytes]] = [
    (b"user.note", b"user.note", b"user.note"),
    (b"trusted.x", b"trusted.x", b"trusted.x"),
    (b"trusted.overlay.metacopy", None, b"user.overlay.metacopy"),
    (b"trusted.overlay.opaque", None, b"user.overlay.opaque"),
    (b"trusted.overlay.overlay.opaque", b"trusted.overlay.opaque", b"trusted.overlay.opaque"),
    (b"trusted.overlay.overlay.overlay.x", b"trusted.overlay.overlay.x", b"trusted.overlay.overlay.x"),
    (b"user.overlay.redirect", b"user.overlay.redirect", b"user.overlay.overlay.redirect"),
    (b"user.overlay.overlay.x", b"user.overlay.overlay.x", b"user.overlay.overlay.overlay.x"),
    (b"user.overlayed", b"user.overlayed", b"user.overlayed"),
]


@pytest.mark.parametrize(("stored", "plain", "below"), NAMES)
def test_names(stored: bytes, plain: bytes | None, below: bytes) -> None:
    assert present(stored, View.PLAIN) == plain
    assert present(stored, View.OVERLAY) == below


def test_no_two_attributes_get_one_name() -> None:
    for view in View:
        shown = [name for stored, *_ in NAMES if (name := present(stored, view)) is not None]
        assert len(set(shown)) == len(shown)


def test_hole_has_no_metacopy_that_overlayfs_would_follow() -> None:
    metacopy, redirect = (b"trusted.overlay.metacopy", b""), (b"trusted.overlay.redirect", b"/ab/cd")
    assert present_all([metacopy], View.OVERLAY) == {}
    assert present_all([metacopy, redirect], View.OVERLAY) == {
        b"user.overlay.metacopy": b"",
        b"user.overlay.redirect": b"/ab/cd",
    }
