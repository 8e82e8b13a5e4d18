"""Trees written as dumps, line by line."""

from __future__ import annotations

import tracemalloc

from cfsctl.digest import ObjectID
from cfsctl.dumpfile import DumpWriter, iter_dump
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

HEX = "ab" + "cd" * 31
PATH = f"ab/{HEX[2:]}"


def sample() -> FileSystem:
    root = Directory(0o755, 1, 2, 1700000000, 5, {b"user.b": b"=", b"user.a": b""})
    external = ExternalFile(ObjectID(bytes.fromhex(HEX)), 100000, 0o4755, 0, 0, 1)
    undigested = ExternalFile(ObjectID(bytes.fromhex(HEX)), 7, 0o644)
    undigested.has_digest = False
    root.entries = {
        b"z": external,
        b"etc": Directory(0o700, mtime_s=-3, mtime_ns=1),
        b"a b": InlineFile(b"a b", 0o644),
        b"-": InlineFile(b"-", 0o644),
        b"": Fifo(0),
        b"block": BlockDevice(0x801, 0o660),
        b"char": CharDevice(259, 0o666),
        b"empty": InlineFile(b"", 0o644),
        b"fifo": Fifo(0o600),
        b"link": Symlink(b"/foo bar", 0o777),
        b"socket": Socket(0o755),
        b"sparse": SparseFile(1 << 40, 0o644),
        b"undigested": undigested,
    }
    del root.entries[b""]
    directory = root.entries[b"etc"]
    assert isinstance(directory, Directory)
    directory.entries = {b"sub": Directory(0), b"big": external, b"\xff\n": external}
    return FileSystem(root)


def test_one_line_of_each_kind() -> None:
    assert b"".join(iter_dump(sample())).decode().splitlines() == [
        "/ 0 40755 3 1 2 0 1700000000.5 - - - user.a= user.b=\\x3d",
        "/- 1 100644 1 0 0 0 0.0 - \\x2d -",
        "/a\\x20b 3 100644 1 0 0 0 0.0 - a\\x20b -",
        "/block 0 60660 1 0 0 2049 0.0 - - -",
        "/char 0 20666 1 0 0 259 0.0 - - -",
        "/empty 0 100644 1 0 0 0 0.0 - - -",
        "/etc 0 40700 3 0 0 0 -3.1 - - -",
        f"/etc/big 100000 104755 3 0 0 0 1.0 {PATH} - {HEX}",
        "/etc/sub 0 40000 2 0 0 0 0.0 - - -",
        "/etc/\\xff\\n 0 @120000 - - - - 0.0 /etc/big - -",
        "/fifo 0 10600 1 0 0 0 0.0 - - -",
        "/link 8 120777 1 0 0 0 0.0 /foo\\x20bar - -",
        "/socket 0 140755 1 0 0 0 0.0 - - -",
        "/sparse 1099511627776 100644 1 0 0 0 0.0 - - -",
        f"/undigested 7 100644 1 0 0 0 0.0 {PATH} - -",
        "/z 0 @120000 - - - - 0.0 /etc/big - -",
    ]


def test_parts_are_written_under_the_path_they_were_asked_for_by() -> None:
    filesystem = sample()
    writer = DumpWriter(filesystem)
    etc = filesystem.root.entries[b"etc"]

    def paths(path: bytes) -> list[str]:
        lines = b"".join(writer.iter_node(etc, path)).decode().splitlines()
        return [line.split(" ")[0] for line in lines]

    assert paths(b"etc") == ["etc", "etc/big", "etc/sub", "etc/\\xff\\n"]
    assert paths(b"/etc/") == ["/etc/", "/etc/big", "/etc/sub", "/etc/\\xff\\n"]
    assert paths(b"-")[0] == "\\x2d"


def test_hard_links_start_anew_with_each_part_and_count_the_whole_tree() -> None:
    filesystem = sample()
    writer = DumpWriter(filesystem)
    full = f"100000 104755 3 0 0 0 1.0 {PATH} - {HEX}\n"
    z = filesystem.root.entries[b"z"]
    assert b"".join(writer.iter_node(z, b"z")).decode() == f"z {full}"
    assert f"x/big {full}" in b"".join(writer.iter_node(filesystem.root.entries[b"etc"], b"x")).decode()
    assert b"".join(writer.iter_node(z, b"again")).decode() == f"again {full}"


def test_many_lines_come_in_batches_and_a_deep_tree_needs_no_recursion() -> None:
    root = directory = Directory(0o755)
    for _ in range(5000):
        directory.entries[b"d"] = directory = Directory(0o755)
    parts = list(iter_dump(FileSystem(root)))
    assert 1 < len(parts) < 200
    assert all(part.endswith(b"\n") and len(part) < 1 << 20 for part in parts)
    assert b"".join(parts).count(b"\n") == 5001


def test_links_far_down_do_not_multiply_their_paths() -> None:
    """A thousand linked files below 200 kB of path: 200 MB of first names if each were kept."""
    root = directory = Directory(0o755)
    for _ in range(800):
        directory.entries[b"n" * 255] = directory = Directory(0o755)
    for number in range(1000):
        directory.entries[b"a%04d" % number] = directory.entries[b"b%04d" % number] = InlineFile(b"", 0o644)
    tracemalloc.start()
    try:
        lines = sum(part.count(b"\n") for part in iter_dump(FileSystem(root)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lines == 2801
    assert peak < 10 << 20
