"""Recorded layouts, unpacked once, and empty repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.oci import VECTORS, unpack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory that has all recorded layouts and archives."""
    path = tmp_path_factory.mktemp("layouts")
    for archive in [*sorted((VECTORS / "layouts").iterdir()), *sorted(VECTORS.glob("*.tar.xz"))]:
        unpack(archive, path / "cases" if archive.name.startswith("cases") else path)
    return path
