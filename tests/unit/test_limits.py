"""What a writer accepts a reader takes: trees at each limit, and one beyond it, in every format."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.dumpfile.reader import parse_dump
from cfsctl.dumpfile.writer import iter_dump
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.read.tree import check_image, collect_objects, read_image
from cfsctl.erofs.write.image import build_image
from cfsctl.errors import CfsError, FormatError
from cfsctl.limits import (
    MAX_DEPTH,
    MAX_FILE_BYTES,
    MAX_NAME_BYTES,
    MAX_TARGET_BYTES,
    MAX_XATTR_NAME_BYTES,
    MAX_XATTR_VALUE_BYTES,
)
from cfsctl.ostree.store.in_memory import InMemoryCommit
from cfsctl.ostree.tree.from_tree import make_objects
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.model import Directory, ExternalFile, FileSystem, InlineFile, Leaf, Symlink
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cfsctl.ostree.objects import Commit

ID = ObjectID(b"\xab" * 32)


def tree(entry: Leaf | Directory, name: bytes = b"entry") -> FileSystem:
    root, directory = Directory(0o755), Directory(0o755)
    root.entries[b"where"] = directory
    directory.entries[name] = entry
    return FileSystem(root)


def nested(levels: int, name: bytes = b"d") -> FileSystem:
    """Return a tree with so many directories below the root, one in the other, and a file in the last."""
    root = directory = Directory(0o755)
    for _ in range(levels):
        directory.entries[name] = directory = Directory(0o755)
    directory.entries[b"file"] = InlineFile(b"x", 0o644)
    return FileSystem(root)


def with_xattrs(xattrs: Mapping[bytes, bytes]) -> FileSystem:
    return tree(InlineFile(b"x", 0o644, 0, 0, 0, 0, xattrs))


WITHIN: dict[str, FileSystem] = {
    "depth": nested(MAX_DEPTH),
    "depth, long names": nested(MAX_DEPTH, b"n" * 64),
    "name": tree(InlineFile(b"x", 0o644), b"n" * MAX_NAME_BYTES),
    "target": tree(Symlink(b"t" * MAX_TARGET_BYTES, 0o777)),
    "attribute name": with_xattrs({b"user." + b"n" * (MAX_XATTR_NAME_BYTES - 5): b"v"}),
    "attribute value": with_xattrs({b"user.a": b"v" * MAX_XATTR_VALUE_BYTES}),
    "many attributes": with_xattrs({b"user.%03d" % n: b"v" for n in range(250)}),
    "file": tree(ExternalFile(ID, MAX_FILE_BYTES, 0o644)),
}

BEYOND: dict[str, tuple[FileSystem, str]] = {
    "depth": (nested(MAX_DEPTH + 1), f"/d/d.*{MAX_DEPTH}"),
    "depth, much": (nested(20_000), f"/d/d.*{MAX_DEPTH}"),
    "name": (tree(InlineFile(b"x", 0o644), b"n" * 256), "/where.*255"),
    "target": (tree(Symlink(b"t" * 4096, 0o777)), "/where/entry.*4095"),
    "attribute value": (with_xattrs({b"user.a": b"v" * 65536}), "/where/entry.*65535"),
    "file": (tree(ExternalFile(ID, MAX_FILE_BYTES + 1, 0o644)), f"/where/entry.*{MAX_FILE_BYTES}"),
}

FORMATS = [(version, dialect) for version in FormatVersion for dialect in Dialect]


@pytest.mark.parametrize(("version", "dialect"), FORMATS)
@pytest.mark.parametrize("name", WITHIN)
def test_an_image_of_what_is_within_limits_can_be_read(
    name: str, version: FormatVersion, dialect: Dialect
) -> None:
    if name == "target" and version is FormatVersion.V2:
        pytest.skip("a target of 4095 bytes may fit in no block of format 2")
    image = build_image(WITHIN[name], version, dialect)
    check_image(image, Algorithm.SHA256)
    assert build_image(read_image(image, Algorithm.SHA256), version, dialect) == image


@pytest.mark.parametrize(("version", "dialect"), FORMATS)
@pytest.mark.parametrize("name", BEYOND)
def test_an_image_of_what_is_beyond_is_refused_by_path_and_limit(
    name: str, version: FormatVersion, dialect: Dialect
) -> None:
    filesystem, message = BEYOND[name]
    with pytest.raises(FormatError, match=message) as caught:
        build_image(filesystem, version, dialect)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", WITHIN)
def test_a_dump_of_what_is_within_limits_can_be_read(name: str) -> None:
    if name == "attribute value":
        pytest.skip("the C tools count attributes in a dump, see the next test")
    text = b"".join(iter_dump(WITHIN[name]))
    for dialect in Dialect:
        assert b"".join(iter_dump(parse_dump(io.BytesIO(text), Algorithm.SHA256, dialect))) == text


def test_a_dump_with_the_largest_attribute_can_be_read() -> None:
    text = b"".join(iter_dump(WITHIN["attribute value"]))
    assert b"".join(iter_dump(parse_dump(io.BytesIO(text), Algorithm.SHA256))) == text


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 5000])
def test_a_dump_that_is_too_deep_is_refused(levels: int, dialect: Dialect) -> None:
    text = b"".join(iter_dump(nested(levels)))
    with pytest.raises(FormatError, match=rf"line {MAX_DEPTH + 2}, PATH: .*{MAX_DEPTH}"):
        parse_dump(io.BytesIO(text), Algorithm.SHA256, dialect)


@pytest.mark.parametrize("name", [name for name in WITHIN if name != "file"])
def test_a_commit_of_what_is_within_limits_can_be_read(name: str, tmp_path: Path) -> None:
    with make_repository(tmp_path / "repository") as repository:
        made = make_objects(WITHIN[name], repository.objects)
    commit = cast("Commit", SimpleNamespace(root_dirtree=made.root_dirtree, root_dirmeta=made.root_dirmeta))
    collected = InMemoryCommit(made.root_dirtree, commit, made.objects)
    assert b"".join(iter_dump(commit_to_filesystem(collected))) == b"".join(iter_dump(WITHIN[name]))


@pytest.mark.parametrize("name", [name for name in BEYOND if name != "file"])
def test_a_commit_of_what_is_beyond_is_refused(name: str, tmp_path: Path) -> None:
    filesystem, message = BEYOND[name]
    with (
        make_repository(tmp_path / "repository") as repository,
        pytest.raises(CfsError, match=message.replace("/where/entry", "/where.*entry")),
    ):
        make_objects(filesystem, repository.objects)


MARKS = {b"trusted.overlay.whiteout": b"", b"user.overlay.whiteout": b""}


def test_an_empty_file_that_a_reader_of_format_2_takes_for_a_whiteout_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filesystem = tree(InlineFile(b"", 0o644, 0, 0, 0, 0, MARKS))
    with pytest.raises(FormatError, match="/where/entry: an empty file with the attributes of a whiteout"):
        build_image(filesystem, FormatVersion.V2)
    # Images of the original's making may have it; they must not keep a collection from going on.
    filesystem.root.entries[b"f"] = ExternalFile(ID, 1000, 0o644)
    monkeypatch.setattr("cfsctl.erofs.write.inodes._MARKS", {b"nothing"})
    image = build_image(filesystem, FormatVersion.V2)
    with pytest.raises(FormatError, match="escaped whiteout"):
        check_image(image, Algorithm.SHA256)
    assert collect_objects(image, Algorithm.SHA256) == {ID}


@pytest.mark.parametrize("data", [b"", b"x"])
@pytest.mark.parametrize("version", FormatVersion)
def test_marks_of_whiteouts_elsewhere_are_attributes(version: FormatVersion, data: bytes) -> None:
    if version is FormatVersion.V2 and not data:
        pytest.skip("refused, see the test above")
    check_image(build_image(tree(InlineFile(data, 0o644, 0, 0, 0, 0, MARKS)), version), Algorithm.SHA256)


def test_images_beyond_the_limits_do_not_keep_a_collection_from_knowing_what_they_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filesystem = nested(MAX_DEPTH + 500)
    filesystem.root.entries[b"f"] = ExternalFile(ID, 1000, 0o644)
    monkeypatch.setattr("cfsctl.erofs.write.order.MAX_DEPTH", 1 << 20)
    image = build_image(filesystem, FormatVersion.V1)
    with pytest.raises(FormatError, match="depth"):
        read_image(image, Algorithm.SHA256)
    assert collect_objects(image, Algorithm.SHA256) == {ID}
