"""Recorded layouts, unpacked once; an image for several platforms; repositories with it and without."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from cfsctl import Repository
from tests.support.indexes import MultiImage, make_multi_image
from tests.support.oci import VECTORS, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory that has all recorded layouts and archives."""
    path = tmp_path_factory.mktemp("layouts")
    for archive in [*sorted((VECTORS / "layouts").iterdir()), *sorted(VECTORS.glob("*.tar.xz"))]:
        unpack(archive, path / "cases" if archive.name.startswith("cases") else path)
    return path


@pytest.fixture(scope="session")
def multi(tmp_path_factory: pytest.TempPathFactory) -> MultiImage:
    """Return an index of images for several platforms, in a layout that is not to be changed."""
    return make_multi_image(tmp_path_factory.mktemp("multi") / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Repository]:
    """Return an empty repository."""
    with Repository.init(tmp_path / "repo", insecure=True) as opened:
        yield opened


@pytest.fixture
def pulled(full: Path, tmp_path: Path) -> Iterator[Repository]:
    """Return a copy of the repository ``full`` of the module."""
    shutil.copytree(full, tmp_path / "pulled", symlinks=True)
    with Repository.open(tmp_path / "pulled") as opened:
        yield opened
