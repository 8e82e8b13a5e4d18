"""A script that cron runs and a pipeline in Python, as users write them, also when things go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cfsctl
from tests.integration.pipelines.test_builders import environment
from tests.support.ostree_client import require_ostree, run_ostree

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    (tmp_path / "tree" / "usr" / "file").write_bytes(b"x" * 5000)
    return tmp_path / "tree"


@pytest.fixture
def served(tmp_path: Path, tree: Path) -> Path:
    require_ostree()
    repository = tmp_path / "ostree"
    repository.mkdir()
    run_ostree(repository, "init", "--mode=archive")
    for ref in ("os/stable", "os/testing"):
        run_ostree(repository, "commit", f"--branch={ref}", "--timestamp=2024-01-01", f"--tree=dir={tree}")
    return repository


@pytest.fixture
def url(served: Path) -> Iterator[str]:
    """Serve the repository from a process of its own, so that this one has no thread."""
    program = (
        "import sys; from http.server import *; from functools import partial\n"
        "handler = partial(SimpleHTTPRequestHandler, directory=sys.argv[1])\n"
        "server = ThreadingHTTPServer(('127.0.0.1', 0), handler)\n"
        "print(server.server_port, flush=True); server.serve_forever()"
    )
    command = [sys.executable, "-c", program, str(served)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


def nightly(store: Path, url: str, *refs: str, **variables: str) -> tuple[int, list[str]]:
    """Run the script as cron does: hardly any environment, no terminal, another directory."""
    wanted = {"PATH": environment()["PATH"], "HOME": "/", "LANG": "C"} | variables
    done = subprocess.run(
        ["/bin/sh", HERE / "nightly.sh", store, url, *refs],
        cwd="/",
        env=wanted,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout.splitlines()


def test_a_nightly_run(served: Path, tree: Path, tmp_path: Path, url: str) -> None:
    store = tmp_path / "store"
    status, lines = nightly(store, url, "os/stable", "os/testing")
    assert status == 0
    assert [line.split()[0] for line in lines] == ["os/stable", "os/testing"]
    assert nightly(store, url, "os/stable", "os/testing") == (0, lines)

    (tree / "usr" / "file").write_bytes(b"y" * 5000)
    run_ostree(served, "commit", "--branch=os/stable", "--timestamp=2024-02-01", f"--tree=dir={tree}")
    status, after = nightly(store, url, "os/stable", "os/testing")
    assert status == 0
    assert after[0] != lines[0]
    assert after[1] == lines[1]
    with cfsctl.Repository.open(store) as repository:
        assert list(repository.tags()) == ["good/os/stable", "good/os/testing", "os/stable", "os/testing"]
        assert repository.gc(dry_run=True).objects_removed == 0
        assert repository.fsck(deep=True).is_ok


def test_a_nightly_run_goes_on_after_a_ref_that_is_missing(url: str, tmp_path: Path) -> None:
    status, lines = nightly(tmp_path / "store", url, "os/none", "os/stable")
    assert status == 1
    assert lines[0] == "os/none failed 17 after 1"
    assert lines[1].startswith("os/stable ")


def test_a_nightly_run_without_network_keeps_what_is_there(url: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    nightly(store, url, "os/stable")
    assert nightly(store, "http://127.0.0.1:9", "os/stable") == (1, ["os/stable failed 13 after 2"])
    with cfsctl.Repository.open(store) as repository:
        assert list(repository.tags()) == ["good/os/stable", "os/stable"]


def test_a_nightly_run_puts_collection_off_while_the_repository_is_in_use(url: str, tmp_path: Path) -> None:
    with cfsctl.Repository.init(tmp_path / "store", insecure=True):
        status, lines = nightly(tmp_path / "store", url, "os/stable", LOCK_TIMEOUT="0.2")
    assert status == 0
    assert lines[1:] == ["gc put off"]


def release(store: Path, tree: Path, budget_s: float = 100) -> tuple[int, Any]:
    command = [sys.executable, str(HERE / "release.py"), str(store), str(tree), str(budget_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def test_releases(tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    status, first = release(store, tree)
    assert (status, first["release"], first["sound"]) == (0, "release/0001", True)
    assert release(store, tree) == (0, {"release": "release/0001", "is_new": False})
    for number in range(2, 6):
        (tree / "usr" / "file").write_bytes(b"%d" % number * 5000)
        status, document = release(store, tree)
        assert (status, document["release"], document["sound"]) == (0, f"release/{number:04}", True)
        assert document["changes"] > 0
        assert document["removed"] == (2 if number > 3 else 0)
    with cfsctl.Repository.open(store) as repository:
        assert list(repository.images()) == ["release/0003", "release/0004", "release/0005"]


def test_a_release_that_takes_too_long_changes_nothing(tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    release(store, tree)
    (tree / "usr" / "file").write_bytes(b"new" * 5000)
    status, text = release(store, tree, 0)
    assert status == cfsctl.ExitCode.ERROR
    assert text.startswith("over budget at Started")
    with cfsctl.Repository.open(store) as repository:
        assert list(repository.images()) == ["release/0001"]


def test_a_release_where_something_else_is(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "meta.json").write_text("{")
    status, text = release(tmp_path / "store", tree)
    assert status != 0
    assert "meta.json" in text
    assert "Traceback" not in text
