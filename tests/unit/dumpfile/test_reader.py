"""Dumps read into trees: what is accepted, what it means, and what is said of the rest."""

from __future__ import annotations

import io
import re

import pytest

from cfsctl.digest import Algorithm
from cfsctl.dumpfile import Dialect, DumpfileError, iter_dump, parse_dump
from cfsctl.tree.dumped import DumpedFileSystem, RedirectedFile
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
from tests.support.vectors import Recorded, parse, random_trees

RUST, C = Dialect
BOTH = (RUST, C)
ROOT = "/ 0 40755 2 0 0 0 0.0 - - -\n"
HEX = "ab" + "cd" * 31
PATH = f"ab/{HEX[2:]}"
USUAL = "/.1 0 40755 2 0 0 0 0.0 - - -\n/.2 0 100644 1 0 0 0 0.0 - - - a=1\n/.3 1 120777 1 0 0 0 0.0 x - -\n"
"""Lines after which the reader has seen the usual modes and owners, and takes the fast way."""


def entry(dump: str | bytes, dialect: Dialect = RUST) -> Directory | Leaf:
    """Return the first entry of root."""
    return next(iter(parse(dump, dialect).root.entries.values()))


@pytest.mark.parametrize("dialect", BOTH)
def test_all_fields_arrive(dialect: Dialect) -> None:
    node = entry(f"{ROOT}/f 70 104711 1 5 6 0 12.000000034 {PATH} - {HEX} user.a=1 user.b=\n", dialect)
    assert isinstance(node, ExternalFile)
    assert (node.size, node.mode, node.uid, node.gid) == (70, 0o4711, 5, 6)
    assert (node.mtime_s, node.mtime_ns) == (12, 34)
    assert node.object_id.hex() == HEX
    assert node.has_digest
    assert dict(node.xattrs) == {b"user.a": b"1", b"user.b": b""}


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/f 3 100644 1 0 0 0 0.0 - abc -", InlineFile),
        ("/f 0 100644 1 0 0 0 0.0 - - -", InlineFile),
        ("/f 9 100644 1 0 0 0 0.0 - - -", SparseFile),
        (f"/f 9 100644 1 0 0 0 0.0 {PATH} - -", ExternalFile),
        ("/f 9 40755 7 0 0 0 0.0 - - -", Directory),
        ("/f 1 120777 1 0 0 0 0.0 x - -", Symlink),
        ("/f 0 20644 1 0 0 7 0.0 - - -", CharDevice),
    ],
)
def test_kinds(line: str, expected: type[Leaf], dialect: Dialect) -> None:
    assert type(entry(f"{ROOT}{line}\n", dialect)) is expected


def test_a_file_without_digest_is_told_from_one_with() -> None:
    node = entry(f"{ROOT}/f 9 100644 1 0 0 0 0.0 /some/where/{PATH} - -\n")
    assert isinstance(node, ExternalFile)
    assert node.object_id.hex() == HEX
    assert not node.has_digest


@pytest.mark.parametrize("dialect", BOTH)
def test_names_and_contents_are_bytes(dialect: Dialect) -> None:
    dump = ROOT.encode() + b"/\xff\\x0a 2 100644 1 0 0 0 0.0 - \xfe\\x00 - user.\xfd=\xfc\n"
    root = parse(dump, dialect).root
    node = root.entries[b"\xff\n"]
    assert isinstance(node, InlineFile)
    assert node.data == b"\xfe\0"
    assert dict(node.xattrs) == {b"user.\xfd": b"\xfc"}


@pytest.mark.parametrize("dialect", BOTH)
def test_times_before_1970(dialect: Dialect) -> None:
    assert entry(f"{ROOT}/f 0 100644 1 0 0 0 -5.7 - - -\n", dialect).mtime_s == -5


@pytest.mark.parametrize("dialect", BOTH)
def test_hard_links_lead_forwards_backwards_and_to_each_other(dialect: Dialect) -> None:
    dump = (
        f"{ROOT}/a 0 @120000 - - - - 0.0 /b - -\n/b 0 @120000 - - - - 0.0 /d/c - -\n"
        "/d 0 40755 2 0 0 0 0.0 - - -\n/d/c 3 100644 4 0 0 0 0.0 - abc -\n/e 0 @120000 - - - - 0.0 /a - -\n"
    )
    root = parse(dump, dialect).root
    directory = root.entries[b"d"]
    assert isinstance(directory, Directory)
    leaf = directory.entries[b"c"]
    assert isinstance(leaf, InlineFile)
    assert [root.entries[name] for name in (b"a", b"b", b"e")] == [leaf] * 3


def test_what_only_the_c_tools_keep() -> None:
    filesystem = parse(
        f"{ROOT}/a 0 @120000 - - - - 0.0 /b - -\n/b 3 100644 9 0 0 0 0.0 - abc -\n"
        f"/c 9 100644 1 0 0 0 0.0 over/there - {HEX}\n/d 9 100644 1 0 0 0 0.0 - - {HEX}\n",
        C,
    )
    assert isinstance(filesystem, DumpedFileSystem)
    entries = filesystem.root.entries
    assert filesystem.nlinks == {entries[b"b"]: 9}
    assert filesystem.originals == {entries[b"b"]: (filesystem.root, b"b")}
    redirected, bare = entries[b"c"], entries[b"d"]
    assert isinstance(redirected, RedirectedFile)
    assert (redirected.path, redirected.size) == (b"over/there", 9)
    assert isinstance(bare, RedirectedFile)
    assert bare.path == b""
    assert bare.digest is not None
    again = b"".join(iter_dump(filesystem)).decode()
    assert f"/c 9 100644 1 0 0 0 0.0 over/there - {HEX}\n/d 9 100644 1 0 0 0 0.0 - - {HEX}\n" in again
    assert "/a 3 100644 9 0 0 0 0.0 - abc -\n/b 0 @120000 - - - - 0.0 /a - -\n" in again


@pytest.mark.parametrize("dialect", BOTH)
def test_a_repeated_attribute_counts_once(dialect: Dialect) -> None:
    node = entry(f"{ROOT}/f 0 100644 1 0 0 0 0.0 - - - a=2 a=1\n", dialect)
    assert dict(node.xattrs) == {b"a": b"1" if dialect is C else b"2"}


def test_ends_of_lines() -> None:
    assert entry(f"\n{ROOT}\r\n \t\n/f 0 100644 1 0 0 0 0.0 - - -").mode == 0o644
    assert entry(f"{ROOT}/f 0 100644 1 0 0 0 0.0 - - -", C).mode == 0o644
    assert entry(f"{ROOT}/f 0 100644 1 0 0 0 0.0 - - - a=1 \n", C).mode == 0o644


@pytest.mark.parametrize("before", ["", USUAL])
def test_a_carriage_return_ends_no_value(before: str) -> None:
    dump = f"{ROOT}{before}/f 0 100644 1 0 0 0 0.0 - - - a=1\r\n"
    assert dict(parse(dump).root.entries[b"f"].xattrs) == {b"a": b"1"}
    assert dict(parse(dump, C).root.entries[b"f"].xattrs) == {b"a": b"1\r"}


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize("before", ["", USUAL])
def test_what_follows_the_fields_of_a_hard_link_is_of_no_effect(before: str, dialect: Dialect) -> None:
    dump = f"{ROOT}{before}/f 0 {REG} - - -\n/g 0 @120000 - - - - 0.0 /f - - no attribute\n"
    entries = parse(dump, dialect).root.entries
    assert entries[b"g"] is entries[b"f"]


@pytest.mark.parametrize("tree", random_trees()[:20], ids=lambda tree: tree.name)
def test_however_the_bytes_come(tree: Recorded) -> None:
    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 1, 7))

    whole = b"".join(iter_dump(parse(tree.read(), C, tree.algorithm)))
    assert b"".join(iter_dump(parse_dump(Trickle(tree.read()), tree.algorithm, C))) == whole


REG = "100644 1 0 0 0 0.0"
LONG = "n" * 300
REFUSED = {
    "nothing": (BOTH, "", "dump: empty; expected a line for the root directory"),
    "no root": (BOTH, f"/f 0 {REG} - - -\n", 'line 1, PATH: "/f" comes before the root directory'),
    "root is a file": (BOTH, f"/ 0 {REG} - - -\n", "line 1, MODE: the root is not a directory"),
    "root is a link": (BOTH, "/ 0 @120000 - - - - 0.0 /a - -\n", "line 1, MODE: the root is a hard link"),
    "second root": (BOTH, ROOT + ROOT, "line 2, PATH: a second root directory"),
    "path twice": (
        BOTH,
        f"{ROOT}/f 0 {REG} - - -\n/f 0 {REG} - - -\n",
        'line 3, PATH: "/f" already exists',
    ),
    "path twice in other words": (
        BOTH,
        f"{ROOT}/f 0 {REG} - - -\n/\\x66 0 {REG} - - -\n",
        'line 3, PATH: "/f" already exists',
    ),
    "no parent": (BOTH, f"{ROOT}/d/f 0 {REG} - - -\n", 'PATH: "/d/f" has no parent directory'),
    "parent is a file": (BOTH, f"{ROOT}/f 0 {REG} - - -\n/f/g 0 {REG} - - -\n", "line 3, PATH: .* no parent"),
    "relative": ((RUST,), f"{ROOT}f 0 {REG} - - -\n", 'PATH: "f" does not start with a slash'),
    "empty name": ((RUST,), f"{ROOT}//f 0 {REG} - - -\n", 'PATH: "//f" has an empty name'),
    "slash at the end": (BOTH, f"{ROOT}/f/ 0 {REG} - - -\n", 'PATH: "/f/" has an empty name'),
    "dot": (BOTH, f"{ROOT}/. 0 {REG} - - -\n", 'PATH: "/." has an empty name in it, or a'),
    "dots": (BOTH, f"{ROOT}/.. 0 {REG} - - -\n", r'PATH: "/\.\." has an empty name in it, or a'),
    "dots above": (BOTH, f"{ROOT}/../f 0 {REG} - - -\n", "line 2, PATH: "),
    "long name": (BOTH, f"{ROOT}/{LONG} 0 {REG} - - -\n", "PATH: a name of 300 bytes, more than 255"),
    "long path": (
        (RUST,),
        f"{ROOT}{'/n' * 2049} 0 {REG} - - -\n",
        "PATH: 2048 directories deep, more than 2047",
    ),
    "escaped NUL in a path": (BOTH, f"{ROOT}/a\\x00b 0 {REG} - - -\n", "PATH: .* has a NUL in it"),
    "NUL": (BOTH, f"{ROOT}/f 1 {REG} - \0 -\n", "line 2: a NUL; it has to be written as an escape"),
    "bad escape in a path": (BOTH, f"{ROOT}/\\q 0 {REG} - - -\n", "line 2, PATH: invalid escape"),
    "bad escape in content": (BOTH, f"{ROOT}/f 2 {REG} - \\q -\n", "CONTENT: invalid escape"),
    "bad escape in a target": (BOTH, f"{ROOT}/f 2 120777 1 0 0 0 0.0 \\q - -\n", "PAYLOAD: invalid escape"),
    "bad escape in an attribute": (BOTH, f"{ROOT}/f 0 {REG} - - - a=\\q\n", "KEY=VALUE: invalid escape"),
    "field missing": ((RUST,), f"{ROOT}/f 0 {REG} - -\n", "line 2, DIGEST: missing"),
    "number missing": (BOTH, f"{ROOT}/f 0 100644 1 0 0 0\n", "line 2, MTIME: missing"),
    "size": (BOTH, f"{ROOT}/f x {REG} - - -\n", 'SIZE: expected a decimal number up to .*, found "x"'),
    "sign": (BOTH, f"{ROOT}/f +1 {REG} - - -\n", r'SIZE: .*found "\+1"'),
    "underscore": (BOTH, f"{ROOT}/f 1_0 {REG} - - -\n", 'SIZE: .*found "1_0"'),
    "digits that are none": (BOTH, f"{ROOT}/f \u00b2 {REG} - - -\n", "SIZE: expected a decimal number"),
    "many digits": (BOTH, f"{ROOT}/f {'9' * 5000} {REG} - - -\n", "SIZE: expected a decimal number"),
    "large size": (BOTH, f"{ROOT}/f 9007199254740993 {REG} - - -\n", "SIZE: 9007199254740993 bytes, more"),
    "mode": (
        BOTH,
        f"{ROOT}/f 0 100888 1 0 0 0 0.0 - - -\n",
        'MODE: expected an octal number, found "100888"',
    ),
    "kind": (BOTH, f"{ROOT}/f 0 644 1 0 0 0 0.0 - - -\n", 'MODE: "644" has no known file type'),
    "text before the mark": (BOTH, f"{ROOT}/f 0 x@120000 - - - - 0.0 /f - -\n", "MODE: expected an octal"),
    "uid": (BOTH, f"{ROOT}/f 0 100644 1 4294967296 0 0 0.0 - - -\n", "UID: expected a decimal number up to"),
    "gid": (BOTH, f"{ROOT}/f 0 100644 1 0 -1 0 0.0 - - -\n", 'GID: .*found "-1"'),
    "link count": (BOTH, f"{ROOT}/f 0 100644 x 0 0 0 0.0 - - -\n", "NLINK: expected"),
    "device number": (
        BOTH,
        f"{ROOT}/f 0 20644 1 0 0 4294967296 0.0 - - -\n",
        "RDEV: 4294967296 is not a 32-bit device",
    ),
    "device number of a file": ((RUST,), f"{ROOT}/f 0 100644 1 0 0 7 0.0 - - -\n", "RDEV: 7 of something"),
    "time": (BOTH, f"{ROOT}/f 0 100644 1 0 0 0 7 - - -\n", "MTIME: expected seconds.nanoseconds"),
    "nanoseconds": (BOTH, f"{ROOT}/f 0 100644 1 0 0 0 0.1000000000 - - -\n", "MTIME: expected a decimal"),
    "content and size": (BOTH, f"{ROOT}/f 4 {REG} - abc -\n", "CONTENT: 3 bytes, but SIZE is 4"),
    "content too long": (
        (RUST,),
        f"{ROOT}/f 513 {REG} - {'c' * 513} -\n",
        "CONTENT: 513 bytes, more than 512",
    ),
    "content too long for C": (
        (C,),
        f"{ROOT}/f 5001 {REG} - {'c' * 5001} -\n",
        "CONTENT: 5001 bytes, more than",
    ),
    "content of a directory": (
        (RUST,),
        f"{ROOT}/f 3 40755 1 0 0 0 0.0 - abc -\n",
        "CONTENT: content of some",
    ),
    "digest of a link": ((RUST,), f"{ROOT}/f 1 120777 1 0 0 0 0.0 x - {HEX}\n", "DIGEST: a digest of some"),
    "digest of an inline file": (
        (RUST,),
        f"{ROOT}/f 1 {REG} - x {HEX}\n",
        "DIGEST: a digest of a file without",
    ),
    "digest of another hash": (
        BOTH,
        f"{ROOT}/f 1 {REG} {PATH} - {HEX * 2}\n",
        "DIGEST: expected 64 hexa.* 128",
    ),
    "digest that is none": (BOTH, f"{ROOT}/f 1 {REG} {PATH} - {'z' * 64}\n", "DIGEST: .* is not hexadecimal"),
    "payload that is no object": (
        (RUST,),
        f"{ROOT}/f 1 {REG} a/b - -\n",
        'PAYLOAD: "a/b" is not the path of a sha256',
    ),
    "empty payload": ((RUST,), f"{ROOT}/f 1 {REG}  - -\n", "PAYLOAD: 0 bytes; expected 1 to 4096"),
    "target missing": (
        BOTH,
        f"{ROOT}/f 0 120777 1 0 0 0 0.0 - - -\n",
        "PAYLOAD: missing; expected a link target",
    ),
    "target too long": (
        BOTH,
        f"{ROOT}/f 0 120777 1 0 0 0 0.0 {'t' * 4096} - -\n",
        "PAYLOAD: 4096 bytes; expect",
    ),
    "whiteout with two links": (
        (RUST,),
        f"{ROOT}/f 0 20644 2 0 0 0 0.0 - - -\n",
        "NLINK: 2 links of a whiteout",
    ),
    "attribute without value": (BOTH, f"{ROOT}/f 0 {REG} - - - a\n", "KEY=VALUE: no '=' in \"a\""),
    "attribute without name": (BOTH, f"{ROOT}/f 0 {REG} - - - =a\n", 'KEY=VALUE: "" has 0 bytes; expected 1'),
    "space at the end": ((RUST,), f"{ROOT}/f 0 {REG} - - - \n", "KEY=VALUE: no '=' in \"\""),
    "attribute name too long": (
        BOTH,
        f"{ROOT}/f 0 {REG} - - - {LONG}=\n",
        "has 300 bytes; expected 1 to 255",
    ),
    "attribute value too long": (
        (RUST,),
        f"{ROOT}/f 0 {REG} - - - a={'v' * 65536}\n",
        'KEY=VALUE: the value of "a" has 65536 bytes, more than 65535',
    ),
    "too many attributes": (
        (RUST,),
        f"{ROOT}/f 0 {REG} - - - {' '.join(f'{n:0>255}=' for n in range(258))}\n",
        "KEY=VALUE: attributes count 65790 bytes together",
    ),
    "too many attributes for C": (
        (C,),
        f"{ROOT}/f 0 {REG} - - - {' '.join(f'{n}={chr(118) * 8000}' for n in range(5))}\n",
        "KEY=VALUE: attributes count 40052 bytes together, more than 32767",
    ),
    "link to nothing": (
        BOTH,
        f"{ROOT}/f 0 @120000 - - - - 0.0 /g - -\n",
        'line 2, PAYLOAD: no file "/g" to link',
    ),
    "link to itself": (
        BOTH,
        f"{ROOT}/f 0 @120000 - - - - 0.0 /f - -\n",
        "PAYLOAD: the hard link leads back to",
    ),
    "links in a circle": (
        BOTH,
        f"{ROOT}/f 0 @120000 - - - - 0.0 /g - -\n/g 0 @120000 - - - - 0.0 /f - -\n",
        "line 2, PAYLOAD: the hard link leads back to itself",
    ),
    "link to a directory": (
        BOTH,
        f"{ROOT}/d 0 40755 2 0 0 0 0.0 - - -\n/f 0 @120000 - - - - 0.0 /d - -\n",
        'line 3, PAYLOAD: hard link to directory "/d"',
    ),
    "link to a directory still to come": (
        BOTH,
        f"{ROOT}/f 0 @120000 - - - - 0.0 /d - -\n/d 0 40755 2 0 0 0 0.0 - - -\n",
        'line 2, PAYLOAD: hard link to directory "/d"',
    ),
    "link to root": (BOTH, f"{ROOT}/f 0 @120000 - - - - 0.0 / - -\n", "PAYLOAD: hard link to directory"),
    "link that is a directory": (
        BOTH,
        f"{ROOT}/f 0 @40755 - - - - 0.0 /g - -\n",
        "MODE: a hard link that is a",
    ),
    "link without target": (
        BOTH,
        f"{ROOT}/f 0 @120000 - - - - 0.0 - - -\n",
        "PAYLOAD: missing; expected the path",
    ),
    "blank line": ((C,), f"{ROOT}\n", "line 2, "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_told_by_line_and_field(name: str) -> None:
    dialects, dump, message = REFUSED[name]
    for dialect in dialects:
        with pytest.raises(DumpfileError, match=message) as caught:
            parse(dump, dialect)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", [name for name in REFUSED if REFUSED[name][1].startswith(ROOT)])
def test_the_fast_way_refuses_the_same(name: str) -> None:
    dialects, dump, _ = REFUSED[name]
    for dialect in dialects:
        found = []
        for before in ("", USUAL):
            with pytest.raises(DumpfileError) as caught:
                parse(ROOT + before + dump.removeprefix(ROOT), dialect)
            found.append(re.sub(r"line \d+", "line N", str(caught.value)))
        assert found[0] == found[1]


@pytest.mark.parametrize("before", ["", USUAL])
def test_the_first_wrong_field_is_told(before: str) -> None:
    with pytest.raises(DumpfileError, match="SIZE: "):
        parse(f"{ROOT}{before}/f x {REG} - - - no attribute\n")
    with pytest.raises(DumpfileError, match="KEY=VALUE: "):
        parse(f"{ROOT}{before}/f 1 {REG} - - {HEX} no attribute\n")


ACCEPTED_BY_C = {
    "relative": f"{ROOT}f 0 {REG} - - -\n",
    "slashes": f"{ROOT}//f 0 {REG} - - -\n",
    "device number of a file": f"{ROOT}/f 0 100644 1 0 0 7 0.0 - - -\n",
    "content of a directory": f"{ROOT}/f 3 40755 1 0 0 0 0.0 - abc -\n",
    "digest of a link": f"{ROOT}/f 1 120777 1 0 0 0 0.0 x - {HEX}\n",
    "fields missing": f"{ROOT}/f 0 {REG}\n",
}


@pytest.mark.parametrize("name", ACCEPTED_BY_C)
@pytest.mark.parametrize("before", ["", USUAL])
def test_the_c_dialect_takes_what_the_c_tool_takes(name: str, before: str) -> None:
    dump = ROOT + before + ACCEPTED_BY_C[name].removeprefix(ROOT)
    assert list(parse(dump, C).root.entries)[-1] == b"f"
    with pytest.raises(DumpfileError):
        parse(dump, RUST)


@pytest.mark.parametrize(
    ("dump", "message"),
    [
        (f"{ROOT}/f 0 100644 1 0 0 7 0.0 - - -\n", "RDEV: 7 of something that is not a device"),
        (f"{ROOT}/f 7 120777 1 0 0 0 0.0 x - -\n", "SIZE: 7 for a link target of 1 bytes"),
        (f"{ROOT}/f 1 120777 1 0 0 0 0.0 x y -\n", "CONTENT: content of something"),
        (f"{ROOT}/f 0 {REG} - - -", "line 2: the last line does not end"),
    ],
)
@pytest.mark.parametrize("before", ["", USUAL])
def test_strictness(dump: str, message: str, before: str) -> None:
    dump = ROOT + before + dump.removeprefix(ROOT)
    stream = io.BytesIO(dump.encode())
    with pytest.raises(DumpfileError, match=message if not before else message.replace("line 2", "line 5")):
        parse_dump(stream, Algorithm.SHA256, C, strict=True)
    assert b"f" in parse(dump, C).root.entries


def test_a_line_without_end_is_not_read_to_its_end() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1, /) -> bytes:
            self.given += size
            return b"x" * size

    stream = Endless()
    with pytest.raises(DumpfileError, match="line 1: longer than 4194304 bytes"):
        parse_dump(stream, Algorithm.SHA256)
    assert stream.given <= 6 << 20


def test_the_hash_decides_about_digests() -> None:
    line = f"/f 100 {REG} {HEX[:2]}/{HEX[2:]}{HEX} - {HEX}{HEX}\n"
    node = next(iter(parse(ROOT + line, algorithm=Algorithm.SHA512).root.entries.values()))
    assert isinstance(node, ExternalFile)
    assert node.object_id.hex() == HEX * 2


def test_equal_attributes_are_kept_once() -> None:
    root = parse(f"{ROOT}/a 0 {REG} - - - a=1\n/b 0 {REG} - - - a=1\n/c 0 {REG} - - -\n").root
    assert root.entries[b"a"].xattrs is root.entries[b"b"].xattrs
    assert root.entries[b"c"].xattrs is root.xattrs


def test_reading_pauses_the_collector_and_starts_it_again() -> None:
    import gc  # the state of this process

    assert gc.isenabled()
    assert isinstance(parse(ROOT), FileSystem)
    assert gc.isenabled()
    with pytest.raises(DumpfileError):
        parse("x")
    assert gc.isenabled()
