"""Commits of a libostree with composefs: the digest that it recorded is the one that we compute."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from cfsctl.digest import Algorithm
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.store.refs import open_commit
from cfsctl.ostree.tree.composefs_digest import Verdict, check_composefs_digest
from tests.compat.test_ostree_modes import make_tree
from tests.support.archives import unpack_archive
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import make_repository

VECTOR = Path(__file__).parents[2] / "vectors" / "ostree" / "composefs" / "repo.tar.xz"
ALGORITHMS = pytest.mark.parametrize("algorithm", list(Algorithm), ids=lambda one: one.hash_name)


def check(source: Path, ref: str, store: Path, algorithm: Algorithm) -> None:
    with make_repository(store, algorithm) as repository:
        result = pull(
            repository, LocalSource(str(source)), ref, PullOptions(workers=0, requires_composefs_digest=True)
        )
        found = check_composefs_digest(open_commit(repository, result.commit), repository.objects)
    assert found is not None
    assert found.verdict is Verdict.MATCHES
    assert found.recorded == found.computed


@ALGORITHMS
@pytest.mark.parametrize("ref", ["full", "empty"])
def test_recorded_digests_match(tmp_path: Path, algorithm: Algorithm, ref: str) -> None:
    with tarfile.open(VECTOR) as archive:
        unpack_archive(archive, tmp_path)
    check(tmp_path / "repo", ref, tmp_path / "store", algorithm)


@pytest.mark.compat
@ALGORITHMS
def test_the_client_records_the_same(tmp_path: Path, algorithm: Algorithm) -> None:
    require_ostree()
    version = subprocess.run(["ostree", "--version"], check=True, capture_output=True, text=True).stdout
    if " - composefs\n" not in version:
        pytest.skip("ostree is built without composefs")
    make_tree(tmp_path / "tree")
    run_ostree(tmp_path / "source", "init", "--mode=archive")
    run_ostree(
        tmp_path / "source",
        "commit",
        "--branch=main",
        "--generate-composefs-metadata",
        f"--tree=dir={tmp_path / 'tree'}",
    )
    check(tmp_path / "source", "main", tmp_path / "store", algorithm)
