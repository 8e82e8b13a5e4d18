"""Images that no writer has made: each is refused by name, none costs more than its size."""

from __future__ import annotations

import random
import stat
import struct

import pytest

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import (
    BLOCK_SIZE,
    MAX_DEPTH,
    SLOT_SIZE,
    DataLayout,
    DirentType,
    ErofsError,
    FormatVersion,
)
from cfsctl.erofs.read.attributes import WrongAlgorithmError
from cfsctl.erofs.read.tree import check_image, collect_objects, find_algorithm, read_image
from tests.support.erofs_images import Craft, body, chunk, locate, patched, stored, xattr

FILE = stat.S_IFREG | 0o644
DIRECTORY = stat.S_IFDIR | 0o755
LINK = stat.S_IFLNK | 0o777
SHA256 = Algorithm.SHA256

# Fields of an extended inode: offset and layout.
I_FORMAT = (0, "<H")
ICOUNT = (2, "<H")
MODE = (4, "<H")
SIZE = (8, "<Q")
U = (16, "<I")
NSEC = (40, "<I")
NLINK = (44, "<I")

INODE_BREAKS = {
    "compressed layout": ("/usr/bin/setuid", I_FORMAT, 0x3, "invalid data layout in inode format 0x3"),
    "unknown i_format bits": ("/usr/bin/setuid", I_FORMAT, 0x19, "invalid data layout"),
    "directory in chunks": ("/usr", I_FORMAT, 0x9, "is chunk based"),
    "attributes beyond the end": ("/usr/bin/setuid", ICOUNT, 0xFFFF, "Offset out of bounds"),
    "too few attributes": ("/usr/bin/setuid", ICOUNT, 2, "Offset out of bounds"),
    "no type": ("/usr/bin/setuid", MODE, 0o755, "unknown file type 0o0"),
    "unknown type": ("/usr/bin/setuid", MODE, 0o150755, "unknown file type 0o150000"),
    "file called a directory": ("/many", MODE, FILE, "directory entry says type 2, inode"),
    "directory called a file": ("/usr/bin/setuid", MODE, DIRECTORY, "directory entry says type 1, inode"),
    "fifo called a socket": ("/usr/pipe", MODE, stat.S_IFSOCK, "directory entry says type 5"),
    "huge directory": ("/many", SIZE, 1 << 62, "inode size 4611686018427387904 exceeds image size"),
    "huge inline file": ("/usr/lib/empty", SIZE, 1 << 40, "has size 1099511627776"),
    "V2 inline file of a block": ("/usr/lib/small", SIZE, BLOCK_SIZE, "V2 images hold less than 4096"),
    "symlink too long": ("/sym", SIZE, 4096, "symlink target is 4096 bytes (max 4095)"),
    "blocks beyond the end": ("/many", U, 0xFFFFFFF0, "exceeds image"),
    "nanoseconds": ("/usr/bin/setuid", NSEC, 1_000_000_000, "less than 1000000000 nanoseconds"),
    "file without links": ("/usr/bin/setuid", NLINK, 0, "on-disk nlink is 0, but found 1 reference(s)"),
    "file with more links": ("/usr/bin/setuid", NLINK, 2, "on-disk nlink is 2, but found 1 reference(s)"),
    "hard link with fewer": ("/sym", NLINK, 1, "is named again"),
    "hard link with more": ("/sym", NLINK, 3, "on-disk nlink is 3, but found 2 reference(s)"),
    "whiteout with links": ("/opt/layer/gone", NLINK, 2, "has nlink > 1"),
    "directory with more links": ("/many", NLINK, 3, "expected 2 (2 + 0 subdirectories)"),
    "root with fewer links": ("/", NLINK, 2, "directory nlink mismatch: on-disk nlink is 2"),
    "chunks with indexes": ("/usr/bin/setuid", U, 31 | 0x20, "unknown chunk format 0x3f"),
    "file too large": ("/usr/bin/setuid", SIZE, 1 << 63, "exceeds 9223372036854775807"),
    "external file not in chunks": ("/usr/bin/setuid", I_FORMAT, 0x1, "expected a chunk-based inode"),
}


@pytest.mark.parametrize("name", INODE_BREAKS)
def test_broken_inode_is_refused_by_name(name: str) -> None:
    path, (offset, layout), value, message = INODE_BREAKS[name]
    data = stored("sha256-v2.img")
    with pytest.raises(ErofsError) as caught:
        read_image(patched(data, locate(data, path) + offset, layout, value), SHA256)
    assert message in str(caught.value)


def test_message_names_the_path() -> None:
    data = stored("sha256-v2.img")
    broken = patched(data, locate(data, "/usr/bin/setuid"), "<H", 0x3)
    with pytest.raises(ErofsError, match=r'^"/usr/bin/setuid": Invalid image'):
        read_image(broken, SHA256)


LISTINGS = {
    "slash in a name": ([(b"a/b", 1, 1)], "with '/' or NUL"),
    "NUL in a name": ([(b"a\0b", 1, 1), (b"c", 1, 1)], "with '/' or NUL"),
    "empty name": ([(b"", 1, 1), (b"c", 1, 1)], "without a name"),
    "name too long": ([(b"n" * 256, 1, 1)], "name of 256 bytes, expected at most 255"),
    "twice the same": ([(b"a", 1, 1), (b"a", 1, 1)], 'Duplicate directory entry "a"'),
    "out of order": ([(b"b", 1, 1), (b"a", 1, 1)], 'directory entries out of order: "a"'),
    "inode beyond the end": ([(b"a", 1 << 40, 1)], "Invalid inode: 1099511627776"),
    "largest inode": ([(b"a", (1 << 64) - 1, 1)], "Invalid inode: 18446744073709551615"),
    "type 0": ([(b"a", 0, 0)], "says type 0"),
    "type 300": ([(b"a", 0, 300)], "says type 300"),
}


def listing_image(entries: list[tuple[bytes, int, int]]) -> bytes:
    """Return an image of a root with these entries; inode 0 or 1 in them is one file."""
    craft = Craft()
    root = craft.reserve(64 + sum(12 + len(name) for name, _, _ in entries) + 27)
    file = craft.put(FILE)
    own = [(b".", root, 2), (b"..", root, 2)]
    real = [(name, file if nid <= 1 else nid, kind) for name, nid, kind in entries]
    craft.put(DIRECTORY, chunk(own + real), nid=root, nlink=2)
    return craft.build(root)


@pytest.mark.parametrize("name", LISTINGS)
def test_broken_listing_is_refused_by_name(name: str) -> None:
    entries, message = LISTINGS[name]
    with pytest.raises(ErofsError) as caught:
        read_image(listing_image(entries), SHA256)
    assert message in str(caught.value)
    with pytest.raises(ErofsError):
        collect_objects(listing_image(entries), SHA256)


def test_good_listing_is_read() -> None:
    """The crafted images are refused for their fault and for nothing else."""
    assert list(read_image(listing_image([(b"a", 1, 1)]), SHA256).root.entries) == [b"a"]


def test_longest_name_is_read() -> None:
    assert b"n" * 255 in read_image(listing_image([(b"n" * 255, 1, 1)]), SHA256).root.entries


@pytest.mark.parametrize(
    ("offset", "value"), [(8, 0), (8, 11), (8, 13), (8, 0xFFFC), (20, 0), (20, 0xFFFF), (32, 1), (32, 40)]
)
def test_name_offsets_out_of_bounds(offset: int, value: int) -> None:
    data = listing_image([(b"a", 1, 1)])
    with pytest.raises(ErofsError):
        read_image(patched(data, locate(data, "/") + 64 + offset, "<H", value), SHA256)


def test_root_that_is_no_directory() -> None:
    craft = Craft()
    file = craft.put(FILE)
    with pytest.raises(ErofsError, match="is not a directory"):
        read_image(craft.build(file), SHA256)


@pytest.mark.parametrize("root_nid", [0, 31, 36, 40, 127, 128, 65535])
def test_root_anywhere(root_nid: int) -> None:
    data = patched(listing_image([(b"a", 1, 1)]), 1024 + 14, "<H", root_nid) if root_nid != 36 else b""
    for read in (read_image, collect_objects, check_image):
        with pytest.raises(ErofsError):
            read(data, SHA256)


def test_parent_entry_leads_elsewhere() -> None:
    craft = Craft()
    root, child = craft.reserve(200), craft.reserve(200)
    craft.directory(root, root, [(b"d", child, DirentType.DIRECTORY)])
    craft.directory(child, child, [])
    with pytest.raises(ErofsError, match=r"Invalid '\.\.' entry in directory"):
        read_image(craft.build(root), SHA256)


def test_directory_that_contains_itself() -> None:
    craft = Craft()
    root, child = craft.reserve(200), craft.reserve(200)
    craft.directory(root, root, [(b"d", child, DirentType.DIRECTORY)])
    craft.directory(child, root, [(b"loop", child, DirentType.DIRECTORY)])
    for read in (read_image, collect_objects):
        with pytest.raises(ErofsError, match="named more than once"):
            read(craft.build(root), SHA256)


def test_directory_with_two_names() -> None:
    craft = Craft()
    root, child = craft.reserve(200), craft.reserve(200)
    craft.directory(root, root, [(b"a", child, DirentType.DIRECTORY), (b"b", child, DirentType.DIRECTORY)])
    craft.directory(child, root, [])
    for read in (read_image, collect_objects):
        with pytest.raises(ErofsError, match="named more than once"):
            read(craft.build(root), SHA256)


@pytest.mark.parametrize(("depth", "is_read"), [(MAX_DEPTH - 1, True), (MAX_DEPTH, False)])
def test_depth(depth: int, *, is_read: bool) -> None:
    craft = Craft()
    nids = [craft.reserve(128) for _ in range(depth + 1)]
    for level, nid in enumerate(nids):
        below = [(b"d", nids[level + 1], DirentType.DIRECTORY)] if level < depth else []
        craft.directory(nid, nids[max(level - 1, 0)], below)
    data = craft.build(nids[0])
    collect_objects(data, SHA256)  # a collection must know what even such an image needs
    if is_read:
        read_image(data, SHA256)
    else:
        with pytest.raises(ErofsError, match="Maximum directory depth exceeded"):
            read_image(data, SHA256)


def one_file(attributes: bytes, mode: int = FILE, tail: bytes = b"", **fields: int) -> bytes:
    """Return an image of a root with one leaf, ``f``."""
    craft = Craft()
    root = craft.reserve(200)
    leaf = craft.put(mode, tail, attributes=attributes, **fields)
    craft.directory(root, root, [(b"f", leaf, {FILE: 1, LINK: 7}[mode])])
    return craft.build(root)


DIGEST = bytes(range(32))
METACOPY = xattr(b"trusted.overlay.metacopy", b"\0\x24\0\1" + DIGEST)
REDIRECT = xattr(b"trusted.overlay.redirect", b"/00/" + DIGEST[1:].hex().encode())
EXTERNAL = {"layout": DataLayout.CHUNK, "size": 5000, "u": 31}
NULL = b"\xff" * 4

ATTRIBUTES = {
    "shared beyond the end": (body(references=(0x3FFFFFFF,)), "Offset out of bounds"),
    "shared at the very end": (body(references=(1023,)), None),
    "more shared than fit": (body()[:4] + b"\x01" + body()[5:], "1 shared attributes in an attribute body"),
    "prefix index 7": (body(b"\x01\x07\x00\x00x\0\0\0"), "xattr name_index 7 out of range"),
    "suffix beyond the body": (body(b"\xff\x01\x00\x00x\0\0\0"), "Offset out of bounds"),
    "value beyond the body": (body(b"\x01\x01\xff\xffx\0\0\0"), "Offset out of bounds"),
    "the same twice": (body(xattr(b"user.a", b"1"), xattr(b"user.a", b"2")), "occurs twice"),
    "metacopy twice": (body(METACOPY, METACOPY), "occurs twice"),
    "metacopy too short": (body(xattr(b"trusted.overlay.metacopy", b"\0")), "expected 36 bytes, got 1"),
    "metacopy version": (body(xattr(b"trusted.overlay.metacopy", b"\1\x24\0\1" + DIGEST)), "version=1"),
    "metacopy flags": (body(xattr(b"trusted.overlay.metacopy", b"\0\x24\1\1" + DIGEST)), "flags=1"),
    "metacopy hash": (body(xattr(b"trusted.overlay.metacopy", b"\0\x24\0\2" + DIGEST)), "digest_algo=2"),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes(name: str) -> None:
    attributes, message = ATTRIBUTES[name]
    data = one_file(attributes)
    if message is None:
        read_image(data, SHA256)
        return
    with pytest.raises(ErofsError) as caught:
        read_image(data, SHA256)
    assert message in str(caught.value)


def test_crafted_external_file_is_read() -> None:
    data = one_file(body(METACOPY, REDIRECT), tail=NULL, **EXTERNAL)
    assert collect_objects(data, SHA256) == {DIGEST}
    check_image(data, SHA256)


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"\xff\xff\xff\xfe"])
def test_chunk_that_is_not_null(tail: bytes) -> None:
    with pytest.raises(ErofsError, match="chunk of an external file is not null"):
        read_image(one_file(body(METACOPY, REDIRECT), tail=tail, **EXTERNAL), SHA256)


def test_path_of_another_object_than_the_digest() -> None:
    redirect = xattr(b"trusted.overlay.redirect", b"/ff/" + DIGEST[1:].hex().encode())
    data = one_file(body(METACOPY, redirect), tail=NULL, **EXTERNAL)
    assert collect_objects(data, SHA256) == {DIGEST, b"\xff" + DIGEST[1:]}
    with pytest.raises(ErofsError, match="name different objects"):
        check_image(data, SHA256)


@pytest.mark.parametrize("redirect", [b"", b"/", b"nothing", b"/00/zz" + DIGEST[2:].hex().encode()])
def test_path_that_is_no_objects(redirect: bytes) -> None:
    entries = xattr(b"trusted.overlay.metacopy", b""), xattr(b"trusted.overlay.redirect", redirect)
    data = one_file(body(*entries), layout=DataLayout.CHUNK, size=10)
    read_image(data, SHA256)
    assert collect_objects(data, SHA256) == set()


def test_chunks_without_the_mark_of_the_writer() -> None:
    with pytest.raises(ErofsError, match=r"without trusted\.overlay\.metacopy"):
        read_image(one_file(b"", layout=DataLayout.CHUNK, size=10), SHA256)


def test_symlink_with_nul() -> None:
    with pytest.raises(ErofsError, match="symlink target contains NUL"):
        read_image(one_file(b"", LINK, b"a\0b"), SHA256)


def test_image_of_the_other_hash_says_so() -> None:
    for name, expected, found in (
        ("sha512-v1.img", Algorithm.SHA256, Algorithm.SHA512),
        ("sha256-v2.img", Algorithm.SHA512, Algorithm.SHA256),
    ):
        for read in (read_image, collect_objects, check_image):
            with pytest.raises(WrongAlgorithmError, match=f"made for {found.hash_name}, expected") as caught:
                read(stored(name), expected)
            assert caught.value.found is found
            assert caught.value.hint is not None


def test_counts_of_the_superblock() -> None:
    craft = Craft()
    root = craft.reserve(200)
    craft.directory(root, root, [])
    craft.inode_count = 2
    with pytest.raises(ErofsError, match="superblock says 2 inodes, found 1"):
        read_image(craft.build(root), SHA256)


def test_acl_flag() -> None:
    data = stored("sha256-v1.img")
    with pytest.raises(ErofsError, match="an inode has an ACL, but none has"):
        read_image(patched(data, 8, "<I", 1), SHA256)


# Images that would multiply their bytes


def test_files_that_share_one_block() -> None:
    """A thousand files of one megabyte each, in an image of one megabyte and a bit."""
    craft = Craft(FormatVersion.V1)
    root = craft.reserve(64)
    files = [craft.reserve(64) for _ in range(300)]
    listing = [(b"%03d" % i, nid, 1) for i, nid in enumerate(files)]
    entries = [(b".", root, 2), (b"..", root, 2), *listing]
    blocks = [craft.block(chunk(entries[at : at + 150])) for at in range(0, len(entries), 150)]
    for _ in range(256):
        craft.block(b"x" * BLOCK_SIZE)
    first = craft.first_block()
    for nid in files:
        craft.put(FILE, nid=nid, layout=DataLayout.PLAIN, size=1 << 20, u=first + len(blocks))
    size = len(blocks) * BLOCK_SIZE
    craft.put(DIRECTORY, nid=root, layout=DataLayout.PLAIN, size=size, u=first, nlink=2)
    with pytest.raises(ErofsError, match="claim more bytes than"):
        read_image(craft.build(root), SHA256)


def test_directories_that_share_their_listing() -> None:
    """Without the bound each of many directories would expand the same long listing."""
    craft = Craft()
    root = craft.reserve(64)
    directories = [craft.reserve(64) for _ in range(100)]
    entries = [(b".", root, 2), (b"..", root, 2), *((b"%03d" % i, n, 2) for i, n in enumerate(directories))]
    craft.block(chunk(entries))
    first = craft.first_block()
    for nid in (root, *directories):
        craft.put(DIRECTORY, nid=nid, layout=DataLayout.PLAIN, size=BLOCK_SIZE, u=first, nlink=102)
    for read in (read_image, collect_objects):
        with pytest.raises(ErofsError):
            read(craft.build(root), SHA256)


def test_shared_attributes_that_overlap() -> None:
    """Each reference names 60 kB that begin four bytes behind those of the one before."""
    craft = Craft()
    root = craft.reserve(200)
    references = [tuple(range(start, start + 250)) for start in range(0, 5000, 250)]
    files = [craft.reserve(64 + 12 + 4 * 250) for _ in references]
    # Every four bytes a header: suffix of 1, index 1, value of 60,000 bytes.
    craft.block(struct.pack("<BBH", 1, 1, 60000) * 1024)
    for _ in range(24):
        craft.block(struct.pack("<BBH", 1, 1, 60000) * 1024)
    base = craft.first_block() * (BLOCK_SIZE // 4)
    for nid, group in zip(files, references, strict=True):
        craft.put(FILE, nid=nid, attributes=body(references=tuple(base + ref for ref in group)))
    craft.directory(root, root, [(b"%02d" % i, nid, 1) for i, nid in enumerate(files)])
    with pytest.raises(ErofsError):
        read_image(craft.build(root), SHA256)


# Damage everywhere


def outcome(data: bytes) -> None:
    """Read in every way; only the one error may come out."""
    for read in (collect_objects, check_image):
        try:
            read(data, SHA256)
        except ErofsError:
            continue
    try:
        find_algorithm(data)
    except ErofsError:
        return


def test_every_flipped_bit_of_a_small_image() -> None:
    craft = Craft()
    root = craft.reserve(300)
    nested = craft.reserve(200)
    shared = xattr(b"user.k", b"v")
    base = craft.next_nid  # behind all inodes, once those are reserved
    external = craft.reserve(300)
    link = craft.put(LINK, b"target")
    inline = craft.put(FILE, b"data", nlink=2, attributes=body(xattr(b"security.selinux", b"label")))
    base = craft.next_nid * SLOT_SIZE // 4
    craft.shared = shared
    attributes = body(METACOPY, REDIRECT, references=(base,))
    craft.put(FILE, NULL, nid=external, attributes=attributes, **EXTERNAL)
    craft.directory(root, root, [(b"d", nested, 2), (b"e", external, 1), (b"i", inline, 1)])
    craft.directory(nested, root, [(b"j", inline, 1), (b"l", link, 7)])
    data = craft.build(root)
    check_image(data, SHA256)
    end = 4 * base + len(shared)
    for offset in (*range(32), *range(1024, end)):
        for bit in range(8):
            changed = bytearray(data)
            changed[offset] ^= 1 << bit
            outcome(bytes(changed))


@pytest.mark.parametrize("name", ["sha256-v0.img", "sha256-v1.img", "sha256-v2.img"])
def test_flipped_bits_of_a_large_image(name: str) -> None:
    data = stored(name)
    source = random.Random(name)
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(source.choice((1, 1, 2, 8))):
            changed[source.randrange(1152, len(data))] ^= 1 << source.randrange(8)
        outcome(bytes(changed))


@pytest.mark.parametrize("name", ["sha256-v1.img", "sha256-v2.img"])
def test_cut_off_at_each_block(name: str) -> None:
    data = stored(name)
    for blocks in range(1, len(data) // BLOCK_SIZE):
        short = patched(data[: blocks * BLOCK_SIZE], 1024 + 36, "<I", blocks)
        with pytest.raises(ErofsError):
            read_image(short, SHA256)


def test_random_bytes() -> None:
    source = random.Random(1)
    start = stored("sha256-v1.img")[:1152]
    for blocks in (1, 2, 5, 40):
        outcome(source.randbytes(blocks * BLOCK_SIZE))
        noise = source.randbytes(blocks * BLOCK_SIZE - 1152)
        outcome(patched(start + noise, 1024 + 36, "<I", blocks) if blocks != 14 else start + noise)
