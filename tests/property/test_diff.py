"""Trees are the same exactly where their images are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cfsctl.erofs.format import STUB_NAMES, FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.inspection.diff import Added, Changed, Removed, iter_differences
from cfsctl.inspection.variants import copy_tree
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Leaf,
    SparseFile,
    Symlink,
)
from tests.property.trees import filesystems

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm

    Entry = tuple[Directory, bytes]


def entries(filesystem: FileSystem) -> list[Entry]:
    """Return the place of every entry."""
    found: list[Entry] = []
    stack = [filesystem.root]
    while stack:
        directory = stack.pop()
        found += [(directory, name) for name in sorted(directory.entries)]
        stack += [node for node in directory.entries.values() if isinstance(node, Directory)]
    return found


def change(filesystem: FileSystem, place: Entry, how: int) -> None:
    """Change one entry of a tree in one of many ways, some of which do not fit every entry."""
    directory, name = place
    node = directory.entries[name]
    match how:
        case 0:
            node.mode ^= 0o1000
        case 1:
            node.uid ^= 1
        case 2:
            node.mtime_ns ^= 1
        case 3:
            node.xattrs = {**node.xattrs, b"user.new": b""}
        case 4:
            del directory.entries[name]
        case 5:
            directory.entries[(name + b"~")[-255:]] = Fifo(0)
        case 6 if isinstance(node, Leaf) and not (isinstance(node, CharDevice) and node.rdev == 0):
            directory.entries[(name + b"~")[-255:]] = node
        case 7:
            filesystem.root.mtime_s += 1
        case _:
            change_content(node)


def change_content(node: Directory | Leaf) -> None:
    match node:
        case InlineFile():
            node.data += b"~"
        case ExternalFile():
            node.has_digest = not node.has_digest
        case SparseFile():
            node.size -= 1
        case Symlink():
            node.target += b"~"
        case BlockDevice() | CharDevice():
            node.rdev = 0x777
        case _:
            node.gid ^= 1


@settings(max_examples=60)
@given(
    made=filesystems(),
    place=st.integers(0, 1 << 16),
    how=st.integers(0, 12),
    version=st.sampled_from([FormatVersion.V0, FormatVersion.V1]),
)
def test_same_trees_and_same_images(
    made: tuple[FileSystem, Algorithm], place: int, how: int, version: FormatVersion
) -> None:
    old = made[0]
    new = copy_tree(old)
    places = entries(new)
    # A whiteout of the tree that is like a stub of the image is no difference to the writer.
    assume(not any(name in old.root.entries for name in STUB_NAMES))
    assert list(iter_differences(old, new)) == []
    if places:
        change(new, places[place % len(places)], how)
    there = list(iter_differences(old, new))
    assert bool(there) == (build_image(old, version) != build_image(new, version))
    back = list(iter_differences(new, old))
    assert [each.path for each in there] == [each.path for each in back]
    turned = {Added: Removed, Removed: Added, Changed: Changed}
    assert [type(each) for each in there] == [turned[type(each)] for each in back]
