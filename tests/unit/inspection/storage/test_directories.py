"""How much of the space is in which directory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cfsctl.digest import ObjectID
from cfsctl.inspection.storage.directories import DirectorySizes
from cfsctl.inspection.storage.model import BlockKind, SpaceBlock
from cfsctl.repository.gc.object_table import Mark, ObjectTable
from cfsctl.tree.model import Directory, ExternalFile, FileSystem, InlineFile


def object_id(number: int) -> ObjectID:
    return ObjectID(number.to_bytes(4, "big") + bytes(28))


def make_tree(files: dict[bytes, int]) -> FileSystem:
    """Return a tree with an object, by its number, at each path."""
    root = Directory(0o755)
    for path, number in files.items():
        directory = root
        *above, name = path.split(b"/")
        for one in above:
            found = directory.entries.setdefault(one, Directory(0o755))
            assert isinstance(found, Directory)
            directory = found
        directory.entries[name] = ExternalFile(object_id(number), number, 0o644)
    return FileSystem(root)


def total(blocks: tuple[SpaceBlock, ...]) -> int:
    return sum(block.size_bytes for block in blocks)


def check_sums(block: SpaceBlock) -> None:
    """Check that parts are all of a block, at every depth."""
    if block.parts:
        assert total(block.parts) == block.size_bytes
        assert sum(part.objects for part in block.parts) == block.objects
        for part in block.parts:
            check_sums(part)


PATHS = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), min_size=1, max_size=9).map(
    lambda names: b"/".join(names) + b"/f"
)


@given(st.lists(st.dictionaries(PATHS, st.integers(1, 30), max_size=12), max_size=4))
def test_each_object_counts_once(trees: list[dict[bytes, int]]) -> None:
    sizes = {object_id(number): number * 1000 for number in range(1, 31)}
    table = ObjectTable.from_sizes(sizes)
    directories = DirectorySizes(table, frozenset())
    for files in trees:
        directories.add(make_tree(files))
    met = {number for files in trees for number in files.values()}
    blocks = directories.blocks(sum(sizes.values()))
    assert total(blocks) == sum(number * 1000 for number in met)
    assert {number for number in range(1, 31) if table.has(object_id(number), Mark.MET)} == met
    for block in blocks:
        check_sums(block)


def test_the_first_path_counts() -> None:
    directories = DirectorySizes(ObjectTable.from_sizes({object_id(1): 10, object_id(2): 20}), {object_id(2)})
    directories.add(make_tree({b"usr/one": 1}))
    directories.add(make_tree({b"etc/one": 1, b"etc/two": 2}))
    found = {block.path: block.size_bytes for block in directories.blocks(30)}
    assert found == {b"/usr": 10, b"/etc": 20}
    assert directories.paths == {object_id(2): b"/etc/two"}


def test_files_in_a_directory_and_smaller_parts() -> None:
    files = {b"usr/file": 500} | {b"usr/d%02d/f" % number: 100 + number for number in range(30)}
    sizes = {object_id(number): number for number in files.values()}
    directories = DirectorySizes(ObjectTable.from_sizes(sizes), frozenset())
    directories.add(make_tree(files))
    (usr,) = directories.blocks(sum(sizes.values()))
    kinds = [part.kind for part in usr.parts]
    assert kinds.count(BlockKind.FILES) == 1
    assert kinds.count(BlockKind.DIRECTORY) == 14
    assert kinds[-1] is BlockKind.REST
    assert usr.parts[-1].objects == 16
    check_sums(usr)


def test_depth_and_what_is_not_an_object() -> None:
    tree = make_tree({b"/".join([b"d"] * 1000) + b"/f": 7})
    tree.root.entries[b"inline"] = InlineFile(b"x", 0o644)
    directories = DirectorySizes(ObjectTable.from_sizes({object_id(7): 7}), {object_id(7)})
    directories.add(tree)
    block, depth = directories.blocks(7)[0], 1
    while block.parts:
        block, depth = block.parts[0], depth + 1
    assert depth == 4
    assert directories.paths[object_id(7)] == b"/" + b"d/" * 1000 + b"f"


def test_objects_that_are_missing_do_not_count() -> None:
    directories = DirectorySizes(ObjectTable.from_sizes({}), frozenset())
    directories.add(make_tree({b"usr/one": 1}))
    assert total(directories.blocks(1)) == 0
