"""What the writer refuses, and what it leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.read.tree import check_image, read_image
from cfsctl.erofs.write.image import build_image
from cfsctl.limits import MAX_DEPTH
from cfsctl.tree.model import (
    CharDevice,
    Directory,
    ExternalFile,
    FileSystem,
    InlineFile,
    Leaf,
    SparseFile,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

V0, V1, V2 = FormatVersion
EPOCH_1 = (V0, V1)
ALL = (V0, V1, V2)
DIGEST = ObjectID(b"\xab" * 32)


def tree(**entries: Leaf | Directory) -> FileSystem:
    """Return a tree with a directory `d` that holds the entries."""
    root, directory = Directory(0o755), Directory(0o755)
    root.entries[b"d"] = directory
    directory.entries.update({name.encode(): entry for name, entry in entries.items()})
    return FileSystem(root)


def shared(count: int) -> Mapping[bytes, bytes]:
    return {b"user.n%d" % number: b"v" for number in range(count)}


REFUSED = {
    "link target too long": (ALL, tree(x=Symlink(b"t" * 4096, 0o777)), "/d/x: link target of 4096 bytes"),
    "empty link target": (ALL, tree(x=Symlink(b"", 0o777)), "/d/x: link target of 0 bytes"),
    "NUL in a link target": (ALL, tree(x=Symlink(b"a\0b", 0o777)), "/d/x: link target"),
    "link target that fits in no block": (
        (V2,),
        tree(x=Symlink(b"t" * 4070, 0o777)),
        "/d/x: link target of 4070 bytes fits in no block of format 2",
    ),
    "inline content that cannot be read back": (
        (V2,),
        tree(x=InlineFile(b"c" * 513, 0o644)),
        "/d/x: inline content of 513 bytes, more than the 512 of format 2",
    ),
    "file too large": (
        ALL,
        tree(x=ExternalFile(DIGEST, (1 << 53) + 1, 0o644)),
        "/d/x: file of 9007199254740993 bytes",
    ),
    "sparse file too large": (ALL, tree(x=SparseFile(1 << 60, 0o644)), "/d/x: file of 1152921504606846976"),
    "device number": (ALL, tree(x=CharDevice(1 << 32, 0o644)), "/d/x: rdev 4294967296 is out of range"),
    "uid": (ALL, tree(x=InlineFile(b"", 0o644, 1 << 32)), "/d/x: uid 4294967296 is out of range"),
    "negative gid": (ALL, tree(x=ExternalFile(DIGEST, 5, 0o644, 0, -1)), "/d/x: gid -1 is out of range"),
    "time": (
        ALL,
        tree(x=InlineFile(b"", 0o644, 0, 0, 1 << 63)),
        "/d/x: modification time 9223372036854775808",
    ),
    "mode with a file type": (ALL, tree(x=InlineFile(b"", 0o100644)), "/d/x: mode 33188 is out of range"),
    "mode of an external file": (ALL, tree(x=ExternalFile(DIGEST, 5, 0o10000)), "/d/x: mode 4096 is out of"),
    "name too long": (
        ALL,
        tree(**{"x" * 256: InlineFile(b"", 0o644)}),
        "/d: the name b'xxxx.* has 256 bytes",
    ),
    "name with a slash": (ALL, tree(**{"a/b": InlineFile(b"", 0o644)}), "/d: entry b'a/b' has a name"),
    "name with a NUL": (ALL, tree(**{"a\0b": InlineFile(b"", 0o644)}), "/d: entry b'a.x00b' has a name"),
    "empty name": (ALL, tree(**{"": InlineFile(b"", 0o644)}), "/d: entry b'' has a name"),
    "name of the parent": (ALL, tree(**{"..": InlineFile(b"", 0o644)}), r"/d: entry b'\.\.' has a name"),
    "attribute value too long": (
        ALL,
        tree(x=InlineFile(b"", 0o644, xattrs={b"user.a": b"v" * 65536})),
        "/d/x: attribute b'user.a' has 65536 bytes",
    ),
    "attribute name too long": (
        ALL,
        tree(x=InlineFile(b"", 0o644, xattrs={b"user." + b"n" * 256: b""})),
        "/d/x: attribute .* has a name of 261 bytes",
    ),
    "attribute without a name": (
        ALL,
        tree(x=InlineFile(b"", 0o644, xattrs={b"": b""})),
        "/d/x: attribute b'' has a name of 0 bytes",
    ),
    "attributes too long together": (
        ALL,
        tree(x=InlineFile(b"", 0o644, xattrs={b"user.%d" % number: b"v" * 65000 for number in range(5)})),
        "/d/x: all attributes together need 325[0-9]* bytes",
    ),
    "too many shared attributes": (
        ALL,
        tree(x=InlineFile(b"", 0o644, xattrs=shared(256)), y=InlineFile(b"", 0o644, xattrs=shared(256))),
        "/d/x: 256 attributes are shared, more than 255",
    ),
    "digests of two hashes": (
        ALL,
        tree(x=ExternalFile(DIGEST, 5, 0o644), y=ExternalFile(ObjectID(b"\1" * 64), 5, 0o644)),
        "digests of 32, 64 bytes; expected all of 32 or all of 64",
    ),
    "digest of no hash": (ALL, tree(x=ExternalFile(ObjectID(b"\1" * 20), 5, 0o644)), "digests of 20 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_image_can_hold_is_refused_by_its_path(name: str) -> None:
    versions, filesystem, message = REFUSED[name]
    for version in versions:
        with pytest.raises(ErofsError, match=f"^{message}"):
            build_image(filesystem, version)


@pytest.mark.parametrize("version", ALL)
def test_whiteout_with_two_names_is_refused(version: FormatVersion) -> None:
    whiteout = CharDevice(0, 0o644)
    with pytest.raises(ErofsError, match=r"^/d/x: a whiteout with 2 names; expected one$"):
        build_image(tree(x=whiteout, y=whiteout), version)


def test_directory_in_two_places_is_a_mistake() -> None:
    directory = Directory(0o755)
    with pytest.raises(ValueError, match="occurs twice"):
        build_image(tree(x=directory, y=directory), V1)
    directory.entries[b"self"] = directory
    with pytest.raises(ValueError, match="occurs twice"):
        build_image(FileSystem(directory), V2)


LARGEST = {
    "link target": Symlink(b"t" * 4095, 0o777),
    "name of an attribute": InlineFile(b"", 0o644, xattrs={b"user." + b"n" * 250: b""}),
    "value of an attribute": InlineFile(b"", 0o644, xattrs={b"user.a": b"v" * 65535}),
    "all attributes": InlineFile(b"", 0o644, xattrs={b"user.%d" % n: b"v" * 65519 for n in range(4)}),
    "file": ExternalFile(DIGEST, 1 << 53, 0o644),
    "numbers": CharDevice(0xFFFFFFFF, 0o7777, 0xFFFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, 999_999_999),
    "inline content of several blocks": InlineFile(b"c" * 20_000, 0o644),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_that_an_image_can_hold_is_read_back(name: str) -> None:
    leaf = LARGEST[name]
    for version in EPOCH_1:
        image = bytes(build_image(tree(x=leaf), version))
        check_image(image, Algorithm.SHA256)
        directory = read_image(image, Algorithm.SHA256).root.entries[b"d"]
        assert isinstance(directory, Directory)
        assert state(directory.entries[b"x"]) == state(leaf)


def test_255_shared_attributes_are_read_back() -> None:
    filesystem = tree(
        x=InlineFile(b"", 0o644, xattrs=shared(255)), y=InlineFile(b"", 0o644, xattrs=shared(255))
    )
    for version in ALL:
        directory = read_image(bytes(build_image(filesystem, version)), Algorithm.SHA256).root.entries[b"d"]
        assert isinstance(directory, Directory)
        assert [dict(leaf.xattrs) for leaf in directory.entries.values()] == [shared(255)] * 2


def state(node: Leaf | Directory) -> list[object]:
    """Return everything that a node holds."""
    names = {name for cls in type(node).__mro__ for name in getattr(cls, "__slots__", ())}
    values = {name: getattr(node, name) for name in names - {"entries", "xattrs"}}
    return [type(node), sorted(values.items()), dict(node.xattrs)]


def labelled() -> FileSystem:
    """Return a tree with much that an image has in another form."""
    linked = InlineFile(b"x", 0o644, xattrs={b"trusted.overlay.x": b"1"})
    filesystem = tree(a=linked, b=linked, gone=CharDevice(0, 0o644, xattrs={b"user.a": b"1"}))
    filesystem.root.xattrs = {b"security.selinux": b"label"}
    return filesystem


@pytest.mark.parametrize("version", ALL)
def test_the_tree_stays_as_it_was(version: FormatVersion) -> None:
    filesystem, untouched = labelled(), labelled()
    build_image(filesystem, version)
    directory, old = filesystem.root.entries[b"d"], untouched.root.entries[b"d"]
    assert isinstance(directory, Directory)
    assert isinstance(old, Directory)
    assert list(filesystem.root.entries) == [b"d"]
    assert list(directory.entries) == list(old.entries)
    assert state(filesystem.root) == state(untouched.root)
    for name, leaf in directory.entries.items():
        assert state(leaf) == state(old.entries[name])


@pytest.mark.parametrize("version", ALL)
def test_the_order_in_which_a_tree_was_made_does_not_matter(version: FormatVersion) -> None:
    forwards, backwards = tree(), tree()
    entries = [(b"%d" % number, InlineFile(b"%d" % number, 0o644)) for number in range(200)]
    for filesystem, order in ((forwards, entries), (backwards, entries[::-1])):
        directory = filesystem.root.entries[b"d"]
        assert isinstance(directory, Directory)
        directory.entries.update(order)
    assert build_image(forwards, version) == build_image(backwards, version)


def test_equal_attributes_need_not_be_the_same_object() -> None:
    def made(*xattrs: dict[bytes, bytes]) -> bytearray:
        return build_image(
            tree(x=InlineFile(b"", 0o644, xattrs=xattrs[0]), y=InlineFile(b"", 0o644, xattrs=xattrs[1])), V1
        )

    one = {b"user.b": b"2", b"user.a": b"1"}
    assert made(one, one) == made(one, {b"user.a": b"1", b"user.b": b"2"})


def test_a_deep_tree_needs_no_recursion() -> None:
    root = directory = Directory(0o755)
    for _ in range(MAX_DEPTH):
        directory.entries[b"d"] = directory = Directory(0o755)
    directory.entries[b"x"] = leaf = InlineFile(b"", 0o644)
    root.entries[b"y"] = leaf
    for version in ALL:
        assert build_image(FileSystem(root), version)
