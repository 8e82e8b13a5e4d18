"""What a program finds: a repository, a tree, and an OSTree repository on disk and on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import cfsctl
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.web import serve_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REF = "some/ref"
FILES = 60


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[cfsctl.Repository]:
    with cfsctl.Repository.init(tmp_path / "store", insecure=True) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Lay out a tree with more large files than are scanned or fetched in one go."""
    tree = tmp_path / "tree"
    (tree / "usr" / "share").mkdir(parents=True)
    for number in range(FILES):
        (tree / "usr" / "share" / str(number)).write_bytes(b"%d\n" % number * 30_000)
    return tree


@pytest.fixture
def ostree(tmp_path: Path, tree: Path) -> Path:
    """Make an archive repository with one commit of the tree."""
    require_ostree()
    repository = tmp_path / "ostree"
    repository.mkdir()
    run_ostree(repository, "init", "--mode=archive")
    run_ostree(repository, "commit", f"--branch={REF}", "--timestamp=2024-01-01", f"--tree=dir={tree}")
    run_ostree(repository, "summary", "-u")
    return repository


@pytest.fixture
def url(ostree: Path) -> Iterator[str]:
    """Serve that repository."""
    with serve_directory(ostree) as url:
        yield url
