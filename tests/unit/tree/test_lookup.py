"""Paths within a tree."""

from __future__ import annotations

import pytest

from cfsctl.tree.lookup import MAX_LINKS, TreePathError, find_node
from cfsctl.tree.model import Directory, InlineFile, Symlink


@pytest.fixture
def root() -> Directory:
    tree, usr, lib = Directory(0o755), Directory(0o755), Directory(0o755)
    tree.entries = {
        b"usr": usr,
        b"lib": Symlink(b"usr/lib", 0o777),
        b"up": Symlink(b"../../usr", 0o777),
        b"loop": Symlink(b"loop", 0o777),
        b"slash": Symlink(b"/usr/lib/", 0o777),
        b"dangling": Symlink(b"/nowhere", 0o777),
    }
    usr.entries = {b"lib": lib}
    lib.entries = {b"f": InlineFile(b"x", 0o644), b"abs": Symlink(b"/lib/f", 0o777)}
    return tree


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", b"/"),
        (b"", b"/"),
        (b"/..", b"/"),
        (b"usr//lib/.", b"/usr/lib"),
        (b"/lib/f", b"/usr/lib/f"),
        (b"/up/lib/../lib/f", b"/usr/lib/f"),
        (b"/slash/abs", b"/usr/lib/f"),
        (b"/lib/f/", b"/usr/lib/f"),
        (b"/usr/lib/../../../lib", b"/usr/lib"),
    ],
)
def test_paths(root: Directory, path: bytes, expected: bytes) -> None:
    found = find_node(root, path)
    assert found is not None
    assert found[1] == expected


@pytest.mark.parametrize("path", [b"/x", b"/usr/x/y", b"/dangling", b"/lib/x"])
def test_missing(root: Directory, path: bytes) -> None:
    assert find_node(root, path) is None


def test_last_link_may_be_left_alone(root: Directory) -> None:
    found = find_node(root, b"/lib", follow_last=False)
    assert found is not None
    assert isinstance(found[0], Symlink)
    assert find_node(root, b"/lib/f", follow_last=False) is not None


def test_loops_end(root: Directory) -> None:
    with pytest.raises(TreePathError, match=f"more than {MAX_LINKS} symbolic links"):
        find_node(root, b"/loop/x")


def test_files_are_no_directories(root: Directory) -> None:
    with pytest.raises(TreePathError, match="/usr/lib/f is not a directory"):
        find_node(root, b"/lib/f/x")


def test_links_that_multiply_end() -> None:
    """Each link names a path with two more of the kind; the kernel's limit of 40 links stops them."""
    tree = Directory(0o755)
    for number in range(60):
        tree.entries[b"l%d" % number] = Symlink(b"l%d/../l%d" % (number + 1, number + 1), 0o777)
    tree.entries[b"l60"] = Directory(0o755)
    with pytest.raises(TreePathError):
        find_node(tree, b"l0")
