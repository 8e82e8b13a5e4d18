"""What several tests of pulling need."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.archives import unpack_archive
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.repository import Repository

VECTORS = Path(__file__).parents[2] / "vectors"


def unpack(archive: Path, target: Path) -> Path:
    with tarfile.open(archive) as tar:
        unpack_archive(tar, target)
    return target


@pytest.fixture(scope="session")
def fixture_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked repository that the real client made, and the IDs of its commits; not to be changed."""
    return unpack(VECTORS / "ostree/fixture/fixture.tar.xz", tmp_path_factory.mktemp("fixture"))


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "store") as repository:
        yield repository
