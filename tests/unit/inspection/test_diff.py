"""Differences between trees, attribute by attribute."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.inspection.diff import (
    Added,
    Attribute,
    Change,
    Changed,
    Difference,
    Removed,
    format_device,
    iter_changes,
    iter_differences,
    quote,
)
from cfsctl.inspection.report import iter_text, to_document
from cfsctl.inspection.variants import copy_tree
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Socket,
    SparseFile,
    Symlink,
)

if TYPE_CHECKING:
    from cfsctl.inspection.diff import Entry

ONE = ObjectID(b"\x01" * 32)
TWO = ObjectID(b"\x02" * 32)


def tree(**entries: Entry) -> FileSystem:
    root = Directory(0o755)
    root.entries = {name.encode(): node for name, node in entries.items()}
    return FileSystem(root)


def directory(**entries: Entry) -> Directory:
    return tree(**entries).root


def differences(old: FileSystem, new: FileSystem) -> list[Difference]:
    return list(iter_differences(old, new))


def without_digest() -> ExternalFile:
    file = ExternalFile(ONE, 9, 0o644)
    file.has_digest = False
    return file


CHANGES: dict[str, tuple[Entry, Entry, list[tuple[str, str | None, str | None]]]] = {
    "mode": (Fifo(0o644), Fifo(0o4755), [("mode", "0644", "4755")]),
    "owner": (Fifo(0o644, 1, 2), Fifo(0o644, 1, 3), [("owner", "1:2", "1:3")]),
    "seconds": (Fifo(0, 0, 0, 5), Fifo(0, 0, 0, -6), [("mtime", "5.000000000", "-6.000000000")]),
    "nanoseconds": (Fifo(0, 0, 0, 5, 1), Fifo(0, 0, 0, 5), [("mtime", "5.000000001", "5.000000000")]),
    "type": (Fifo(0o644), Socket(0o644), [("type", "fifo", "socket")]),
    "type and mode": (Directory(0o755), Symlink(b"x", 0o777),
                      [("type", "directory", "symlink"), ("mode", "0755", "0777")]),
    "target": (Symlink(b"a", 0), Symlink(b"b\n", 0), [("target", '"a"', '"b\\x0a"')]),
    "char device": (CharDevice(0x103, 0), CharDevice(0x105, 0), [("device", "1:3", "1:5")]),
    "block device": (BlockDevice(0x103, 0), BlockDevice(0x104, 0), [("device", "1:3", "1:4")]),
    "inline content": (InlineFile(b"a", 0), InlineFile(b"b", 0),
                       [("content", '1 bytes, "a"', '1 bytes, "b"')]),
    "long inline content": (InlineFile(b"a" * 65, 0), InlineFile(b"b" * 65, 0),
                            [("content", "65 bytes", "65 bytes")]),
    "object": (ExternalFile(ONE, 9, 0), ExternalFile(TWO, 9, 0),
               [("content", f"9 bytes, {ONE.hex()}", f"9 bytes, {TWO.hex()}")]),
    "size": (ExternalFile(ONE, 9, 0), ExternalFile(ONE, 8, 0),
             [("content", f"9 bytes, {ONE.hex()}", f"8 bytes, {ONE.hex()}")]),
    "digest": (ExternalFile(ONE, 9, 0o644), without_digest(),
               [("storage", "object", "object without digest")]),
    "hole": (SparseFile(9, 0), SparseFile(8, 0), [("content", "9 zero bytes", "8 zero bytes")]),
    "hole and zeros": (SparseFile(3, 0), InlineFile(bytes(3), 0), [("storage", "sparse", "inline")]),
    "hole and data": (InlineFile(b"abc", 0), SparseFile(3, 0),
                      [("content", '3 bytes, "abc"', "3 zero bytes"), ("storage", "inline", "sparse")]),
    "inline and its object": (
        InlineFile(b"same", 0), ExternalFile(compute_digest(b"same", Algorithm.SHA256), 4, 0),
        [("storage", "inline", "object")]),
    "object elsewhere": (
        ExternalFile(ONE, 4, 0), RedirectedFile(b"x/y", 4, ONE, 0), [("storage", "object", 'at "x/y"')]),
    "object elsewhere without digest": (
        RedirectedFile(b"x", 4, None, 0), RedirectedFile(b"y", 4, None, 0),
        [("content", "4 bytes, no digest", "4 bytes, no digest"), ("storage", 'at "x"', 'at "y"')]),
    "nothing": (InlineFile(b"a", 1, 2, 3, 4, 5, {b"user.a": b"b"}),
                InlineFile(b"a", 1, 2, 3, 4, 5, {b"user.a": b"b"}), []),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_change_of_a_node(name: str) -> None:
    old, new, expected = CHANGES[name]
    found = [(change.attribute.value, change.old, change.new) for change in iter_changes(old, new)]
    assert found == expected
    back = [(change.attribute.value, change.new, change.old) for change in iter_changes(new, old)]
    assert back == expected


def test_attributes_are_compared_one_by_one() -> None:
    old = Fifo(0, xattrs={b"user.a": b"1", b"user.b": b"2", b"user.same": b"x"})
    new = Fifo(0, xattrs={b"user.b": b"3", b"user.c": b"", b"user.same": b"x"})
    assert list(iter_changes(old, new)) == [
        Change(Attribute.XATTR, '"1"', None, b"user.a"),
        Change(Attribute.XATTR, '"2"', '"3"', b"user.b"),
        Change(Attribute.XATTR, None, '""', b"user.c"),
    ]


def test_paths_are_in_order_and_complete() -> None:
    old = tree(a=directory(x=Fifo(0), y=Fifo(0)), b=Fifo(0), c=directory())
    new = tree(a=directory(y=Fifo(1), z=directory(deep=Fifo(0))), c=directory(new=Fifo(0)), d=Fifo(0))
    found = [(type(each), each.path) for each in differences(old, new)]
    assert found == [
        (Removed, b"/a/x"),
        (Changed, b"/a/y"),
        (Added, b"/a/z"),
        (Added, b"/a/z/deep"),
        (Removed, b"/b"),
        (Added, b"/c/new"),
        (Added, b"/d"),
    ]


def test_directory_that_became_a_file() -> None:
    old, new = tree(a=directory(x=Fifo(0))), tree(a=Fifo(0o755))
    first, second = differences(old, new)
    assert isinstance(first, Changed)
    assert [change.attribute for change in first.changes] == [Attribute.TYPE]
    assert isinstance(second, Removed)
    assert second.path == b"/a/x"


def linked(*groups: str) -> FileSystem:
    """Return a tree whose names are linked by groups."""
    return tree(**{name: leaf for group in groups for leaf in [Fifo(0)] for name in group})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (("abc",), ("abc",), []),
        (("ab", "c"), ("a", "b", "c"), ["! /b: link /a -> none"]),
        (("a", "b"), ("ab",), ["! /b: link none -> /a"]),
        (("ac", "b"), ("a", "bc"), ["! /c: link /a -> /b"]),
        (("abc",), ("bc",), ["- /a (fifo)", "! /b: link /a -> none", "! /c: link /a -> /b"]),
        (("ab",), ("abc",), ["+ /c (fifo)"]),
        (("abcd",), ("ac", "bd"), ["! /b: link /a -> none", "! /d: link /a -> /b"]),
    ],
)
def test_hard_links(old: tuple[str, ...], new: tuple[str, ...], expected: list[str]) -> None:
    assert list(iter_text(differences(linked(*old), linked(*new)))) == expected


def test_ignored_attributes() -> None:
    old, new = tree(a=Fifo(0, 1), b=Fifo(1)), tree(a=Fifo(2, 3), b=Fifo(2))
    found = list(iter_differences(old, new, ignored={Attribute.MODE}))
    assert [each.path for each in found] == [b"/a"]
    assert list(iter_differences(old, new, ignored={Attribute.MODE, Attribute.OWNER})) == []


def test_tree_is_equal_to_its_copy() -> None:
    shared = ExternalFile(ONE, 9, 0)
    filesystem = tree(a=directory(x=shared), b=shared, c=Symlink(b"t", 0), d=Socket(0))
    assert differences(filesystem, copy_tree(filesystem)) == []


def test_text() -> None:
    old = tree(gone=CharDevice(0x0301, 0o600), kept=Fifo(0))
    new = tree(**{"new\n": Symlink(b"t\xff", 0o777), "kept": Fifo(0, xattrs={b"user.\x01": b'"\\'})})
    assert list(iter_text(differences(old, new))) == [
        "- /gone (character device 3:1)",
        '! /kept: xattr user.\\x01 none -> "\\"\\\\"',
        '+ /new\\x0a (symlink to "t\\xff")',
    ]


def test_document() -> None:
    old, new = tree(a=Fifo(0)), tree(a=Fifo(1), b=ExternalFile(ONE, 9, 0))
    assert to_document(differences(old, new)) == {
        "same": False,
        "added": [{"path": "/b", "type": "file", "size": 9, "content": f"9 bytes, {ONE.hex()}"}],
        "removed": [],
        "changed": [{"path": "/a", "changes": [{"attribute": "mode", "old": "0000", "new": "0001"}]}],
    }
    assert to_document([])["same"] is True


def test_long_values_are_cut() -> None:
    assert quote(b"x" * 100) == f'"{"x" * 64}"... (100 bytes)'


@pytest.mark.parametrize(("major", "minor"), [(0, 0), (1, 3), (259, 0), (7, 300), (4095, 1 << 19)])
def test_device_numbers(major: int, minor: int) -> None:
    assert format_device(os.makedev(major, minor)) == f"{major}:{minor}"
