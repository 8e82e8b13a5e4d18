"""Listings, entries by path, and loading of image files."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import ErofsError
from cfsctl.erofs.inspect import (
    EntryError,
    escape,
    find_entry,
    format_backing_path,
    iter_listing,
    iter_missing,
    load_image,
    select_entries,
    tree_objects,
)
from cfsctl.erofs.read.tree import collect_objects
from cfsctl.tree.model import Directory, ExternalFile, Fifo, FileSystem, InlineFile, Symlink
from tests.support.erofs_images import stored

if TYPE_CHECKING:
    from pathlib import Path

OBJECT = ObjectID(bytes(range(32)))
OBJECT_PATH = "00/" + OBJECT.hex()[2:]


def tree() -> FileSystem:
    """Return /usr with one of each, and a file beside it."""
    root, usr, lib = Directory(0o755), Directory(0o755), Directory(0o755)
    file = ExternalFile(OBJECT, 100, 0o644)
    lib.entries = {b"big": file, b"sp ace\n\xff": InlineFile(b"x", 0o644)}
    usr.entries = {b"lib": lib, b"fifo": Fifo(0o600), b"link": Symlink(b"to here\t", 0o777)}
    root.entries = {b"usr": usr, b"big2": file, b"note": InlineFile(b"", 0o644)}
    return FileSystem(root)


def test_listing() -> None:
    assert b"".join(iter_listing(tree())) == (
        b"/big2\t@ " + OBJECT_PATH.encode() + b"\n"
        b"/note\n"
        b"/usr/\t\n"
        b"/usr/fifo\n"
        b"/usr/lib/\t\n"
        b"/usr/lib/big\n"
        b"/usr/lib/sp ace\\n\\xff\n"
        b"/usr/link\t-> to here\\t\n"
    )


def test_listing_of_selected_entries() -> None:
    selected = select_entries(tree(), {b"note", b"nothing"})
    assert list(iter_listing(selected)) == [b"/note\n"]
    assert b"".join(iter_listing(select_entries(tree(), ()))).count(b"\n") == 8


def test_escapes() -> None:
    every = bytes(range(256))
    assert escape(b"\\ \n\r\t= \x7f\x80") == b"\\\\ \\n\\r\\t= \\x7f\\x80"
    assert escape(every).decode("ascii").isprintable()


@pytest.mark.parametrize("path", ["/usr/lib/big", "usr/lib/big", "//usr//lib/big/", "usr/./lib/big", "/big2"])
def test_entry_by_path(path: str) -> None:
    filesystem = tree()
    assert find_entry(filesystem, path.encode()) is filesystem.root.entries[b"big2"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/", 'Invalid filename "/"'),
        ("", 'Invalid filename ""'),
        (".", 'Invalid filename "."'),
        ("./usr/lib", 'Invalid filename "./usr"'),
        ("/usr/../usr/lib", 'Invalid filename "/usr/../usr"'),
        ("/usr/..", 'Invalid filename "/usr/.."'),
        ("/nope", "/nope not found in the image"),
        ("/usr/nope/x", 'Directory entry "/usr/nope" does not exist'),
        ("note/x", 'Directory entry "note" is not a subdirectory'),
    ],
)
def test_no_entry(path: str, message: str) -> None:
    with pytest.raises(EntryError) as caught:
        find_entry(tree(), path.encode())
    assert str(caught.value) == message


def test_backing_path() -> None:
    assert format_backing_path(tree(), b"/usr/lib/big") == f"/usr/lib/big {OBJECT_PATH}\n".encode()
    assert format_backing_path(tree(), b"usr/link") == b"usr/link inline\n"
    assert format_backing_path(tree(), b"usr/lib/sp ace\n\xff") == "usr/lib/sp ace\n� inline\n".encode()
    with pytest.raises(EntryError, match=r"^/usr is a directory$"):
        format_backing_path(tree(), b"/usr")


def test_objects_of_a_tree() -> None:
    assert tree_objects(tree()) == {OBJECT}


def test_missing_objects(tmp_path: Path) -> None:
    others = [ObjectID(bytes([number]) * 32) for number in (3, 1, 2)]
    (tmp_path / "01").mkdir()
    (tmp_path / "01" / ("01" * 31)).write_bytes(b"")
    (tmp_path / "02").mkdir()
    (tmp_path / "02" / ("02" * 31)).symlink_to("nowhere")
    dirfd = os.open(tmp_path, os.O_PATH)
    try:
        assert list(iter_missing(others, dirfd)) == ["02/" + "02" * 31, "03/" + "03" * 31]
    finally:
        os.close(dirfd)


def load(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        return load_image(fd)
    finally:
        os.close(fd)


def test_load_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(stored("small-sha256-v1.img"))
    data = load(tmp_path / "image")
    assert len(collect_objects(data, Algorithm.SHA256)) == 1


def test_load_from_a_pipe() -> None:
    data = stored("small-sha256-v1.img")
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
        os.close(writing)
        assert load_image(reading) == data
    finally:
        os.close(reading)


def test_only_headers_of_what_is_no_image_are_read() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, bytes(1152) + b"rest")
        with pytest.raises(ErofsError, match="bad composefs magic"):
            load_image(reading)
        assert os.read(reading, 100) == b"rest"
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("content", [b"", b"short", bytes(4096)])
def test_load_of_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ErofsError):
        load(tmp_path / "file")


def test_load_of_a_cut_image(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(stored("small-sha256-v1.img")[:8192])
    with pytest.raises(ErofsError, match=r"says 4 blocks \(16384 bytes\), found 8192 bytes"):
        load(tmp_path / "file")


def test_listing_of_a_deep_tree_holds_one_path() -> None:
    root = directory = Directory(0o755)
    for _ in range(1000):
        directory.entries[b"a"] = InlineFile(b"", 0o644)
        directory.entries[b"n" * 255] = directory = Directory(0o755)
    directory.entries = {b"%05d" % number: InlineFile(b"", 0o644) for number in range(1000)}
    tracemalloc.start()
    try:
        lines = sum(part.count(b"\n") for part in iter_listing(FileSystem(root)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lines == 3000
    assert peak < 10 << 20
