"""A service, and repositories for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import cfsctl
from tests.support.varlink import running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.varlink import Client, Service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with service.connect() as connected:
        yield connected


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with an image of a small tree, built as an OCI image."""
    tree = tmp_path / "tree"
    (tree / "usr").mkdir(parents=True)
    (tree / "usr" / "large").write_bytes(b"large" * 100)
    path = tmp_path / "repository"
    with cfsctl.Repository.init(path, insecure=True, algorithm=cfsctl.Algorithm.SHA256) as made:
        made.oci.build(str(tree), "site", cfsctl.OciBuildOptions(source_date_s=1))
        made.create_image(tree, "plain")
    return path
