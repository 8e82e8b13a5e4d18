"""Pulls over HTTP that are killed at random points, and go on from there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cfsctl.repository import Repository
from cfsctl.repository.check.fsck import check_repository
from tests.fakes.ostree_repository import FakeOstreeRepository, Tree
from tests.support.nginx import Nginx, run_nginx
from tests.support.repositories import make_repository

pytestmark = pytest.mark.compat

DIRECTORIES, FILES = 40, 75
KILLS = 6
IN_FLIGHT = 320
"""Requests that may be under way when a pull is killed, of all its processes together."""


def make_source(path: Path) -> int:
    """Write a repository of small files; return how many objects it has."""
    chooser = random.Random(7)
    tree: Tree = {
        f"d{number}": {
            f"f{file}": chooser.randbytes(chooser.choice((20, 100, 300, 3000))) for file in range(FILES)
        }
        for number in range(DIRECTORIES)
    }
    fake = FakeOstreeRepository()
    fake.commit(tree, "main")
    fake.write(path)
    return len(fake.objects)


def start_pull(store: Path, url: str) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).parent / "cfsctl"
    return subprocess.Popen(
        [str(program), "--repo", str(store), "ostree", "pull", "--no-delta", url, "main"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def count_objects(server: Nginx) -> int:
    return sum(1 for _, status, path in server.read_requests() if "/objects/" in path and status != 404)


def wait_for(server: Nginx, number: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while count_objects(server) < number and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("whole_group", [True, False], ids=["every process", "parent only"])
def test_nothing_verified_is_fetched_twice(tmp_path: Path, *, whole_group: bool) -> None:
    total = make_source(tmp_path / "source")
    make_repository(tmp_path / "store").close()
    (tmp_path / "nginx").mkdir()
    chooser = random.Random(3)
    with run_nginx(tmp_path / "source", tmp_path / "nginx") as server:
        for _ in range(KILLS):
            process = start_pull(tmp_path / "store", server.url)
            wait_for(server, count_objects(server) + chooser.randrange(1, total // KILLS), process)
            if whole_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.communicate()
        killed = count_objects(server)
        process = start_pull(tmp_path / "store", server.url)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        requests = count_objects(server)
    fetched = sum(int(word) for word in out.splitlines()[-1].split() if word.isdigit())
    assert fetched <= requests - killed + 1
    assert total <= requests <= total + KILLS * IN_FLIGHT
    assert requests - killed <= total - killed + KILLS * IN_FLIGHT
    assert not list((tmp_path / "store").glob(".cfsctl-pull-*"))
    with Repository.open(str(tmp_path / "store")) as repository:
        assert check_repository(repository).is_ok
