"""What `contrib` has for programs that build images: a script for mkosi and a stage for osbuild."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cfsctl
from tests.support.programs import CFSCTL

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
FINALIZE = ROOT / "contrib" / "mkosi" / "mkosi.finalize"
STAGE = ROOT / "contrib" / "osbuild" / "stages" / "org.osbuild.composefs"
IMAGE_ID = re.compile(r"sha(256|512):([0-9a-f]+)\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "root"
    (tree / "usr" / "lib").mkdir(parents=True)
    (tree / "usr" / "lib" / "library.so").write_bytes(bytes(50_000))
    return tree


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CFSCTL_")}
    return kept | {"PATH": f"{CFSCTL.parent}:{os.environ['PATH']}"} | variables


# mkosi


def finalize(verb: str, **variables: str) -> None:
    subprocess.run([FINALIZE, verb], check=True, timeout=60, env=environment(**variables))


def test_mkosi_script_makes_an_image(tree: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    finalize("final", BUILDROOT=str(tree), OUTPUTDIR=str(output), IMAGE_ID="system")
    found = IMAGE_ID.fullmatch((output / "composefs-image-id").read_text())
    assert found
    with cfsctl.Repository.open(output / "composefs") as repository:
        assert repository.images()["mkosi/system"].hex() == found[2]
        assert list(repository.diff("mkosi/system", f"dir:{tree}")) == []
    # The second build finds the repository, and what it is told about another one.
    finalize("final", BUILDROOT=str(tree), OUTPUTDIR=str(output), CFSCTL_REPO=str(output / "composefs"))
    with cfsctl.Repository.open(output / "composefs") as repository:
        assert sorted(repository.images()) == ["mkosi/image", "mkosi/system"]


def test_mkosi_script_sets_times_as_mkosi_will(tree: Path, tmp_path: Path) -> None:
    """mkosi does so after the script; what is older stays as old as it is."""
    old, new = tree / "usr" / "lib" / "library.so", tree / "usr" / "link"
    new.symlink_to("nowhere")
    os.utime(old, (1000, 1000))
    finalize("final", BUILDROOT=str(tree), OUTPUTDIR=str(tmp_path), SOURCE_DATE_EPOCH="86400")
    assert (old.stat().st_mtime, new.lstat().st_mtime, tree.stat().st_mtime) == (1000, 86400, 86400)
    with cfsctl.Repository.open(tmp_path / "composefs") as repository:
        assert list(repository.diff("mkosi/image", f"dir:{tree}")) == []


def test_mkosi_script_does_nothing_before_the_build(tree: Path, tmp_path: Path) -> None:
    finalize("build", BUILDROOT=str(tree), OUTPUTDIR=str(tmp_path))
    assert list(tmp_path.iterdir()) == [tree]


def test_mkosi_script_leaves_the_old_id_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "composefs-image-id").write_text("old")
    with pytest.raises(subprocess.CalledProcessError):
        finalize("final", BUILDROOT=str(tmp_path / "missing"), OUTPUTDIR=str(tmp_path))
    assert (tmp_path / "composefs-image-id").read_text() == "old"


MKOSI = """
import sys, types, pathlib, mkosi
script, root, output = map(pathlib.Path, sys.argv[1:])
config = types.SimpleNamespace(finalize_script=script, output_dir=output)
mkosi.run_finalize_script(types.SimpleNamespace(
    config=config, for_cache=False, do_run_build_script=False, environment={}, root=root
))
"""


@pytest.mark.compat
def test_mkosi_itself_runs_the_script(tree: Path, tmp_path: Path) -> None:
    """The package's own step, without what it would have to download before it."""
    probe = ["/usr/bin/python3", "-c", "import mkosi; mkosi.run_finalize_script; mkosi.MkosiState"]
    if subprocess.run(probe, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("mkosi 14 is not installed (package mkosi)")
    command = ["/usr/bin/python3", "-c", MKOSI, str(FINALIZE), str(tree), str(tmp_path)]
    subprocess.run(command, check=True, timeout=60, env=environment())
    assert IMAGE_ID.fullmatch((tmp_path / "composefs-image-id").read_text())


# osbuild


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], int]:
    """Load the stage, which without osbuild can do everything but ask for its arguments."""
    monkeypatch.setenv("PATH", environment()["PATH"])
    loader = importlib.machinery.SourceFileLoader("composefs_stage", str(STAGE))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    main: Callable[[dict[str, Any]], int] = module.main
    return main


def test_osbuild_stage_makes_an_image(
    stage: Callable[[dict[str, Any]], int], tree: Path, tmp_path: Path
) -> None:
    built = tmp_path / "built"
    built.mkdir()
    options = {
        "ref": "system",
        "repository": "/../store/composefs",
        "algorithm": "fsverity-sha256-12",
        "id-file": "image-id",
    }
    inputs = {"tree": {"path": str(tree)}, "other": {"path": str(tmp_path)}}
    assert stage({"tree": str(built), "inputs": inputs, "options": options}) == 0
    assert (built / "image-id").read_text().startswith("sha256:")
    with cfsctl.Repository.open(built / "store" / "composefs") as repository:
        assert list(repository.diff("image:system", f"dir:{tree}")) == []
    options = {"ref": "same", "repository": "store/composefs", "source": "input://other/root"}
    assert stage({"tree": str(built), "inputs": inputs, "options": options}) == 0
    with cfsctl.Repository.open(built / "store" / "composefs") as repository:
        assert repository.images()["same"] == repository.images()["system"]


def test_osbuild_stage_describes_the_options_that_it_reads() -> None:
    document = json.loads(STAGE.with_name(f"{STAGE.name}.meta.json").read_text())
    described = set(document["schema_2"]["options"]["properties"])
    source = STAGE.read_text()
    read = set(re.findall(r'options(?:"\])?(?:\.get\(|\[)["\']([a-z-]+)["\']|"(id-file)" in options', source))
    assert {one or other for one, other in read} == described
    assert document["schema_2"]["options"]["required"] == ["ref"]


@pytest.mark.compat
def test_osbuild_itself_accepts_the_stage() -> None:
    meta = pytest.importorskip("osbuild.meta", reason="osbuild is not installed")
    info = meta.ModuleInfo.load(str(STAGE.parents[1]), "Stage", STAGE.name)
    schema = meta.Schema(info.get_schema(version="2"), STAGE.name)
    assert schema.check().valid
    good = {
        "type": STAGE.name,
        "options": {"ref": "system", "source": "input://tree/"},
        "inputs": {"tree": {}},
    }
    assert schema.validate(good).valid
    assert not schema.validate(good | {"options": {}}).valid
    assert not schema.validate(good | {"options": {"ref": "x", "source": "/etc"}}).valid
