"""``oci prepare-boot`` writes what recorded runs of the original have written."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.boot import files_below, run_here, set_up

VECTORS = Path(__file__).parents[2] / "vectors" / "boot"
ROWS: list[dict[str, Any]] = json.loads((VECTORS / "prepare-boot.json").read_text())


@cache
def layer_of(tree: str) -> bytes:
    """Return a recorded tree as a layer, with the IDs and whole seconds that the recorded runs had."""
    source = io.BytesIO(lzma.decompress((VECTORS / "trees" / f"{tree}.tar.xz").read_bytes()))
    target = io.BytesIO()
    with tarfile.open(fileobj=source) as old, tarfile.open(fileobj=target, mode="w") as new:
        for member in old:
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = int(member.mtime)
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
    return target.getvalue()


def state_dirs(work: Path) -> list[str]:
    state = work / "state"
    return sorted(str(path.relative_to(work)) for path in state.rglob("*")) if state.exists() else []


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401 - a cached function
    @cache
    def make(tree: str, version: str) -> Path:
        work = tmp_path_factory.mktemp(f"{tree}-{version}")
        set_up(work, version, layer_of(tree))
        return work

    return make


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['tree']}-{row['format']}-{' '.join(row['arguments'])}"
)
def test_recorded_run(stores: Any, row: dict[str, Any], tmp_path: Path) -> None:  # noqa: ANN401 - see there
    work = stores(row["tree"], row["format"][1:])
    bootdir = tmp_path / "boot"
    state = tmp_path / "root"
    state.mkdir()
    done = run_here(
        "--repo",
        work / "repo",
        "oci",
        "prepare-boot",
        "img",
        "--bootdir",
        bootdir,
        "--stateroot",
        state,
        *row["arguments"],
    )
    assert (done.returncode != 0) == (row["status"] != 0), done.stderr
    assert done.stdout == row["stdout"]
    assert row["stderr"].removeprefix("Error: ").split(" (is ")[0] in done.stderr
    found = files_below(bootdir) if bootdir.exists() else {}
    assert {name: describe(content, row["files"].get(name, {})) for name, content in found.items()} == row[
        "files"
    ]
    assert state_dirs(state) == row["state_dirs"]


def describe(content: bytes, like: dict[str, Any]) -> dict[str, Any]:
    if "text" in like:
        return {"text": content.decode()}
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
