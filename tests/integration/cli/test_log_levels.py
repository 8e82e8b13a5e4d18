"""How much is said on standard error, with which time, and with which priority in the journal."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.fakes.faulty_server import FaultyServer, respond
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.integration.cli.conftest import environment
from tests.support.programs import CFSCTL, cfsctl, run_cfsctl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d) ")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyServer]:
    fake = FakeOstreeRepository()
    fake.commit({"usr": {"file": b"x" * 5000}}, "main")
    fake.write(tmp_path / "source")
    cfsctl("init", "--insecure", tmp_path / "r")
    with FaultyServer(tmp_path / "source") as server:
        yield server


def pull(tmp_path: Path, server: FaultyServer, *options: str, **variables: str) -> list[str]:
    """Return the lines on standard error of a pull that goes well."""
    url = server.url.replace("http://", "http://joe:hunter2@")
    done = run_cfsctl(
        *(f"--repo={tmp_path / 'r'}", *options, "ostree", "pull", url, "main"),
        env={**environment(), **variables},
    )
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ([], {}, ""),
        (["-v"], {}, "repository"),
        (["--log-level=info"], {}, "repository"),
        (["-vv"], {}, "repository request"),
        ([], {"CFSCTL_VERBOSE": "2"}, "repository request"),
        ([], {"CFSCTL_LOG_LEVEL": "debug"}, "repository request"),
        (["-vvvvv"], {}, "field repository request"),
        (["-v"], {"CFSCTL_LOG_LEVEL": "trace"}, "repository"),
        (["-q"], {"CFSCTL_VERBOSE": "2"}, ""),
        ([], {"CFSCTL_VERBOSE": "no"}, ""),
    ],
    ids=str,
)
def test_levels(
    tmp_path: Path,
    server: FaultyServer,
    options: list[str],
    variables: dict[str, str],
    expected: str,
) -> None:
    found = set()
    for line in pull(tmp_path, server, *options, **variables):
        if "images of format" in line:
            found.add("repository")
        if re.fullmatch(
            r"cfsctl: GET http://127\.0\.0\.1:\d+/objects/\S+: 200, \d+ bytes, \d+\.\d{3} s", line
        ):
            found.add("request")
        if line.startswith(("cfsctl: > User-Agent:", "cfsctl: < Content-Length:")):
            found.add("field")
    assert " ".join(sorted(found)) == expected


def test_contradictions(tmp_path: Path) -> None:
    for words in (["-q", "-v"], ["-q", "--log-level=info"], ["-v", "--log-level=info"]):
        done = run_cfsctl("--repo", tmp_path, *words, "images")
        assert done.returncode == 2
        assert "cannot be used together" in done.stderr
    assert run_cfsctl("--log-level=loud", "images").returncode == 2


def test_times(tmp_path: Path, server: FaultyServer) -> None:
    lines = pull(tmp_path, server, "-v", "--log-time")
    lines += run_cfsctl("--log-time", "--repo", tmp_path / "none", "images").stderr.splitlines()
    assert len(lines) >= 3
    for line in lines:
        match = TIME.match(line)
        assert match, line
        assert datetime.fromisoformat(match[1]).tzinfo


def in_journal(*arguments: str | Path) -> tuple[int, list[str]]:
    """Run a command whose standard error is what JOURNAL_STREAM names; return its lines there."""
    read_end, write_end = os.pipe()
    status = os.fstat(write_end)
    named = f"{status.st_dev}:{status.st_ino}"
    try:
        done = subprocess.run(
            [CFSCTL, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=write_end,
            env={**environment(), "JOURNAL_STREAM": named},
            check=False,
        )
    finally:
        os.close(write_end)
    with os.fdopen(read_end) as lines:
        return done.returncode, lines.read().splitlines()


def test_priorities_in_the_journal(tmp_path: Path, server: FaultyServer) -> None:
    store = ("--repo", tmp_path / "r")
    status, lines = in_journal("--repo", tmp_path / "none", "images")
    assert status == 10
    assert [line[:3] for line in lines] == ["<3>", "<3>"]
    _, lines = in_journal(*store, "-vvv", "ostree", "pull", server.url, "main")
    priorities = {line[:3] for line in lines}
    assert {"<5>", "<7>"} <= priorities <= {"<4>", "<5>", "<6>", "<7>"}
    _, lines = in_journal(*store, "--json", "untag", "nothing")
    assert json.loads(lines[0].removeprefix("<3>"))["exit_code"] == 17
    _, lines = in_journal(*store, "--progress=json", "fsck")
    assert {json.loads(line.removeprefix("<6>"))["event"] for line in lines} >= {"started", "done"}
    _, lines = in_journal("nonsense")
    assert {line[:3] for line in lines} == {"<3>"}


def test_not_the_journal(tmp_path: Path) -> None:
    for named in ("1:2", "nonsense", ""):
        env = {**environment(), "JOURNAL_STREAM": named}
        done = run_cfsctl("--repo", tmp_path / "none", "images", env=env)
        assert done.stderr.startswith("Error: ")


def test_retries_are_told(tmp_path: Path, server: FaultyServer) -> None:
    server.on("/refs/heads/main", respond(status=500))
    done = run_cfsctl("--repo", tmp_path / "r", "-vv", "ostree", "pull", server.url, "main", "--retries=1")
    assert done.returncode == 13
    assert len(re.findall(r"refs/heads/main: 500, ", done.stderr)) == 2
    assert len(re.findall(r"refs/heads/main: attempt 2 in ", done.stderr)) == 1
