"""From a commit to a tree: what becomes of each kind of object, and what is refused."""

from __future__ import annotations

import gc
import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, Checksum, ObjectID
from cfsctl.dumpfile import iter_dump
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.errors import DigestMismatchError
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.ostree.limits import LimitError, PlanLimits
from cfsctl.ostree.objects import OstreeObjectError
from cfsctl.ostree.store.commit_stream import CommitStream, CommitStreamError
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.splitstream import SplitstreamReader
from cfsctl.tree.model import NO_XATTRS, Directory, ExternalFile, InlineFile, Symlink
from tests.fakes.object_store import MemoryStore
from tests.support.commits import CommitMaker

if TYPE_CHECKING:
    from cfsctl.tree.model import FileSystem, Node

_VECTORS = Path(__file__).parents[3] / "vectors"
_IMAGES = [
    line.split("\t") for line in (_VECTORS / "ostree" / "images" / "images.tsv").read_text().splitlines()[1:]
]

SHA256 = Algorithm.SHA256
CONTENT = ObjectID(b"c" * 32)
LABEL = ((b"security.selinux\0", b"label\0"), (b"user.empty\0", b""))


def _stream(maker: CommitMaker, commit: Checksum) -> CommitStream:
    store = MemoryStore(SHA256)
    object_id = write_commit_stream(store, SHA256, commit, maker.objects)
    return CommitStream.read(SplitstreamReader(store.objects[object_id], SHA256), commit)


def _convert(maker: CommitMaker, root: Checksum, limits: PlanLimits | None = None) -> FileSystem:
    return commit_to_filesystem(_stream(maker, maker.commit(root)), limits=limits or PlanLimits())


def _metadata(node: Node) -> tuple[int, int, int, int, int, dict[bytes, bytes]]:
    return node.mode, node.uid, node.gid, node.mtime_s, node.mtime_ns, dict(node.xattrs)


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


# Stored commits


@pytest.mark.parametrize(
    ("name", "commit", "hash_name", "erofs", "image", "upstream"),
    _IMAGES,
    ids=["-".join((row[0], row[2], f"V{row[3]}")) for row in _IMAGES],
)
def test_image_of_a_stored_commit(
    name: str, commit: str, hash_name: str, erofs: str, image: str, upstream: str
) -> None:
    algorithm = Algorithm.from_hash_name(hash_name)
    data = (_VECTORS / "splitstream" / f"{name}-{hash_name}.splitstream").read_bytes()
    stream = CommitStream.read(SplitstreamReader(data, algorithm), Checksum(bytes.fromhex(commit)))
    for names, expected in ((XattrNames.STRIPPED, image), (XattrNames.UPSTREAM, upstream)):
        built = build_image(commit_to_filesystem(stream, names), FormatVersion(int(erofs)))
        assert compute_digest(built, algorithm).hex() == expected
    if erofs == "1":
        assert stream.image is not None
        assert stream.image.hex() == upstream


@pytest.mark.parametrize("path", sorted((_VECTORS / "ostree" / "images").glob("*.dump.gz")), ids=_stem)
def test_dump_of_a_stored_commit(path: Path) -> None:
    data = (_VECTORS / "splitstream" / f"{_stem(path)}.splitstream").read_bytes()
    algorithm = Algorithm.from_hash_name(_stem(path).rpartition("-")[2])
    stream = CommitStream.read(SplitstreamReader(data, algorithm))
    assert b"".join(iter_dump(commit_to_filesystem(stream))) == gzip.decompress(path.read_bytes())


# What becomes of objects


def test_every_kind_of_object_becomes_its_node() -> None:
    maker = CommitMaker()
    root = maker.dirtree(
        [
            (b"inline", maker.file(b"inline", mode=0o4755, owner=(7, 8), xattrs=LABEL)),
            (b"empty", maker.file(b"")),
            (b"external", maker.file(b"x" * 100, CONTENT, mode=0o600, owner=(9, 10), xattrs=LABEL)),
            (b"link", maker.symlink(b"/target", LABEL)),
        ],
        [(b"dir", maker.dirtree(), maker.dirmeta(0o1777, 3, 4, LABEL))],
    )
    tree = commit_to_filesystem(_stream(maker, maker.commit(root, maker.dirmeta(0o700, 1, 2)))).root
    attributes = {b"security.selinux": b"label\0", b"user.empty": b""}
    inline, empty, external, link, directory = (
        tree.entries[name] for name in (b"inline", b"empty", b"external", b"link", b"dir")
    )
    assert _metadata(tree) == (0o700, 1, 2, 0, 0, {})
    assert isinstance(inline, InlineFile)
    assert inline.data == b"inline"
    assert _metadata(inline) == (0o4755, 7, 8, 0, 0, attributes)
    assert isinstance(empty, InlineFile)
    assert empty.data == b""
    assert empty.xattrs is NO_XATTRS
    assert isinstance(external, ExternalFile)
    assert (external.object_id, external.size, external.has_digest) == (CONTENT, 100, True)
    assert _metadata(external) == (0o600, 9, 10, 0, 0, attributes)
    assert isinstance(link, Symlink)
    assert link.target == b"/target"
    assert _metadata(link) == (0o777, 0, 0, 0, 0, attributes)
    assert isinstance(directory, Directory)
    assert _metadata(directory) == (0o1777, 3, 4, 0, 0, attributes)
    assert len(tree.entries) == 5


def test_names_of_attributes_can_be_kept_as_the_original_does() -> None:
    maker = CommitMaker()
    root = maker.dirtree([(b"file", maker.file(b"", xattrs=LABEL))])
    tree = commit_to_filesystem(_stream(maker, maker.commit(root)), XattrNames.UPSTREAM).root
    assert dict(tree.entries[b"file"].xattrs) == dict(LABEL)


def test_equal_files_are_one_inode_and_equal_directories_are_not() -> None:
    maker = CommitMaker()
    files = [(b"empty", maker.file(b"")), (b"link", maker.symlink(b"x")), (b"big", maker.file(b"y", CONTENT))]
    inner = maker.dirtree(files)
    root = maker.dirtree(files, [(b"a", inner, maker.plain), (b"b", inner, maker.plain)])
    entries = _convert(maker, root).root.entries
    first, second = entries[b"a"], entries[b"b"]
    assert isinstance(first, Directory)
    assert isinstance(second, Directory)
    assert first is not second
    for name, _ in files:
        assert entries[name] is first.entries[name] is second.entries[name]


def test_headers_that_repeat_are_told_apart() -> None:
    maker = CommitMaker()
    kinds = [
        (mode, owner, xattrs)
        for mode in (0o644, 0o755)
        for owner in ((0, 0), (1, 0), (0, 1))
        for xattrs in ((), LABEL)
    ]
    cases = {b"%d-%d" % (n, size): (size, *kind) for size in (100, 200) for n, kind in enumerate(kinds)}
    files = [
        (name, maker.file(b"x" * size, CONTENT, mode=mode, owner=owner, xattrs=xattrs))
        for name, (size, mode, owner, xattrs) in cases.items()
    ]
    entries = _convert(maker, maker.dirtree(files)).root.entries
    assert len(entries) == 24
    for name, (size, mode, owner, xattrs) in cases.items():
        node = entries[name]
        assert isinstance(node, ExternalFile)
        assert node.size == size
        assert _metadata(node) == (mode, *owner, 0, 0, {key[:-1]: value for key, value in xattrs})


def test_collector_is_on_again_afterwards() -> None:
    maker = CommitMaker()
    _convert(maker, maker.dirtree())
    assert gc.isenabled()
    with pytest.raises(CommitStreamError):
        _convert(maker, Checksum(bytes(32)))
    assert gc.isenabled()


# What is refused

_LIMITS = PlanLimits(max_entries=100, max_depth=10)


def _nest(maker: CommitMaker, levels: int, names: tuple[bytes, ...]) -> Checksum:
    """Return a directory that holds the one below it under each of some names, and so on."""
    tree = maker.dirtree()
    for _ in range(levels):
        tree = maker.dirtree([], [(name, tree, maker.plain) for name in names])
    return tree


def test_tree_that_doubles_at_every_level_is_refused_before_it_grows() -> None:
    maker = CommitMaker()
    with pytest.raises(LimitError, match="at most 10000000 entries in the whole tree"):
        _convert(maker, _nest(maker, 40, (b"a", b"b")))


@pytest.mark.parametrize(("levels", "is_fine"), [(5, True), (6, False)])
def test_entries_are_counted_as_expanded(levels: int, is_fine: bool) -> None:  # noqa: FBT001 - a case
    maker = CommitMaker()
    root = _nest(maker, levels, (b"a", b"b"))
    if is_fine:
        assert len(_convert(maker, root, _LIMITS).root.entries) == 2
        return
    with pytest.raises(LimitError, match="100 entries"):
        _convert(maker, root, _LIMITS)


@pytest.mark.parametrize(("levels", "is_fine"), [(10, True), (11, False), (3000, False)])
def test_depth_is_limited_and_costs_no_recursion(levels: int, is_fine: bool) -> None:  # noqa: FBT001 - a case
    maker = CommitMaker()
    root = _nest(maker, levels, (b"a",))
    limits = PlanLimits(max_depth=10)
    if is_fine:
        assert isinstance(_convert(maker, root, limits).root.entries[b"a"], Directory)
        return
    with pytest.raises(LimitError, match="10 nested directories"):
        _convert(maker, root, limits)


def test_deep_tree_needs_no_recursion() -> None:
    maker = CommitMaker()
    node = _convert(maker, _nest(maker, 5000, (b"a",)), PlanLimits(max_depth=5000)).root
    depth = 0
    while node.entries:
        below = node.entries[b"a"]
        assert isinstance(below, Directory)
        node = below
        depth += 1
    assert depth == 5000


def _replace(maker: CommitMaker, checksum: Checksum, data: bytes, object_id: ObjectID | None = None) -> None:
    maker.objects[checksum] = (data, object_id)


def _fails(maker: CommitMaker, file: Checksum) -> CommitStream:
    return _stream(maker, maker.commit(maker.dirtree([(b"file", file)])))


@pytest.mark.parametrize("missing", ["file", "dirtree", "dirmeta"])
def test_missing_object_is_named(missing: str) -> None:
    maker = CommitMaker()
    file, dirtree, dirmeta = maker.file(b"x"), maker.dirtree(), maker.dirmeta(0o700)
    root = maker.dirtree([(b"file", file)], [(b"dir", dirtree, dirmeta)])
    gone = {"file": file, "dirtree": dirtree, "dirmeta": dirmeta}[missing]
    commit = maker.commit(root)
    del maker.objects[gone]
    with pytest.raises(CommitStreamError, match=f"no {missing} {gone.hex()}"):
        commit_to_filesystem(_stream(maker, commit))


@pytest.mark.parametrize("broken", ["dirtree", "dirmeta", "file", "symlink"])
def test_object_that_is_not_what_its_name_says_is_refused(broken: str) -> None:
    maker = CommitMaker()
    objects = {
        "file": maker.file(b"content"),
        "symlink": maker.symlink(b"target"),
        "dirtree": maker.dirtree(),
        "dirmeta": maker.dirmeta(0o700),
    }
    root = maker.dirtree(
        [(b"file", objects["file"]), (b"link", objects["symlink"])],
        [(b"dir", objects["dirtree"], objects["dirmeta"])],
    )
    commit = maker.commit(root)
    other = {
        "file": maker.file(b"CONTENT"),
        "symlink": maker.symlink(b"TARGET"),
        "dirtree": maker.dirtree([(b"x", maker.file(b""))]),
        "dirmeta": maker.dirmeta(0o777),
    }
    _replace(maker, objects[broken], maker.objects[other[broken]][0])
    with pytest.raises(DigestMismatchError, match=objects[broken].hex()):
        commit_to_filesystem(_stream(maker, commit))


def test_object_that_is_valid_nowhere_is_refused_by_name() -> None:
    maker = CommitMaker()
    junk = maker.add(b"junk, but with the right name")
    for root in (
        maker.dirtree([], [(b"a", junk, maker.plain)]),
        maker.dirtree([], [(b"a", maker.dirtree(), junk)]),
        maker.dirtree([(b"a", junk)]),
    ):
        with pytest.raises(OstreeObjectError, match=f"object {junk.hex()}: "):
            _convert(maker, root)


def test_content_beside_an_object_is_refused() -> None:
    maker = CommitMaker()
    file = maker.file(b"x" * 100, CONTENT)
    _replace(maker, file, maker.objects[file][0] + b"x", CONTENT)
    with pytest.raises(OstreeObjectError, match="content: expected none in the stream"):
        commit_to_filesystem(_fails(maker, file))


def test_symlink_with_an_object_is_refused() -> None:
    maker = CommitMaker()
    link = maker.symlink(b"target")
    _replace(maker, link, maker.objects[link][0], CONTENT)
    with pytest.raises(OstreeObjectError, match="content: expected none"):
        commit_to_filesystem(_fails(maker, link))


@pytest.mark.parametrize("extra", [b"", b"12345"])
def test_content_of_another_size_than_claimed_is_refused(extra: bytes) -> None:
    maker = CommitMaker()
    file = maker.file(b"1234")
    data = maker.objects[file][0][:-4]
    _replace(maker, file, data + extra)
    with pytest.raises(OstreeObjectError, match=f"content: expected 4 bytes, found {len(extra)}"):
        commit_to_filesystem(_fails(maker, file))


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("others", [0, 1])
def test_size_beyond_what_the_kernel_has_is_refused(size: int, others: int) -> None:
    maker = CommitMaker()
    # With another file of the same header first, so that the header is known already.
    files = [maker.file(b"x" * 100, CONTENT) for _ in range(others)]
    file = maker.file(b"y" * 100, CONTENT)
    data = maker.objects[file][0]
    _replace(maker, file, data[:8] + size.to_bytes(8, "big") + data[16:], CONTENT)
    names = [(b"%d" % place, checksum) for place, checksum in enumerate([*files, file])]
    with pytest.raises(OstreeObjectError, match=f"at most {(1 << 63) - 1} bytes"):
        _convert(maker, maker.dirtree(names))
