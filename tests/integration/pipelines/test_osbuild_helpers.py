"""The stand-in for the helpers of osbuild that run `ostree`."""

from __future__ import annotations

import importlib.util
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cfsctl
from tests.support.ostree_client import require_ostree, run_ostree

if TYPE_CHECKING:
    from types import ModuleType

HELPERS = Path(__file__).parents[3] / "contrib" / "osbuild" / "composefs_ostree.py"
REF = "os/stable"


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location("composefs_ostree", HELPERS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ostree(tmp_path: Path) -> Path:
    require_ostree()
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    (tmp_path / "tree" / "usr" / "file").write_bytes(b"x" * 5000)
    repository = tmp_path / "ostree"
    repository.mkdir()
    run_ostree(repository, "init", "--mode=archive")
    run_ostree(repository, "commit", f"--branch={REF}", f"--tree=dir={tmp_path / 'tree'}")
    return repository


def test_refs_name_the_same_commits_in_both(helpers: ModuleType, ostree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    commit = run_ostree(ostree, "rev-parse", REF).strip()
    helpers.pull_local(ostree, store, "", REF)
    assert helpers.rev_parse(store, REF) == helpers.rev_parse(os.fsencode(store), REF) == commit
    helpers.pull_local(ostree, store, "", commit)
    with cfsctl.Repository.open(store) as repository:
        assert list(repository.tags()) == [REF]
    with pytest.raises(RuntimeError, match="not found"):
        helpers.rev_parse(store, "nothing")


def test_refs_of_remotes(helpers: ModuleType, ostree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    helpers.pull_local(ostree, store, "vendor", REF)
    assert helpers.rev_parse(store, f"vendor:{REF}") == run_ostree(ostree, "rev-parse", REF).strip()
    with cfsctl.Repository.open(store) as repository:
        assert list(repository.tags()) == [f"vendor:{REF}"]


PROGRAM = """
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import composefs_ostree
with composefs_ostree.mounted("store", sys.argv[2], "mnt"):
    print(len(open("mnt/usr/file").read()))
"""


@pytest.mark.privileged
def test_trees_are_mounted(helpers: ModuleType, ostree: Path, tmp_path: Path) -> None:
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("mounting needs root and unshare")
    helpers.pull_local(ostree, tmp_path / "store", "vendor", REF)
    (tmp_path / "mnt").mkdir()
    apart = ["unshare", "--mount", "--propagation", "private"]
    command = [*apart, sys.executable, "-c", PROGRAM, str(HELPERS.parent), f"vendor:{REF}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("5000\n", "")


@pytest.mark.compat
def test_parameters_are_those_of_osbuild(helpers: ModuleType) -> None:
    original = pytest.importorskip("osbuild.util.ostree", reason="osbuild is not installed")
    for name in ("pull_local", "rev_parse"):
        ours, theirs = (inspect.signature(getattr(module, name)) for module in (helpers, original))
        assert list(ours.parameters) == list(theirs.parameters)
