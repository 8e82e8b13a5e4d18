"""The parser of tar archives, in both directions."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.digest import Algorithm
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.oci.store.layer_writer import import_tar
from cfsctl.oci.store.layers import iter_entries
from cfsctl.oci.tar import Body, Entry, EntryType, Inline, TarError, TarParser
from tests.support.oci import directory, example_layers, file, hard_link, make_tar, symlink
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from pathlib import Path

END = bytes(1024)


def block(
    name: bytes = b"f",
    *,
    size: bytes = b"0",
    mode: bytes = b"644",
    kind: bytes = b"0",
    magic: bytes = b"ustar\x0000",
    mtime: bytes = b"0",
    link: bytes = b"",
    device: tuple[bytes, bytes] = (b"", b""),
    prefix: bytes = b"",
) -> bytes:
    """Return a header whose checksum is right."""
    fields = [
        name.ljust(100, b"\0"),
        mode.ljust(8, b"\0"),
        b"0".ljust(8, b"\0"),
        b"0".ljust(8, b"\0"),
        size.ljust(12, b"\0"),
        mtime.ljust(12, b"\0"),
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        magic,
        bytes(64),
        device[0].ljust(8, b"\0"),
        device[1].ljust(8, b"\0"),
        prefix.ljust(155, b"\0"),
    ]
    data = b"".join(fields).ljust(512, b"\0")
    return data[:148] + b"%06o\0 " % sum(data) + data[156:]


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def extension(kind: bytes, body: bytes, magic: bytes = b"ustar\x0000") -> bytes:
    return block(b"ext", size=b"%o" % len(body), kind=kind, magic=magic) + pad(body)


def record(key: bytes, value: bytes) -> bytes:
    tail = b" " + key + b"=" + value + b"\n"
    size = len(tail) + 1
    while len(b"%d" % size) + len(tail) != size:
        size += 1
    return b"%d" % size + tail


def parse(data: bytes, step: int = 1 << 20) -> list[Entry]:
    parser = TarParser()
    rebuilt = bytearray()
    entries = []
    for start in range(0, len(data), step):
        for event in parser.feed(data[start : start + step]):
            if isinstance(event, Entry):
                entries.append(event)
            else:
                assert event.data
                rebuilt += event.data
    assert rebuilt == data
    parser.finish()
    return entries


def one(data: bytes) -> Entry:
    (entry,) = parse(data + END)
    return entry


def refuse(data: bytes, match: str) -> TarError:
    with pytest.raises(TarError, match=match) as found:
        parse(data)
    return found.value


ARCHIVE = make_tar(
    [
        directory("usr"),
        file("usr/small", b"s" * 64),
        file("usr/large", b"l" * 65),
        file("usr/larger", bytes(2000)),
        symlink("usr/link", "large"),
        hard_link("usr/hard", "usr/large"),
        file("usr/" + "n" * 200, b"x" * 513),
        file("usr/empty"),
    ]
)


@pytest.mark.parametrize("step", [1, 7, 511, 512, 513, 10_000])
def test_the_cuts_make_no_difference(step: int) -> None:
    def describe(entries: list[Entry]) -> list[tuple[object, ...]]:
        return [tuple(getattr(entry, name) for name in Entry.__slots__) for entry in entries]

    assert describe(parse(ARCHIVE, step)) == describe(parse(ARCHIVE))


def test_only_larger_regular_files_are_bodies() -> None:
    parser = TarParser()
    events = parser.feed(ARCHIVE)
    bodies = [bytes(event.data) for event in events if isinstance(event, Body)]
    assert bodies == [b"l" * 65, bytes(2000), b"x" * 513]
    large = next(event for event in events if isinstance(event, Entry) and event.path == b"usr/large")
    assert large.is_external
    place = events.index(large)
    assert isinstance(events[place - 1], Inline)
    assert isinstance(events[place + 1], Body)


@pytest.mark.parametrize(
    ("algorithm", "lower", "upper"),
    [
        (
            Algorithm.SHA256,
            "1d524e97cc488ebfe757c9387b253c1d64c414e6a525ac52bf010aef2df42f34",
            "d9d9de0d6a0e4ae6d9be199d7f5bd74a0bc0e28bcfec569f6d6c377c79a40410",
        ),
        (
            Algorithm.SHA512,
            "8cf022508a978e4952173f517e8a9fdf93ac6527f083c16e5b4c88d1186ad319",
            "0f3aef8e470c8997b14bd26f063e0420baab74969c1da6c9ec9ff0d49a27fe97",
        ),
    ],
)
def test_streams_have_the_recorded_ids(algorithm: Algorithm, lower: str, upper: str, tmp_path: Path) -> None:
    with make_repository(tmp_path / "r", algorithm) as repository:
        found = [import_tar(repository.objects, [layer]).stream_id.hex() for layer in example_layers()]
    assert [digits[:64] for digits in found] == [lower, upper]


@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_a_layer_stream_is_read_back_as_the_same_entries(step: int, tmp_path: Path) -> None:
    pieces = [ARCHIVE[start : start + step] for start in range(0, len(ARCHIVE), step)]
    with make_repository(tmp_path / "r", Algorithm.SHA256) as repository:
        imported = import_tar(repository.objects, pieces)
        assert imported.size == len(ARCHIVE)
        with repository.streams.open_object(imported.stream_id) as reader:
            found = list(iter_entries(reader))
            rebuilt = bytearray()
            reader.cat(rebuilt.extend, repository.objects.open)
        contents = {
            entry.path: entry.content if object_id is None else repository.objects.read(object_id)
            for entry, object_id in found
            if entry.type == EntryType.REGULAR
        }
    assert rebuilt == ARCHIVE
    assert [entry.path for entry, _ in found] == [entry.path for entry in parse(ARCHIVE)]
    assert contents[b"usr/small"] == b"s" * 64
    assert contents[b"usr/large"] == b"l" * 65
    assert contents[b"usr/empty"] == b""


@pytest.mark.parametrize("step", [777, 1 << 18])
def test_small_contents_that_are_hashed_together_keep_their_places(step: int, tmp_path: Path) -> None:
    """Of all sizes, also none and more than are hashed together, with long runs of inline data between."""
    sizes = [number * 977 % 70_000 for number in range(150)] + [0, 1, 64, 65, 4096, 65_536, 65_537, 70] * 3
    archive = make_tar(
        [file(f"{number:0{4 + number * 7 % 300}}", os.urandom(size)) for number, size in enumerate(sizes)]
    )
    pieces = [archive[start : start + step] for start in range(0, len(archive), step)]
    with make_repository(tmp_path / "r", Algorithm.SHA512) as repository:
        imported = import_tar(repository.objects, pieces)
        rebuilt = bytearray()
        with repository.streams.open_object(imported.stream_id) as reader:
            reader.cat(rebuilt.extend, repository.objects.open)
    assert rebuilt == archive
    for path in (tmp_path / "r" / "objects").glob("*/*"):
        assert compute_digest(path.read_bytes(), Algorithm.SHA512).hex() == path.parent.name + path.name


class TestEnds:
    def test_the_marker_of_the_end_may_be_missing(self) -> None:
        assert [e.path for e in parse(block(b"a") + block(b"d", kind=b"5"))] == [b"a", b"d"]
        assert parse(b"") == []

    def test_whatever_follows_the_end_is_kept(self) -> None:
        assert [e.path for e in parse(block(b"a") + END + b"garbage" + block(b"b"))] == [b"a"]

    def test_a_single_block_of_zeros_is_passed_over(self) -> None:
        assert [e.path for e in parse(block(b"a") + bytes(512) + block(b"b") + END)] == [b"a", b"b"]

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (block() + bytes(512), "unexpected EOF in tar stream"),
            (block()[:300], "unexpected EOF in tar stream"),
            (block(b"f", size=b"144") + b"x" * 99, "entry 'f': unexpected EOF reading tar entry"),
            (block(b"f", size=b"144") + b"x" * 100, "entry 'f': unexpected EOF reading tar padding"),
            (block(b"f", size=b"10") + b"x" * 8, "entry 'f': unexpected EOF reading tar entry"),
            (extension(b"L", b"name\0"), "unexpected EOF in tar stream"),
            (extension(b"L", b"name\0") + END, "metadata entries without a following actual entry"),
        ],
    )
    def test_other_ends_are_refused(self, data: bytes, match: str) -> None:
        refuse(data, match)


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "size"),
        [(b"", 0), (b" 7 \0junk", 7), (b"+5", 5), (b"\x80" + bytes(10) + b"\x09", 9), (b"\t10\n", 8)],
    )
    def test_sizes(self, text: bytes, size: int) -> None:
        assert one(block(size=text) + pad(b"x" * size)).size == size

    @pytest.mark.parametrize("text", [b"8", b"0x1", b"1 2", b"-1", b"+", b"++1", b"1_0"])
    def test_what_is_no_number_is_refused(self, text: bytes) -> None:
        error = refuse(block(b"name", mode=text), "entry 'name' at byte 0: header error: invalid octal field")
        assert error.path == b"name"

    def test_negative_times_are_base_256(self) -> None:
        assert one(block(mtime=b"\xff" * 12)).mtime_s == -1

    def test_a_size_that_leaves_no_room_for_padding_is_refused(self) -> None:
        refuse(block(size=b"\x80" + bytes(3) + b"\xff" * 8), "invalid entry size: 18446744073709551615")

    def test_a_wrong_checksum_is_refused(self) -> None:
        data = bytearray(block())
        data[0] += 1
        refuse(bytes(data), r"checksum mismatch: expected \d+, computed \d+")

    def test_every_byte_counts_for_the_checksum(self) -> None:
        good = block()
        for place in [*range(148), *range(156, 512)]:
            data = bytearray(good)
            data[place] ^= 0x81
            with pytest.raises(TarError, match=r"checksum|octal"):
                parse(bytes(data))

    def test_device_numbers_are_octal_in_every_entry(self) -> None:
        assert one(block(kind=b"3", device=(b"5", b"377"))).device == (5, 255)
        assert one(block(kind=b"3", magic=bytes(8))).device is None
        refuse(block(device=(b"\x80\0\0\0\0\0\0\5", b"")), "invalid octal field")


class TestNames:
    def test_the_prefix_counts_for_ustar_only(self) -> None:
        assert one(block(b"f", prefix=b"a/b")).path == b"a/b/f"
        assert one(block(b"f", prefix=b"a/b", magic=b"ustar  \0")).path == b"f"

    def test_pax_comes_before_gnu_and_that_before_the_header(self) -> None:
        pax = extension(b"x", record(b"path", b"pax"))
        long_name, long_link = extension(b"L", b"long\0"), extension(b"K", b"target\0")
        assert one(long_name + block()).path == b"long"
        assert one(long_name + pax + block()).path == b"pax"
        assert one(pax + long_name + long_link + block(kind=b"2", link=b"x")).link_target == b"target"
        sparse = extension(b"x", record(b"path", b"pax") + record(b"GNU.sparse.name", b"renamed"))
        assert one(sparse + block()).path == b"renamed"

    @pytest.mark.parametrize("data", [block(b""), extension(b"x", record(b"path", b"")) + block()])
    def test_an_empty_path_is_refused(self, data: bytes) -> None:
        refuse(data, "entry has empty path")

    def test_extensions_of_v7_are_entries(self) -> None:
        kinds = [e.type for e in parse(b"".join(block(kind=k, magic=bytes(8)) for k in (b"L", b"x", b"S")))]
        assert kinds == [ord("L"), ord("x"), ord("S")]

    @pytest.mark.parametrize(("kind", "what"), [(b"L", "long name"), (b"K", "long link"), (b"x", "PAX")])
    def test_a_second_extension_of_a_kind_is_refused(self, kind: bytes, what: str) -> None:
        refuse(extension(kind, b"1\0") * 2, f"duplicate .*{what}")

    def test_a_global_header_makes_what_stands_before_it_forgotten(self) -> None:
        data = extension(b"x", record(b"path", b"pax")) + extension(b"g", record(b"path", b"all")) + block()
        assert one(data).path == b"f"

    def test_extensions_have_a_limit(self) -> None:
        refuse(block(size=b"4000001", kind=b"x"), "metadata exceeds limit: 1048577 bytes > 1048576 bytes")
        refuse(block(size=b"4000001", kind=b"g"), "metadata exceeds limit")
        half = extension(b"L", b"x" * (1 << 19))
        refuse(half + block(size=b"2000001", kind=b"K"), "metadata exceeds limit")


class TestPax:
    def read(self, *records: bytes) -> Entry:
        return one(extension(b"x", b"".join(records)) + block(mtime=b"7"))

    def test_ids_and_attributes(self) -> None:
        entry = self.read(
            record(b"uid", b"+70000"),
            record(b"gid", b"4294967297"),
            record(b"SCHILY.xattr.user.a", b"1\0\n2"),
            record(b"SCHILY.xattr.user.a", b"last"),
            record(b"comment", b"anything"),
        )
        assert (entry.uid, entry.gid) == (70000, 1)
        assert entry.xattrs == {b"user.a": b"last"}

    def test_the_size_replaces_that_of_the_header(self) -> None:
        data = extension(b"x", record(b"size", b"3")) + block(size=b"0") + pad(b"abc")
        assert one(data).content == b"abc"

    @pytest.mark.parametrize(
        ("text", "seconds", "nanoseconds"),
        [
            (b"5", 5, 0),
            (b"+5.25", 5, 250_000_000),
            (b"5.1234567891", 5, 123_456_789),
            (b"5.+5", 5, 50_000_000),
            (b"5.x", 5, 0),
            (b"5.5.5", 5, 0),
            (b"18446744073709551615.0", -1, 0),
        ],
    )
    def test_times(self, text: bytes, seconds: int, nanoseconds: int) -> None:
        entry = self.read(record(b"mtime", text))
        assert (entry.mtime_s, entry.mtime_ns) == (seconds, nanoseconds)

    def test_of_repeated_times_the_first_fraction_counts(self) -> None:
        entry = self.read(record(b"mtime", b"1.5"), record(b"mtime", b"2.25"))
        assert (entry.mtime_s, entry.mtime_ns) == (2, 500_000_000)

    @pytest.mark.parametrize("key", [b"uid", b"gid", b"size", b"mtime"])
    @pytest.mark.parametrize("value", [b"-1", b"", b" 1", b"18446744073709551616"])
    def test_what_is_no_number_is_refused(self, key: bytes, value: bytes) -> None:
        refuse(extension(b"x", record(key, value)) + block(), f"invalid PAX {key.decode()} value")

    @pytest.mark.parametrize("body", [b"nothing", b"x path=a\n", b"", b"999999999999999999999 path=a\n"])
    def test_the_list_may_end_anywhere(self, body: bytes) -> None:
        assert one(extension(b"x", body) + block()).path == b"f"

    @pytest.mark.parametrize("body", [b"99 path=a\n", b"9 path=ab", b"8 pathx\n", b"1 path=a\n", b"0 a=b\n"])
    def test_broken_records_are_refused(self, body: bytes) -> None:
        refuse(extension(b"x", body) + block(), "malformed PAX")

    def test_keys_are_unicode(self) -> None:
        refuse(extension(b"x", record(b"\xff", b"")) + block(), "invalid UTF-8 in PAX key")

    @pytest.mark.parametrize(
        "records",
        [
            [(b"map", b"0,1")],
            [(b"offset", b"0"), (b"numbytes", b"1")],
            [(b"major", b"1"), (b"minor", b"0")],
        ],
    )
    def test_sparse_files_are_refused(self, records: list[tuple[bytes, bytes]]) -> None:
        body = b"".join(record(b"GNU.sparse." + key, value) for key, value in records)
        refuse(extension(b"x", body) + block(), "entry 'f' .*sparse tar entries are not supported")

    def test_sparse_files_of_gnu_are_refused(self) -> None:
        refuse(block(kind=b"S", magic=b"ustar  \0"), "sparse tar entries are not supported")

    def test_other_records_about_sparse_files_mean_nothing(self) -> None:
        body = b"".join(record(b"GNU.sparse." + key, b"1") for key in (b"size", b"realsize", b"major", b"x"))
        assert one(extension(b"x", body) + block()).path == b"f"


def test_a_body_elsewhere_is_only_taken_where_one_belongs() -> None:
    parser = TarParser()
    with pytest.raises(TarError, match="found an object"):
        parser.skip_body(100)
    parser.feed(block(size=b"144"))
    with pytest.raises(TarError, match="expected an object of 100 bytes, found 99"):
        parser.skip_body(99)
    parser.skip_body(100)
    parser.feed(bytes(412) + END)
    assert parser.is_ended


def test_a_body_of_a_directory_is_not_held() -> None:
    parser = TarParser()
    parser.feed(block(b"d", kind=b"5", size=b"77777777777"))
    piece = bytes(1 << 16)
    for _ in range(64):
        (event,) = parser.feed(piece)
        assert isinstance(event, Inline)
    assert not parser._field


@given(st.binary(max_size=3000), st.integers(1, 700))
def test_any_bytes_are_parsed_or_refused(data: bytes, step: int) -> None:
    try:
        parse(data, step)
    except TarError:
        return


@given(st.data())
def test_any_change_of_an_archive_is_parsed_or_refused(data: st.DataObject) -> None:
    changed = bytearray(ARCHIVE)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        entries = parse(bytes(changed), 600)
    except TarError:
        return
    assert [e.path for e in entries] == [e.path for e in parse(bytes(changed))]


FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@pytest.mark.parametrize("kind", FORMATS)
def test_archives_of_the_standard_library_mean_the_same(kind: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for name, mode, uid, mtime in [("a", 0o755, 0, 5), ("d/" * 40 + "é" * 20, 0o4711, 12345, 1 << 31)]:
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid, info.mtime, info.size = mode, uid, uid, mtime, 3
            tar.addfile(info, io.BytesIO(b"abc"))
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
        wanted = [(m.name.encode(), m.mode, m.uid, m.gid, m.mtime) for m in tar]
    found = [(e.path, e.mode, e.uid, e.gid, e.mtime_s) for e in parse(buffer.getvalue())]
    assert found == wanted


def test_what_follows_the_end_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfsctl.oci.tar.parser.MAX_TRAILER_BYTES", 4096)
    parser = TarParser()
    parser.feed(END + bytes(4096))
    assert parser.is_ended
    with pytest.raises(TarError, match="at most 4096 bytes after the end"):
        parser.feed(b"\0")
