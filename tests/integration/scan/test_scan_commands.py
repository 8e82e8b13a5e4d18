"""The commands that scan, with a repository and its scan cache."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.app import main
from cfsctl.digest import Algorithm
from cfsctl.errors import ExitCode
from cfsctl.scan import FileCache, StaleCacheError, recorder, walker
from cfsctl.scan.cache import CACHE_NAME
from cfsctl.tree.transform import TransformError
from tests.support.repositories import make_repository
from tests.unit.scan.test_recorder import _is_trusted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., str]

FILES = 30


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run cfsctl in a directory with a tree and a repository, with a clock that makes the files look old."""
    if not _is_trusted(tmp_path):
        pytest.skip("the temporary directory's file system is none that the cache relies on")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    for index in range(FILES):
        (tmp_path / "tree" / "usr" / f"file{index}").write_bytes(os.urandom(100 + index))
    make_repository(tmp_path / "repo").close()
    real = time.time_ns
    monkeypatch.setattr(recorder, "time", SimpleNamespace(time_ns=lambda: real() + 10**10))

    def run_program(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["--repo", "repo", *arguments]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run_program


def _load() -> FileCache:
    return FileCache.load(os.open("repo", os.O_RDONLY), Algorithm.SHA512)


def _spoil() -> None:
    """Make the cache say something wrong of one file."""
    cache = _load()
    state, value = next(iter(cache.records.items()))
    cache.absorb(state + value[:-1] + bytes((value[-1] ^ 1,)))
    assert cache.save()


def test_second_image_reads_no_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("create-image", "tree", "name")
    assert len(_load().records) == FILES
    monkeypatch.setattr(walker.Walker, "_read_content", None)
    assert run("create-image", "tree", "again") == first
    assert run("compute-id", "tree") == first.removeprefix("sha512:")
    assert run("create-dumpfile", "tree").count("\n") == FILES + 2


def test_cache_is_no_part_of_the_repository(run: Run, tmp_path: Path) -> None:
    run("create-image", "tree", "name")
    before = (tmp_path / "repo" / CACHE_NAME).read_bytes()
    assert "status: ok" in run("fsck")
    assert run("gc").startswith("Objects: 0 removed")
    assert (tmp_path / "repo" / CACHE_NAME).read_bytes() == before


def test_objects_that_were_collected_are_stored_again(run: Run, tmp_path: Path) -> None:
    image = run("create-image", "tree")
    run("gc")
    objects = tmp_path / "repo" / "objects"
    assert list(objects.glob("*/*")) == []
    assert run("create-image", "tree", "name") == image
    assert len(list(objects.glob("*/*"))) == FILES + 1
    assert "status: ok" in run("fsck")


def test_cache_can_be_left_alone(run: Run, tmp_path: Path) -> None:
    image = run("create-image", "--no-cache", "tree")
    assert not (tmp_path / "repo" / CACHE_NAME).exists()
    assert run("create-image", "tree") == image
    _spoil()
    before = (tmp_path / "repo" / CACHE_NAME).read_bytes()
    wrong = run("compute-id", "tree")
    assert f"sha512:{wrong}" != image
    assert f"sha512:{run('compute-id', '--no-cache', 'tree')}" == image
    assert f"sha512:{run('--no-repo', 'compute-id', 'tree')}" == image
    assert (tmp_path / "repo" / CACHE_NAME).read_bytes() == before


@pytest.mark.parametrize("command", ["create-image", "compute-id", "create-dumpfile"])
def test_cache_can_be_verified(run: Run, command: str) -> None:
    image = run("create-image", "tree")
    assert run("create-image", "--verify-cache", "tree") == image
    _spoil()
    with pytest.raises(StaleCacheError, match=r"tree/usr/file.*the scan cache says") as caught:
        main(["--repo", "repo", command, "--verify-cache", "tree"])
    assert caught.value.exit_code is ExitCode.CORRUPTION


def test_damaged_cache_is_said_and_made_anew(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = run("create-image", "tree")
    path = tmp_path / "repo" / CACHE_NAME
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["--repo", "repo", "create-image", "tree"]) == 0
    printed = capsys.readouterr()
    assert printed.out == image
    assert printed.err.startswith("cfsctl: the scan cache is not used: expected ")
    assert len(_load().records) == FILES


def test_failed_scan_leaves_no_cache(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").write_bytes(bytes(100))
    with pytest.raises(TransformError, match='Directory entry "usr" does not exist'):
        run("create-image", "plain")
    assert not (tmp_path / "repo" / CACHE_NAME).exists()
