"""The lock of an OSTree repository, shared with what the real client does there."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from cfsctl.ostree.pull.pull import pull
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.sources.local_lock import RepositoryInUseError
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.compat


@pytest.fixture
def source(tmp_path: Path) -> Path:
    require_ostree()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"content" * 50)
    run_ostree(tmp_path / "source", "init", "--mode=archive")
    run_ostree(tmp_path / "source", "config", "set", "core.lock-timeout-secs", "0")
    run_ostree(tmp_path / "source", "commit", "--branch=main", f"--tree=dir={tmp_path / 'tree'}")
    return tmp_path / "source"


@pytest.fixture
def pruning(source: Path) -> Iterator[int]:
    """Hold the lock as a prune does."""
    fd = os.open(source / ".lock", os.O_RDWR)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    yield fd
    os.close(fd)


def test_nobody_prunes_what_is_open(source: Path) -> None:
    opened = LocalSource(str(source))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_ostree(source, "prune")
    assert "exclusive" in caught.value.stderr
    opened.resolve_ref("main")
    opened.close()
    run_ostree(source, "prune")
    opened.resolve_ref("main")  # opens it, and shares the lock, again
    with pytest.raises(subprocess.CalledProcessError):
        run_ostree(source, "prune")
    run_ostree(source, "commit", "--branch=other", "--tree=ref=main")  # others may write
    opened.close()


def test_nothing_is_pulled_from_what_is_being_pruned(source: Path, pruning: int, tmp_path: Path) -> None:
    assert pruning >= 0
    with pytest.raises(RepositoryInUseError, match="found it locked by another process for 0 s") as caught:
        LocalSource(str(source))
    assert caught.value.exit_code == 11
    run_ostree(tmp_path / "child", "init", "--mode=archive")
    run_ostree(tmp_path / "child", "config", "set", "core.parent", str(source))
    with pytest.raises(RepositoryInUseError):
        LocalSource(str(tmp_path / "child"))


@pytest.mark.parametrize("without", ["locking", "file"])
def test_where_there_is_no_lock(source: Path, pruning: int, tmp_path: Path, without: str) -> None:
    assert pruning >= 0
    if without == "file":
        (source / ".lock").unlink()
    else:
        (source / "config").write_text((source / "config").read_text() + "locking=false\n")
    with make_repository(tmp_path / "store") as repository:
        assert pull(repository, LocalSource(str(source)), "main").stored_objects == 1
