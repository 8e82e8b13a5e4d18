"""Trees of every kind, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Leaf,
    Socket,
    SparseFile,
    Symlink,
)

NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"00", b"ff", b"!", b"-", b"...", b"usr", b"n" * 255]),
    st.binary(min_size=1, max_size=40).filter(
        lambda name: not set(name) & {0, 0x2F} and name not in {b".", b".."}
    ),
)
XATTR_NAMES = st.sampled_from(
    [
        b"user.a",
        b"user.overlay.opaque",
        b"user.overlay.whiteout",
        b"user.overlay.whiteouts",
        b"trusted.overlay.opaque",
        b"trusted.overlay.whiteout",
        b"trusted.overlay.whiteouts",
        b"trusted.overlay.metacopy",
        b"trusted.overlay.overlay.x",
        b"trusted.x",
        b"security.selinux",
        b"security.capability",
        b"system.posix_acl_access",
        b"lustre.lov",
        b"plain",
    ]
)
XATTRS = st.dictionaries(
    XATTR_NAMES, st.sampled_from([b"", b"x", b"y", b"label\0", b"long" * 200]), max_size=5
)
WHITEOUT_MARKS = {b"user.overlay.whiteout", b"trusted.overlay.whiteout"}
STAT = st.tuples(
    st.sampled_from([0o644, 0o755, 0o4755, 0o7777, 0]),
    st.sampled_from([0, 1, 65535, 65536, 0xFFFFFFFF]),
    st.sampled_from([0, 1000, 65536]),
    st.sampled_from([0, 1, 1_600_000_000, -1, -(1 << 40), 1 << 40]),
    st.sampled_from([0, 1, 999_999_999]),
    XATTRS,
)
SIZES = st.sampled_from([1, 65, 4096, 4097, 1 << 32, (1 << 43) + 1, 1 << 53])


@st.composite
def leaves(draw: st.DrawFn, algorithm: Algorithm) -> Leaf:
    stat = draw(STAT)
    if draw(st.booleans()):
        return draw(files(algorithm))
    content = draw(st.sampled_from([b"", b"x", b"y" * 64, b"z" * 512]))
    if stat[-1].keys() >= WHITEOUT_MARKS:
        content = content or b"x"  # No image of V2 may hold an empty file that looks like a whiteout of V1.
    simple: list[Leaf] = [
        InlineFile(content, *stat),
        Symlink(draw(st.sampled_from([b"t", b"/a/b", b"l" * 1024])), *stat),
        CharDevice(draw(st.sampled_from([0, 0, 0x103, 0xFFFFFFFF])), *stat),
        BlockDevice(draw(st.sampled_from([0, 0x701])), *stat),
        Fifo(*stat),
        Socket(*stat),
    ]
    return draw(st.sampled_from(simple))


@st.composite
def files(draw: st.DrawFn, algorithm: Algorithm) -> Leaf:
    stat, size = draw(STAT), draw(SIZES)
    if draw(st.integers(0, 4)) == 0:
        return SparseFile(size, *stat)
    digest = bytes([draw(st.integers(0, 255))]) * algorithm.digest_size
    file = ExternalFile(ObjectID(digest), size, *stat)
    file.has_digest = draw(st.booleans())
    return file


@st.composite
def filesystems(draw: st.DrawFn) -> tuple[FileSystem, Algorithm]:
    """Return a tree with up to a dozen directories, hard links among them, and the hash it is for."""
    algorithm = draw(st.sampled_from(Algorithm))
    directories = [Directory(*draw(STAT))]
    for _ in range(draw(st.integers(0, 6))):
        directory = Directory(*draw(STAT))
        draw(st.sampled_from(directories)).entries[draw(NAMES)] = directory
        directories.append(directory)
    for leaf in draw(st.lists(leaves(algorithm), max_size=12)):
        is_whiteout = isinstance(leaf, CharDevice) and leaf.rdev == 0
        for _ in range(1 if is_whiteout else draw(st.sampled_from([1, 1, 1, 2, 3]))):
            # An entry that is replaced takes its subtree or link with it.
            draw(st.sampled_from(directories)).entries[draw(NAMES)] = leaf
    return FileSystem(directories[0]), algorithm
