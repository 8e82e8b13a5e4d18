"""Content objects: what becomes inline, what becomes an object, what is refused, and in how much memory."""

from __future__ import annotations

import hashlib
import importlib
import os
import stat
import zlib
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from cfsctl.compression.inflate import Inflate, load_inflate
from cfsctl.digest import Algorithm, Checksum
from cfsctl.errors import DigestMismatchError
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.ostree.content.file_import import (
    FileImporter,
    FileImportSink,
)
from cfsctl.ostree.content.target import ImportedFile, inline_limit
from cfsctl.ostree.objects import OstreeObjectError, format_regular_header, format_zlib_header
from cfsctl.repository.objects.store import ObjectStore
from tests.fakes.ostree_repository import checksum_of, deflate

if TYPE_CHECKING:
    from collections.abc import Iterator

MODE = stat.S_IFREG | 0o644
LINK = stat.S_IFLNK | 0o777
VECTORS = Path(__file__).parents[3] / "vectors" / "ostree" / "objects"
INFLATES = {"zlib": Inflate(zlib.decompressobj, zlib.error), "fastest": load_inflate()}
LARGE = Random(1).randbytes(9 << 20)
"""Compresses to more than one piece in memory, and is large enough for a second thread."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    fd = os.open(tmp_path, os.O_RDONLY)
    store = ObjectStore(fd, Algorithm.SHA256)
    yield store
    store.close()
    os.close(fd)


@pytest.fixture(params=list(INFLATES))
def importer(store: ObjectStore, request: pytest.FixtureRequest) -> FileImporter:
    return FileImporter(store, INFLATES[request.param])


def regular(
    content: bytes, *, claimed: int | None = None, body: bytes | None = None
) -> tuple[Checksum, bytes]:
    """Return checksum and ``.filez`` of a regular file, the latter with a lie if asked for."""
    size = len(content) if claimed is None else claimed
    stored = format_zlib_header(size, 0, 0, MODE) + (deflate(content, 1) if body is None else body)
    return checksum_of(format_regular_header(0, 0, MODE) + content), stored


def link(target: bytes, body: bytes = b"") -> tuple[Checksum, bytes]:
    checksum = checksum_of(format_regular_header(0, 0, LINK, target))
    return checksum, format_zlib_header(0, 0, 0, LINK, target) + body


def feed(importer: FileImporter, checksum: Checksum, stored: bytes, step: int) -> ImportedFile:
    sink = importer.open_sink(checksum)
    try:
        for start in range(0, len(stored), step):
            sink.write(stored[start : start + step])
    except BaseException:
        sink.abort()
        raise
    return sink.finish()


def names_in(store: ObjectStore) -> list[str]:
    root = Path(f"/proc/self/fd/{store.objects_fd(create=True)}").resolve()
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("size", [0, 1, 63, 64])
def test_content_up_to_the_limit_stays_inline(importer: FileImporter, size: int) -> None:
    content = Random(size).randbytes(size)
    checksum, stored = regular(content)
    header = format_zlib_header(size, 0, 0, MODE)
    assert importer.import_bytes(checksum, stored) == (checksum, header + content, None)
    assert names_in(importer.objects) == []


@pytest.mark.parametrize("size", [65, 4096, 100_000, (1 << 20) + 1, len(LARGE)])
def test_content_above_the_limit_becomes_an_object(importer: FileImporter, size: int) -> None:
    content = LARGE[:size]
    checksum, stored = regular(content)
    imported = feed(importer, checksum, stored, 1 << 18)
    object_id = compute_digest(content, Algorithm.SHA256)
    assert imported == ImportedFile(checksum, format_zlib_header(size, 0, 0, MODE), object_id)
    assert importer.objects.read(object_id) == content
    assert (importer.stored_objects, importer.stored_bytes) == (1, size)
    assert importer.received_bytes == len(stored)
    assert feed(importer, checksum, stored, 1 << 20) == imported
    assert importer.stored_objects == 1


def test_the_limit_follows_the_size_of_object_ids() -> None:
    assert inline_limit(Algorithm.SHA256) == 64
    assert inline_limit(Algorithm.SHA512) == 128


def test_a_symbolic_link_has_no_body(importer: FileImporter) -> None:
    checksum, stored = link(b"target")
    assert importer.import_bytes(checksum, stored) == (checksum, stored, None)
    with pytest.raises(
        OstreeObjectError, match=r"nothing after the header of a symbolic link, found 3 bytes"
    ):
        importer.import_bytes(*link(b"target", b"abc"))
    with pytest.raises(OstreeObjectError, match=r"nothing after the header of a symbolic link, found more"):
        feed(importer, *link(b"target", bytes(2 << 20)), 1 << 16)


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.filez")), ids=lambda path: path.name[:8])
def test_objects_that_ostree_made(importer: FileImporter, path: Path) -> None:
    checksum = Checksum(bytes.fromhex(path.stem))
    imported = importer.import_bytes(checksum, path.read_bytes())
    assert imported == feed(importer, checksum, path.read_bytes(), 1)


BROKEN = {
    "claims less": (regular(bytes(5000), claimed=10), "expected 10 bytes of content, found more"),
    "claims more": (regular(bytes(10), claimed=5000), "expected 5000 bytes of content, found 10"),
    "claims very much": (regular(b"x" * 10, claimed=1 << 40), "1099511627776 bytes of content, found 10"),
    "bomb": (regular(bytes(64 << 20), claimed=10), "expected 10 bytes of content, found more"),
    "large bomb": (regular(bytes(64 << 20), claimed=2 << 20), "2097152 bytes of content, found more"),
    "garbage": (regular(b"x" * 100, body=b"\xff" * 100), "expected raw deflate data, found "),
    "garbage in a large one": (regular(LARGE, body=b"\xff" * (2 << 20)), "expected raw deflate data, found "),
    "no body": (
        regular(b"x" * 100, body=b""),
        "expected the end of the compressed content, found the end of",
    ),
    "no body, no content": (
        regular(b"", body=b""),
        "expected the end of the compressed content, found the end",
    ),
    "cut": (regular(b"", body=deflate(LARGE[:5000])[:-300], claimed=5000), "end of the object after 4"),
    "end mark cut": (
        regular(b"xyz" * 99, body=deflate(b"xyz" * 99)[:-1]),
        "expected the end of the compressed",
    ),
    "large, cut": (
        regular(b"", body=deflate(LARGE)[:-300], claimed=len(LARGE)),
        "end of the object after 94",
    ),
    "trailing": (regular(b"x", body=deflate(b"x") + b"junk"), "compressed content, found 4 bytes or more"),
    "endless": (
        regular(b"x", body=deflate(b"x") + bytes(3 << 20)),
        "nothing after the compressed content, found ",
    ),
    "large, trailing": (
        regular(LARGE, body=deflate(LARGE, 1) + b"jk"),
        "compressed content, found 2 bytes or more",
    ),
    "a web page": (
        (checksum_of(b""), b"<!DOCTYPE html><title>Log in</title>"),
        "header length: expected 26 to",
    ),
    "a large web page": ((checksum_of(b""), b"<!DOCTYPE html>" * (1 << 17)), "header length: expected 26 to"),
    "nothing": ((checksum_of(b""), b""), "header length: expected 8 bytes, found 0"),
    "huge header": (
        (checksum_of(b""), b"\xff" * 4 + bytes(9 << 20)),
        "header length: expected 26 to 16777216",
    ),
    "header cut": (
        (checksum_of(b""), format_zlib_header(1, 0, 0, MODE)[:-1]),
        "file header: expected 34 bytes",
    ),
}


@pytest.mark.parametrize("step", [4096, 1 << 30])
@pytest.mark.parametrize("name", list(BROKEN))
def test_broken_objects_are_refused_by_name_and_leave_nothing(
    importer: FileImporter, name: str, step: int
) -> None:
    (checksum, stored), message = BROKEN[name]
    with pytest.raises(OstreeObjectError, match=f"^file object {checksum.hex()}: .*{message}"):
        feed(importer, checksum, stored, step)
    assert names_in(importer.objects) == []


@pytest.mark.parametrize("content", [b"", b"short", bytes(1000), LARGE[: 3 << 20], LARGE])
def test_another_file_is_refused_and_leaves_nothing(importer: FileImporter, content: bytes) -> None:
    checksum = checksum_of(b"something else")
    actual, stored = regular(content)
    with pytest.raises(
        DigestMismatchError, match=f"^file object {checksum.hex()}: .*, found {actual.hex()}$"
    ):
        feed(importer, checksum, stored, 1 << 18)
    assert names_in(importer.objects) == []


def test_a_header_larger_than_what_is_kept_in_memory(importer: FileImporter) -> None:
    xattrs = tuple((b"user.%05d\0" % number, bytes(60_000)) for number in range(30))
    header = format_zlib_header(2 << 20, 0, 0, MODE, b"", xattrs)
    content = LARGE[: 2 << 20]
    checksum = checksum_of(format_regular_header(0, 0, MODE, b"", xattrs) + content)
    imported = feed(importer, checksum, header + deflate(content, 1), 1 << 18)
    assert imported == (checksum, header, compute_digest(content, Algorithm.SHA256))


def test_inline_content_that_comes_as_very_many_empty_blocks(importer: FileImporter) -> None:
    # 300,000 stored blocks without data: legal, and longer than what is kept in memory.
    body = b"\0\0\0\xff\xff" * 300_000 + deflate(b"tiny")
    checksum, stored = regular(b"tiny", body=body)
    header = format_zlib_header(4, 0, 0, MODE)
    assert feed(importer, checksum, stored, 1 << 16) == (checksum, header + b"tiny", None)


def test_a_full_disk_is_reported_from_the_second_thread(
    importer: FileImporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    checksum, stored = regular(LARGE)
    create = importer.objects.create

    def create_read_only() -> object:
        writer = create()
        read_only = os.open(f"/proc/self/fd/{writer.fd}", os.O_RDONLY)
        os.dup2(read_only, writer.fd)
        os.close(read_only)
        return writer

    monkeypatch.setattr(importer.objects, "create", create_read_only)
    with pytest.raises(OSError, match="Bad file descriptor"):
        feed(importer, checksum, stored, 1 << 18)
    assert names_in(importer.objects) == []


def test_without_isal_zlib_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def missing(name: str) -> object:
        if name.startswith("isal"):
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert load_inflate() == Inflate(zlib.decompressobj, zlib.error)


def test_the_checksum_covers_what_ostree_says_it_covers() -> None:
    checksum, _ = regular(b"content")
    assert checksum == hashlib.sha256(format_regular_header(0, 0, MODE) + b"content").digest()


@pytest.mark.parametrize("size", [0, 64, 65, 5000, (1 << 20) + 1, 9 << 20])
@pytest.mark.parametrize("step", [1 << 17, 1 << 30])
def test_plain_content_gives_the_same_file(store: ObjectStore, size: int, step: int) -> None:
    content = LARGE[:size]
    checksum, stored = regular(content)
    importer = FileImporter(store)
    sink = importer.open_sink(checksum)
    sink.begin_plain(format_zlib_header(size, 0, 0, MODE))
    for start in range(0, max(size, 1), step):
        sink.write(content[start : start + step])
    assert sink.finish() == FileImporter(store).import_bytes(checksum, stored)
    assert importer.received_bytes == size
    assert importer.stored_objects == (size > 64)


@pytest.mark.parametrize("size", [1, 5000, (1 << 20) + 1, 9 << 20])
@pytest.mark.parametrize("difference", [-1, 1])
def test_plain_content_of_another_size_is_refused(store: ObjectStore, size: int, difference: int) -> None:
    checksum, _ = regular(LARGE[:size])
    sink = FileImporter(store).open_sink(checksum)
    sink.begin_plain(format_zlib_header(size + difference, 0, 0, MODE))
    message = f"expected {size + difference} bytes of content, found (more|{size})"
    with pytest.raises(OstreeObjectError, match=message):
        write_and_finish(sink, LARGE[:size])
    sink.abort()


def test_plain_content_of_another_file_is_refused(store: ObjectStore) -> None:
    checksum, _ = regular(LARGE[:5000])
    sink = FileImporter(store).open_sink(checksum)
    sink.begin_plain(format_zlib_header(5000, 1, 0, MODE))
    with pytest.raises(DigestMismatchError):
        write_and_finish(sink, LARGE[:5000])


def write_and_finish(sink: FileImportSink, content: bytes) -> None:
    for start in range(0, len(content), 1 << 17):
        sink.write(content[start : start + (1 << 17)])
    sink.finish()
