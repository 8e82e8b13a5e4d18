"""What comes from a pipe in place of an image ends early."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.tree.model import Directory, FileSystem
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = bytes(build_image(FileSystem(Directory(0o755)), FormatVersion.V1))


@pytest.mark.parametrize("start", [b"", IMAGE], ids=["zeros", "an image and zeros"])
def test_endless_input_is_refused_and_leaves_nothing(tmp_path: Path, start: bytes) -> None:
    read = 0

    def chunks() -> Iterator[bytes]:
        return itertools.chain([start] if start else [], count())

    def count() -> Iterator[bytes]:
        nonlocal read
        for _ in itertools.count():
            read += 1
            yield bytes(1 << 16)

    with make_repository(tmp_path / "repository") as repository, pytest.raises(ErofsError):
        repository.images.import_image(chunks(), "ref")
    assert read < 3
    assert not [path for path in (tmp_path / "repository/objects").rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [1, 100, 1152, 5000])
def test_an_image_in_pieces_of_any_size_is_taken(tmp_path: Path, size: int) -> None:
    pieces = (IMAGE[place : place + size] for place in range(0, len(IMAGE), size))
    with make_repository(tmp_path / "repository") as repository:
        stored = repository.images.import_image(pieces, "ref")
        assert repository.objects.read(stored.object_id) == IMAGE
