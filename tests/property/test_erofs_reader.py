"""Reading an image is the inverse of writing it, for any tree; damage has one outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfsctl.digest import Algorithm
from cfsctl.dumpfile import iter_dump
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.inspect import tree_objects
from cfsctl.erofs.read import tree as reader
from cfsctl.erofs.read.tree import check_image, collect_objects, find_algorithm, read_image
from cfsctl.erofs.write.image import build_image
from cfsctl.inspection.diff import Attribute, iter_differences
from tests.property.trees import filesystems

if TYPE_CHECKING:
    from cfsctl.tree.model import FileSystem


@settings(max_examples=70)
@given(made=filesystems(), version=st.sampled_from(FormatVersion))
def test_reader_of_writer_is_identity(made: tuple[FileSystem, Algorithm], version: FormatVersion) -> None:
    filesystem, algorithm = made
    image = bytes(build_image(filesystem, version))
    again = read_image(image, algorithm)
    ignored = {Attribute.MTIME} if version is FormatVersion.V2 else set()
    assert list(iter_differences(filesystem, again, ignored=ignored)) == []
    assert build_image(again, version) == image
    objects = collect_objects(image, algorithm)
    assert objects == tree_objects(filesystem) == check_image(image, algorithm)
    if objects:
        assert find_algorithm(image) is algorithm


@settings(max_examples=70)
@given(
    made=filesystems(),
    version=st.sampled_from(FormatVersion),
    damage=st.lists(st.tuples(st.integers(1024, 1 << 14), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damage_has_one_outcome(
    made: tuple[FileSystem, Algorithm], version: FormatVersion, damage: list[tuple[int, int]]
) -> None:
    filesystem, algorithm = made
    image = build_image(filesystem, version)
    for offset, byte in damage:
        image[offset % len(image)] = byte
    for read in (collect_objects, check_image):
        try:
            read(bytes(image), algorithm)
        except ErofsError:
            continue


def _read(image: bytes, algorithm: Algorithm) -> bytes:
    """Return the dump of the tree in an image, or nothing where it is refused."""
    try:
        return b"".join(iter_dump(read_image(image, algorithm)))
    except ErofsError:
        return b""


@settings(max_examples=150)
@given(
    made=filesystems(),
    version=st.sampled_from(FormatVersion),
    damage=st.lists(st.tuples(st.integers(1152, 1 << 13), st.integers(0, 255)), max_size=2),
)
def test_usual_records_are_read_as_if_they_were_not(
    made: tuple[FileSystem, Algorithm], version: FormatVersion, damage: list[tuple[int, int]]
) -> None:
    filesystem, algorithm = made
    data = build_image(filesystem, version)
    for offset, byte in damage:
        data[offset % len(data)] = byte
    image = bytes(data)
    quickly = _read(image, algorithm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "leaf_reader", lambda *_: lambda _nid, _kind: None)
        assert _read(image, algorithm) == quickly


@settings(max_examples=60)
@given(data=st.binary(max_size=5000))
def test_any_bytes_have_one_outcome(data: bytes) -> None:
    for read in (read_image, collect_objects, check_image):
        try:
            read(data, Algorithm.SHA256)
        except ErofsError:
            continue
