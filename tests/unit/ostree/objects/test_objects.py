"""OSTree objects: stored ones, the worked examples of the format, and what is refused."""

from __future__ import annotations

import hashlib
import stat
import zlib
from pathlib import Path

import pytest

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.ostree.objects import (
    Commit,
    Dirmeta,
    Dirtree,
    FileHeader,
    ObjectKind,
    OstreeObjectError,
    Xattrs,
    check_name,
    check_target,
    format_commit,
    format_dirmeta,
    format_dirtree,
    format_regular_header,
    format_xattrs,
    format_zlib_header,
    loose_path,
    parse_commit,
    parse_dirmeta,
    parse_dirtree,
    parse_header_length,
    parse_xattrs,
    parse_zlib_file_header,
)

_OBJECTS = Path(__file__).parents[3] / "vectors" / "ostree" / "objects"
_REGULAR = stat.S_IFREG | 0o644
_LINK = stat.S_IFLNK | 0o777
_DIRECTORY = stat.S_IFDIR | 0o755
A, B, C = (Checksum(bytes([byte]) * 32) for byte in b"abc")


def _stored(kind: ObjectKind) -> list[Path]:
    return sorted(_OBJECTS.glob(f"*.{kind.suffix}"))


# --- stored objects -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", _stored(ObjectKind.DIRTREE), ids=lambda path: path.name[:8])
def test_stored_dirtrees(path: Path) -> None:
    data = path.read_bytes()
    tree = parse_dirtree(data)
    assert format_dirtree(*tree) == data
    files, dirs = ([(name.decode(), *ids) for name, *ids in part] for part in tree)
    assert gvariant.decode("(a(say)a(sayay))", data) == (files, dirs)


@pytest.mark.parametrize("path", _stored(ObjectKind.DIRMETA), ids=lambda path: path.name[:8])
def test_stored_dirmetas(path: Path) -> None:
    assert format_dirmeta(parse_dirmeta(path.read_bytes())) == path.read_bytes()


@pytest.mark.parametrize("path", _stored(ObjectKind.COMMIT), ids=lambda path: path.name[:8])
def test_stored_commits(path: Path) -> None:
    assert format_commit(parse_commit(path.read_bytes())) == path.read_bytes()


@pytest.mark.parametrize("path", _stored(ObjectKind.FILE), ids=lambda path: path.name[:8])
def test_stored_files(path: Path) -> None:
    data = path.read_bytes()
    header = parse_zlib_file_header(data)
    content = b"" if header.is_symlink else zlib.decompress(data[header.length_bytes :], -15)
    assert header.size_bytes == len(content)
    assert hashlib.sha256(header.regular_header + content).hexdigest() == path.stem
    attributes = (header.uid, header.gid, header.mode, header.target, header.xattrs)
    assert format_zlib_header(header.size_bytes, *attributes) == data[: header.length_bytes]
    assert format_regular_header(*attributes) == header.regular_header


def test_every_kind_is_stored() -> None:
    assert all(len(_stored(kind)) >= 3 for kind in ObjectKind)


def test_fields_of_a_stored_commit() -> None:
    (path,) = _OBJECTS.glob("f4e14597*.commit")
    commit = parse_commit(path.read_bytes())
    assert commit == Commit(
        metadata=(
            ("version", gvariant.Variant("s", "2")),
            ("ostree.ref-binding", gvariant.Variant("as", ["fixture/plain/x86_64"])),
        ),
        parent=Checksum(bytes.fromhex("c43a49a6e4bb8beb4bcd87e9427ecb861653229b94244cbe68d6c84f1943a8ed")),
        subject="second",
        body="with a body",
        timestamp_s=1706745600,
        root_dirtree=Checksum(
            bytes.fromhex("e4893f288aeeb61d5d484822f09604df8596af7d9e27b4baeb5cfe60797cd6d8")
        ),
        root_dirmeta=Checksum(
            bytes.fromhex("446a0ef11b7cc167f3b603e585c7eeeeb675faa412d5ec73f62988eb0b6c5488")
        ),
    )


def test_views_are_read_like_bytes() -> None:
    for parse, kind in (
        (parse_dirtree, ObjectKind.DIRTREE),
        (parse_dirmeta, ObjectKind.DIRMETA),
        (parse_commit, ObjectKind.COMMIT),
        (parse_zlib_file_header, ObjectKind.FILE),
    ):
        for path in _stored(kind):
            data = path.read_bytes()
            assert parse(memoryview(bytearray(data))) == parse(data)
    long = _raw_tree([(b"x" * 255 + b"\0", A)], [])
    assert parse_dirtree(memoryview(long)) == parse_dirtree(long)


# --- examples of the format ---------------------------------------------------------------------


def test_example_dirtree() -> None:
    data = b"timestamp.txt\0" + A + b"\x0e\x2f\x30"
    assert len(data) == 49
    assert parse_dirtree(data) == Dirtree([(b"timestamp.txt", A)], [])
    assert format_dirtree([(b"timestamp.txt", A)], []) == data


@pytest.mark.parametrize(
    ("data", "meta"),
    [
        ("00000000 00000000 000041ed", Dirmeta(0, 0, _DIRECTORY, ())),
        (
            "00000000 00000000 000041ed 757365722e6469727800 6476 0a 0d",
            Dirmeta(0, 0, _DIRECTORY, ((b"user.dirx\0", b"dv"),)),
        ),
        ("000003e8 ffffffff 00004fff", Dirmeta(1000, 0xFFFFFFFF, stat.S_IFDIR | 0o7777, ())),
    ],
)
def test_example_dirmetas(data: str, meta: Dirmeta) -> None:
    assert parse_dirmeta(bytes.fromhex(data)) == meta
    assert format_dirmeta(meta) == bytes.fromhex(data)


@pytest.mark.parametrize(
    ("data", "regular", "size", "mode", "target", "xattrs"),
    [
        (
            "0000001a 00000000 000000000000001d 00000000 00000000 000081a4 00000000 00 19",
            "00000012 00000000 00000000 00000000 000081a4 00000000 00 11",
            29,
            _REGULAR,
            b"",
            (),
        ),
        (
            (
                "00000034 00000000 0000000000000008 00000000 00000000 000081a4 00000000 00"
                "757365722e746573747861747472007465737476616c7565 0f 19 19"
            ),
            (
                "0000002c 00000000 00000000 00000000 000081a4 00000000 00"
                "757365722e746573747861747472007465737476616c7565 0f 19 11"
            ),
            8,
            _REGULAR,
            b"",
            ((b"user.testxattr\0", b"testvalue"),),
        ),
        (
            (
                "00000028 00000000 0000000000000000 00000000 00000000 0000a1ff 00000000"
                "6c69627368617265642e736f2e3100 27"
            ),
            "00000020 00000000 00000000 00000000 0000a1ff 00000000 6c69627368617265642e736f2e3100 1f",
            0,
            _LINK,
            b"libshared.so.1",
            (),
        ),
    ],
)
def test_example_headers(
    data: str, regular: str, size: int, mode: int, target: bytes, xattrs: Xattrs
) -> None:
    raw = bytes.fromhex(data)
    header = FileHeader(size, len(raw), 0, 0, mode, target, xattrs, bytes.fromhex(regular))
    for rest in (b"", b"\x03\x00", bytes(3000)):
        assert parse_zlib_file_header(raw + rest) == header
    assert parse_header_length(raw[:8]) == len(raw)
    assert format_zlib_header(size, 0, 0, mode, target, xattrs) == raw
    assert format_regular_header(0, 0, mode, target, xattrs) == header.regular_header
    assert header.is_symlink == bool(target)


# --- dirtrees -----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 10, 187, 188, 189, 190, 220, 221, 222, 223, 255])
@pytest.mark.parametrize("count", [1, 2, 7, 400])
def test_names_of_every_length(length: int, count: int) -> None:
    names = sorted({(b"%d" % index).ljust(length, b"x")[:length] for index in range(10, 10 + count)})
    tree = Dirtree(
        [(name, A) for name in names if name < b"5"], [(name, B, C) for name in names if name > b"5"]
    )
    data = format_dirtree(*tree)
    assert parse_dirtree(data) == tree
    files, dirs = ([(name.decode(), *ids) for name, *ids in part] for part in tree)
    assert data == gvariant.encode("(a(say)a(sayay))", (files, dirs))


def test_large_dirtree() -> None:
    tree = Dirtree(
        [(b"%07d" % index, A) for index in range(3000)], [(b"d%d" % index, B, C) for index in (1, 2)]
    )
    assert parse_dirtree(format_dirtree(*tree)) == tree


def test_order_is_free_when_reading_and_sorted_when_writing() -> None:
    unsorted = gvariant.encode("(a(say)a(sayay))", ([("b", A), ("a", B)], []))
    assert parse_dirtree(unsorted).files == [(b"b", A), (b"a", B)]
    assert format_dirtree(*parse_dirtree(unsorted)) != unsorted


@pytest.mark.parametrize(
    "name", [b"new\nline\x1b[31m", "né".encode(), b"a" * 255, b"...", b" ", b"\xf4\x8f\xbf\xbf"]
)
def test_odd_names(name: bytes) -> None:
    check_name(name)
    assert parse_dirtree(format_dirtree([(name, A)], [])).files == [(name, A)]


def _raw_tree(files: list[tuple[bytes, bytes]], dirs: list[tuple[bytes, bytes, bytes]]) -> bytes:
    """Serialise entries without checking names; each is bytes that end in a NUL, or do not."""
    return gvariant.encode("(a(ayay)a(ayayay))", (files, dirs))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"\0", "name: expected one path component, found b''"),
        (b".\0", "name: expected one path component"),
        (b"..\0", "name: expected one path component"),
        (b"a/b\0", "name: expected one path component"),
        (b"/etc/passwd\0", "name: expected one path component"),
        (b"a\0b\0", "name: expected one path component"),
        (b"\xff\0", "name: expected UTF-8"),
        (b"\xed\xa0\x80\0", "name: expected UTF-8"),
        (b"x" * 256 + b"\0", "name: expected at most 255 bytes, found 256"),
        (b"x" * 70_000 + b"\0", "name: expected at most 255 bytes, found 70000"),
        (b"ab", "expected a name with a final NUL"),
        (b"", "expected a name with a final NUL"),
    ],
)
def test_names_refused(name: bytes, message: str) -> None:
    for others in (0, 1, 5):
        files = [(b"%d\0" % index, bytes(A)) for index in range(others)]
        dirs = [(b"d%d\0" % index, bytes(B), bytes(C)) for index in range(others)]
        with pytest.raises(OstreeObjectError, match=message):
            parse_dirtree(_raw_tree([*files, (name, A)], dirs))
        with pytest.raises(OstreeObjectError, match=message):
            parse_dirtree(_raw_tree(files, [(name, B, C), *dirs]))
    if name.endswith(b"\0"):
        with pytest.raises(OstreeObjectError, match=message):
            format_dirtree([(name[:-1], A)], [])


@pytest.mark.parametrize(
    ("files", "dirs", "message"),
    [
        ([(b"a", A), (b"a", B)], [], "each name once, found b'a' twice"),
        ([], [(b"a", A, B), (b"a", A, B)], "each name once, found b'a' twice"),
        ([(b"a", A)], [(b"a", A, B)], "each name once, found b'a' twice"),
        ([(b"a", A[:31])], [], "a checksum of 32 bytes, found 31"),
        ([(b"a", Checksum(b""))], [], "a checksum of 32 bytes, found 0"),
        ([(b"a", Checksum(A + b"x"))], [], "a checksum of 32 bytes, found 33"),
        ([], [(b"a", A[:31], B)], "a checksum of 32 bytes, found 31"),
        ([], [(b"a", A, B[:31])], "a checksum of 32 bytes, found 31"),
        ([], [(b"a", Checksum(A[:31]), Checksum(B + b"x"))], "a checksum of 32 bytes, found 31"),
    ],
)
def test_entries_refused(
    files: list[tuple[bytes, Checksum]], dirs: list[tuple[bytes, Checksum, Checksum]], message: str
) -> None:
    raw = _raw_tree(
        [(name + b"\0", file) for name, file in files],
        [(name + b"\0", tree, meta) for name, tree, meta in dirs],
    )
    with pytest.raises(OstreeObjectError, match=message):
        parse_dirtree(raw)
    with pytest.raises(OstreeObjectError, match=message):
        format_dirtree(files, dirs)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x00\x00",
        b"<!DOCTYPE html>\n",
        bytes(12),
        b"a\0" + A + b"\x02\x23\xff",
        b"a\0" + A + b"\x02\x24\x24",
        b"a\0" + A + b"\x01\x23\x24",
        b"a\0" + A + b"\x22\x23\x24",
        b"ab" + A + b"\x02\x23\x24",
    ],
)
def test_broken_framing(data: bytes) -> None:
    with pytest.raises(OstreeObjectError):
        parse_dirtree(data)


def test_every_cut_and_every_flip_of_framing() -> None:
    data = format_dirtree([(b"a", A), (b"bc", B)], [(b"d", A, B)])
    for size in range(len(data)):
        with pytest.raises(OstreeObjectError):
            parse_dirtree(data[:size])
    ids = {place for start in (2, 38, 75, 107) for place in range(start, start + 32)}
    names = {0, 35, 36, 73}
    for place in set(range(len(data))) - ids - names:
        for bit in range(8):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            with pytest.raises(OstreeObjectError):
                parse_dirtree(bytes(damaged))


# --- dirmetas and attributes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "at least 12 bytes, found 0"),
        ("00" * 11, "at least 12 bytes, found 11"),
        (
            "0000000000000000000081a4",
            "mode: expected the type of a directory and bits within 07777, found 0o100644",
        ),
        ("0000000000000000000141ed", "mode"),
        ("00000000000000000000a1ff", "mode"),
        ("0000000000000000000041ed00", "xattrs: expected"),
        ("0000000000000000000041ed0a", "xattrs: expected"),
    ],
)
def test_dirmetas_refused(data: str, message: str) -> None:
    with pytest.raises(OstreeObjectError, match=message):
        parse_dirmeta(bytes.fromhex(data))


@pytest.mark.parametrize(
    "xattrs",
    [
        (),
        ((b"user.a\0", b""),),
        ((b"user.b\0", b"1"), (b"user.a\0", b"2")),
        ((b"x" * 255 + b"\0", b"v" * 65535),),
        (("user.é".encode() + b"\xff\0", b"\0\0"),),
        tuple((b"user.%d\0" % index, b"v") for index in range(20_000)),
    ],
)
def test_attributes(xattrs: Xattrs) -> None:
    data = format_xattrs(xattrs)
    assert parse_xattrs(data) == xattrs
    assert data == gvariant.encode("a(ayay)", xattrs)


@pytest.mark.parametrize(
    ("xattrs", "message"),
    [
        (((b"", b"v"),), "a name that ends in its only NUL, found b''"),
        (((b"\0", b"v"),), "a name that ends in its only NUL"),
        (((b"user.a", b"v"),), "a name that ends in its only NUL, found b'user.a'"),
        (((b"user.a\0b\0", b"v"),), "a name that ends in its only NUL"),
        (((b"user.a\0\0", b"v"),), "a name that ends in its only NUL"),
        (((b"a\0", b"v"), (b"b\0", b""), (b"a\0", b"w")), "each name once"),
        (((b"x" * 256 + b"\0", b"v"),), "at most 255 bytes, found 256"),
        (((b"user.a\0", bytes(65536)),), "at most 65535 bytes, found 65536"),
    ],
)
def test_attributes_refused(xattrs: Xattrs, message: str) -> None:
    with pytest.raises(OstreeObjectError, match=message):
        parse_xattrs(gvariant.encode("a(ayay)", xattrs))
    with pytest.raises(OstreeObjectError, match=message):
        format_xattrs(xattrs)


# --- file headers -------------------------------------------------------------------------------


def _raw_header(
    size: int = 0, mode: int = _REGULAR, rdev: int = 0, target: bytes = b"", xattrs: bytes = b""
) -> bytes:
    body = b"".join((size.to_bytes(8, "big"), bytes(8), mode.to_bytes(4, "big"), rdev.to_bytes(4, "big")))
    body += target + b"\0"
    end = len(body)
    body += xattrs
    width = 1 if len(body) < 255 else 2 if len(body) < 65534 else 4
    variant = body + end.to_bytes(width, "little")
    return len(variant).to_bytes(4, "big") + bytes(4) + variant


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header length: expected 8 bytes, found 0"),
        (bytes(8), "header length: expected 26 to 16777216 bytes, found 0"),
        (b"\xff" * 4 + bytes(30), "header length: expected 26 to 16777216 bytes, found 4294967295"),
        (b"<!DOCTYPE html>", "header length: expected 26 to 16777216 bytes, found 1008813135"),
        (b"\0\0\0\x1a\0\0\0\1" + bytes(26), "header padding: expected 4 zero bytes, found 0x00000001"),
        (_raw_header()[:-1], "file header: expected 34 bytes, found 33"),
        (_raw_header(mode=stat.S_IFDIR | 0o755), "mode: expected a regular file or symbolic link"),
        (_raw_header(mode=stat.S_IFBLK | 0o644), "found 0o60644"),
        (_raw_header(mode=stat.S_IFIFO | 0o644), "mode"),
        (_raw_header(mode=stat.S_IFCHR | 0o644), "mode"),
        (_raw_header(mode=stat.S_IFSOCK | 0o644), "mode"),
        (_raw_header(mode=0o644), "mode"),
        (_raw_header(mode=0x10000 | _REGULAR), "mode"),
        (_raw_header(rdev=5), "rdev: expected 0, found 5"),
        (_raw_header(target=b"x"), "target: expected none for a regular file, found b'x'"),
        (_raw_header(mode=_LINK), "target: expected 1 to 4095 bytes, found 0"),
        (_raw_header(mode=_LINK, target=b"x" * 4096), "target: expected 1 to 4095 bytes, found 4096"),
        (_raw_header(mode=_LINK, target=b"a\0b"), "target: expected UTF-8 without NUL"),
        (_raw_header(mode=_LINK, target=b"\xff"), "target: expected UTF-8 without NUL"),
        (_raw_header(size=7, mode=_LINK, target=b"x"), "size: expected 0 for a symbolic link, found 7"),
        (_raw_header(xattrs=b"\x07"), "xattrs: expected"),
        (_raw_header(xattrs=gvariant.encode("a(ayay)", [(b"user.a", b"")])), "its only NUL"),
        (_raw_header()[:-1] + b"\x18", "target: expected a string that ends within the header"),
        (_raw_header()[:-1] + b"\x1a", "target: expected a string that ends within the header"),
        (_raw_header()[:-1] + b"\x00", "target: expected a string that ends within the header"),
        (_raw_header()[:-1] + b"\xff", "target: expected a string that ends within the header"),
        (_raw_header()[:-2] + b"\x01\x19", "target: expected a string that ends within the header"),
    ],
)
def test_headers_refused(data: bytes, message: str) -> None:
    with pytest.raises(OstreeObjectError, match=message):
        parse_zlib_file_header(data)


@pytest.mark.parametrize("length", [1, 229, 230, 231, 232, 237, 238, 239, 240, 1500, 4095])
def test_targets_of_every_length(length: int) -> None:
    target = b"t" * length
    raw = format_zlib_header(0, 1, 2, _LINK, target)
    variant: tuple[object, ...] = (
        0,
        1 << 24,
        2 << 24,
        int.from_bytes(_LINK.to_bytes(4, "little"), "big"),
        0,
        target.decode(),
        [],
    )
    assert raw[8:] == gvariant.encode("(tuuuusa(ayay))", variant)
    header = parse_zlib_file_header(raw)
    assert header.target == target
    assert header.regular_header[8:] == gvariant.encode("(uuuusa(ayay))", variant[1:])
    assert header.regular_header == format_regular_header(1, 2, _LINK, target)


def test_offset_wider_than_needed() -> None:
    target = b"t" * 229
    body = format_zlib_header(0, 0, 0, _LINK, target)[8:-1]
    assert len(body) == 254
    variant = body + (254).to_bytes(2, "little")
    with pytest.raises(OstreeObjectError, match="offsets of the smallest width"):
        parse_zlib_file_header(len(variant).to_bytes(4, "big") + bytes(4) + variant)


def test_large_size_is_kept() -> None:
    assert (
        parse_zlib_file_header(format_zlib_header((1 << 64) - 1, 0, 0, _REGULAR)).size_bytes == (1 << 64) - 1
    )


def test_order_of_attributes_is_part_of_the_checksum() -> None:
    xattrs = ((b"user.b\0", b"1"), (b"user.a\0", b"2"))
    header = parse_zlib_file_header(format_zlib_header(1, 0, 0, _REGULAR, b"", xattrs))
    assert header.xattrs == xattrs
    assert header.regular_header == format_regular_header(0, 0, _REGULAR, b"", xattrs)
    assert header.regular_header != format_regular_header(0, 0, _REGULAR, b"", xattrs[::-1])


def test_large_attributes_are_read() -> None:
    xattrs = ((b"user.a\0", b"v" * 65535), (b"user.b\0", b"w" * 60000))
    raw = format_zlib_header(1, 0, 0, _REGULAR, b"", xattrs)
    assert parse_zlib_file_header(raw).xattrs == xattrs


@pytest.mark.parametrize(
    ("size", "uid", "gid", "mode", "target"),
    [
        (-1, 0, 0, _REGULAR, b""),
        (1 << 64, 0, 0, _REGULAR, b""),
        (0, -1, 0, _REGULAR, b""),
        (0, 0, 1 << 32, _REGULAR, b""),
        (0, 0, 0, _REGULAR | 0x10000, b""),
        (0, 0, 0, _REGULAR, b"x"),
        (5, 0, 0, _LINK, b"x"),
        (0, 0, 0, _LINK, b""),
    ],
)
def test_headers_not_written(size: int, uid: int, gid: int, mode: int, target: bytes) -> None:
    with pytest.raises(OstreeObjectError):
        format_zlib_header(size, uid, gid, mode, target)


def test_dirmetas_not_written() -> None:
    for meta in (
        Dirmeta(-1, 0, _DIRECTORY, ()),
        Dirmeta(0, 1 << 32, _DIRECTORY, ()),
        Dirmeta(0, 0, 0o755, ()),
    ):
        with pytest.raises(OstreeObjectError):
            format_dirmeta(meta)


def test_targets() -> None:
    check_target("../é".encode())
    with pytest.raises(OstreeObjectError):
        check_target(b"")


# --- commits ------------------------------------------------------------------------------------

_COMMIT = Commit((("k", gvariant.Variant("u", 1)),), A, "subject", "body", 1591898652, B, C)


def test_commit_round_trip() -> None:
    data = format_commit(_COMMIT)
    assert parse_commit(data) == _COMMIT
    assert (1591898652).to_bytes(8, "big") in data


def test_metadata_of_any_type_and_order_is_kept() -> None:
    metadata = (
        ("z", gvariant.Variant("(sv)", ("a", gvariant.Variant("mau", gvariant.Just([1]))))),
        (
            "a",
            gvariant.Variant("a{sv}", [("q", gvariant.Variant("d", 1.5)), ("q", gvariant.Variant("x", -1))]),
        ),
        ("z", gvariant.Variant("aay", [b"", b"x"])),
    )
    commit = _COMMIT._replace(metadata=metadata, parent=None)
    assert parse_commit(format_commit(commit)) == commit


@pytest.mark.parametrize(
    ("commit", "message"),
    [
        (
            _COMMIT._replace(metadata=(("", gvariant.Variant("u", 1)),)),
            "metadata: expected keys that are not empty",
        ),
        (_COMMIT._replace(parent=Checksum(A[:31])), "parent: expected 0 or 32 bytes, found 31"),
        (_COMMIT._replace(root_dirtree=Checksum(A[:31])), "root dirtree: expected 32 bytes, found 31"),
        (_COMMIT._replace(root_dirtree=Checksum(b"")), "root dirtree: expected 32 bytes, found 0"),
        (_COMMIT._replace(root_dirmeta=Checksum(b"")), "root dirmeta: expected 32 bytes, found 0"),
        (_COMMIT._replace(timestamp_s=-1), "timestamp: expected a number of 64 bits, found -1"),
    ],
)
def test_commits_not_written(commit: Commit, message: str) -> None:
    with pytest.raises(OstreeObjectError, match=message):
        format_commit(commit)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, [("", gvariant.Variant("u", 1))], "metadata: expected keys that are not empty"),
        (1, bytes(31), "parent: expected 0 or 32 bytes, found 31"),
        (6, bytes(31), "root dirtree: expected 32 bytes, found 31"),
        (6, b"", "root dirtree: expected 32 bytes, found 0"),
        (7, bytes(33), "root dirmeta: expected 32 bytes, found 33"),
    ],
)
def test_commits_refused(place: int, value: gvariant.Value, message: str) -> None:
    fields: list[gvariant.Value] = [[], b"", [], "", "", 0, bytes(A), bytes(B)]
    fields[place] = value
    with pytest.raises(OstreeObjectError, match=message):
        parse_commit(gvariant.encode("(a{sv}aya(say)sstayay)", fields))


@pytest.mark.parametrize(
    "child",
    [
        b"x\0\0s" + b"\0v" * 200,
        b"x\0\0s" + b"\0v" * 100_000,
        b"\0" + b"a" * 60_000 + b"y",
        b"\0" + b"(" * 60_000 + b")" * 60_000,
    ],
    ids=["variants-200", "variants-100000", "array-60000", "tuple-60000"],
)
def test_deep_metadata_is_refused(child: bytes) -> None:
    # An ay in the place of the variant has the same bytes, since the first member begins at 0.
    entry = b"k\0" + bytes(6) + child
    entry += (2).to_bytes(_width(len(entry) + 1), "little")
    array = entry + len(entry).to_bytes(_width(len(entry) + 1), "little")
    raw = gvariant.encode("(ayaya(say)sstayay)", (array, b"", [], "", "", 0, bytes(A), bytes(B)))
    with pytest.raises(OstreeObjectError, match=r"at most (128 levels|65536 characters)"):
        parse_commit(raw)


def _width(size: int) -> int:
    return 1 if size <= 0xFF else 2 if size <= 0xFFFD else 4


def test_values_of_a_commit_are_counted() -> None:
    metadata = (("k", gvariant.Variant("ab", [False] * 1_000_001)),)
    with pytest.raises(OstreeObjectError, match="over the limit"):
        parse_commit(format_commit(_COMMIT._replace(metadata=metadata)))


def test_html_is_no_object() -> None:
    page = b"<!DOCTYPE html><html><body>Sign in</body></html>"
    for parse in (parse_commit, parse_dirtree, parse_dirmeta, parse_zlib_file_header):
        with pytest.raises(OstreeObjectError):
            parse(page)


# --- kinds and errors ---------------------------------------------------------------------------


def test_paths() -> None:
    assert loose_path(A, ObjectKind.FILE) == f"objects/61/{'61' * 31}.filez"
    assert [kind.suffix for kind in ObjectKind] == ["filez", "dirtree", "dirmeta", "commit"]
    assert [kind.label for kind in ObjectKind] == ["file", "dirtree", "dirmeta", "commit"]
    assert [kind.is_metadata for kind in ObjectKind] == [False, True, True, True]


def test_error_takes_the_name_of_its_object() -> None:
    with pytest.raises(OstreeObjectError) as caught:
        parse_dirmeta(b"")
    named = caught.value.about("dirmeta 00ff")
    assert str(named) == "dirmeta 00ff: dirmeta: expected at least 12 bytes, found 0"
    assert (named.field, named.offset) == ("dirmeta", None)


def test_a_very_large_dirtree_is_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfsctl.ostree.objects._directory.PIECE_ENTRIES", 2)
    file = Checksum(bytes(32))

    def make(*names: bytes) -> bytes:
        return gvariant.encode("(a(say)a(sayay))", ([(name.decode(), file) for name in names], []))

    assert [entry[0] for entry in parse_dirtree(make(b"c", b"b", b"a")).files] == [b"c", b"b", b"a"]
    with pytest.raises(OstreeObjectError, match="each name once, found b'a' twice"):
        parse_dirtree(make(b"a", b"b", b"c", b"a"))
    monkeypatch.setattr("cfsctl.ostree.objects._directory.MAX_UNSORTED_SIZE", 10)
    assert len(parse_dirtree(make(b"a", b"b", b"c", b"d", b"e")).files) == 5
    for names in ((b"a", b"b", b"b"), (b"a", b"b", b"a"), (b"b", b"a", b"c")):
        with pytest.raises(OstreeObjectError, match=r"ascending|each name once"):
            parse_dirtree(make(*names))
    both = format_dirtree([(b"%d" % n, file) for n in range(5)], [(b"d%d" % n, file, file) for n in range(5)])
    assert len(parse_dirtree(both).dirs) == 5
    twice = both.replace(b"d4\0", b"4\0\0")
    with pytest.raises(OstreeObjectError):
        parse_dirtree(twice)
