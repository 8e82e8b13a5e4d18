"""A store that lost all but its names, repaired from a repository that `ostree` made and nginx serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cfsctl.repository import Repository
from cfsctl.repository.check.fsck import check_repository
from tests.support.nginx import run_nginx
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import make_repository, view

pytestmark = pytest.mark.compat

FILES = 60


def run(store: Path, *arguments: str) -> str:
    program = Path(sys.executable).parent / "cfsctl"
    done = subprocess.run(
        [str(program), "--repo", str(store), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


def write_tree(path: Path, generation: int) -> None:
    for number in range(FILES):
        directory = path / f"d{number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        content = f"{generation if number % 3 == 0 else 0} {number}\n".encode() * number * 9
        (directory / f"f{number}").write_bytes(content)
    if generation == 0:
        (path / "link").symlink_to("d0")
        os.setxattr(path / "d1/f1", "user.note", b"seen")


def objects_of(store: Path) -> dict[str, str]:
    """Return the objects, and all that leads to them, without the files that are no one's but ours."""
    return {
        path: what
        for path, what in view(store).items()
        if path.startswith(("objects/", "streams/", "images/"))
    }


@pytest.mark.parametrize("transport", ["URL", "configured remote", "directory", "file URL"])
def test_everything_comes_back(tmp_path: Path, transport: str) -> None:
    require_ostree()
    source, tree, store = tmp_path / "source", tmp_path / "tree", tmp_path / "store"
    run_ostree(source, "init", "--mode=archive")
    make_repository(store).close()
    for generation in range(2):
        write_tree(tree, generation)
        run_ostree(source, "commit", "-b", "main", f"--subject={generation}", str(tree))
        run(store, "ostree", "pull-local", str(source), "main")
    run(store, "ostree", "tag", "main", "kept")
    before = objects_of(store)
    for path in (store / "objects").glob("*/*"):
        path.unlink()

    (tmp_path / "nginx").mkdir()
    (tmp_path / "remotes").mkdir()
    with run_nginx(source, tmp_path / "nginx") as server:
        (tmp_path / "remotes/there.conf").write_text(
            f'[remote "there"]\nurl={server.url}\ngpg-verify=false\n'
        )
        place = {
            "URL": server.url,
            "configured remote": "there",
            "directory": str(source),
            "file URL": f"file://{source}",
        }[transport]
        arguments = ("fsck", "--repair", "--json", "--remotes", str(tmp_path / "remotes"), "--from", place)
        report = json.loads(run(store, *arguments))

    assert len(report["streams_restored"]) == 2
    assert report["lost"] == []
    assert objects_of(store) == before
    with Repository.open(str(store)) as repository:
        assert check_repository(repository, deep=True).findings == []
