"""`--metrics-file`: what node_exporter reads after a run, whether it went well or not."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.metrics import iter_lines
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.programs import CFSCTL, cfsctl, run_cfsctl
from tests.support.repositories import flip_bit

if TYPE_CHECKING:
    from pathlib import Path

LINE = re.compile(r'(cfsctl_[a-z_]+)\{command="([^"]+)",repository="((?:[^"\\]|\\.)*)"\} (\d+(?:\.\d+)?)')


def read(path: Path) -> dict[str, float]:
    """Return the measurements of a file, which must be as Prometheus has it."""
    found = {}
    lines = path.read_text().splitlines()
    for help_line, type_line, line in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        match = LINE.fullmatch(line)
        assert match, line
        assert help_line.startswith(f"# HELP {match[1]} ")
        assert type_line == f"# TYPE {match[1]} gauge"
        found[match[1].removeprefix("cfsctl_")] = float(match[4])
    return found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"content" * 1000)
    cfsctl("init", "--insecure", tmp_path / "r")
    cfsctl("--repo", tmp_path / "r", "create-image", "--no-propagate-usr-to-root", tmp_path / "tree", "im")
    return tmp_path


def test_what_commands_measure(store: Path) -> None:
    out, repo = store / "out.prom", ("--repo", store / "r")
    before = time.time()
    cfsctl(*repo, "gc", "--metrics-file", out)
    found = read(out)
    assert (found["last_run_exit_status"], found["objects_removed"], found["objects_kept"]) == (0, 0, 2)
    assert before - 1 <= found["last_run_timestamp_seconds"] <= time.time() + 1
    assert found["last_success_timestamp_seconds"] == found["last_run_timestamp_seconds"]
    cfsctl(*repo, "fsck", "--metrics-file", out)
    found = read(out)
    assert (found["errors"], found["objects_checked"]) == (0, 2)
    fake = FakeOstreeRepository()
    fake.commit({"usr": {"file": b"x" * 5000}}, "main")
    fake.write(store / "source")
    cfsctl(*repo, "ostree", "pull-local", store / "source", "main", "--metrics-file", out)
    found = read(out)
    assert found["commits"] == 1
    assert found["objects_stored"] > 0
    assert found["stored_bytes"] >= 5000
    assert sorted(os.listdir(store)) == ["out.prom", "r", "source", "tree"]


def test_failure_keeps_the_time_of_the_last_success(store: Path) -> None:
    out, repo = store / "out.prom", ("--repo", store / "r")
    cfsctl(*repo, "fsck", "--metrics-file", out)
    good = read(out)["last_success_timestamp_seconds"]
    flip_bit((store / "r" / "images" / "refs" / "im").resolve(), 1024)
    assert run_cfsctl(*repo, "fsck", "--metrics-file", out).returncode == 15
    found = read(out)
    assert (found["last_run_exit_status"], found["last_success_timestamp_seconds"]) == (15, good)
    assert found["errors"] > 0
    # Another command, or repository, has another last success.
    assert run_cfsctl("--repo", store / "none", "gc", "--metrics-file", out).returncode == 10
    found = read(out)
    assert found["last_run_exit_status"] == 10
    assert "last_success_timestamp_seconds" not in found


def test_signal_is_a_failure(store: Path) -> None:
    out = store / "out.prom"
    program = 'trap "" INT; exec 9<"$1"; flock 9; echo locked; read line'
    holder = ["bash", "-c", program, "bash", str(store / "r")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as locked:
        assert locked.stdout is not None
        assert locked.stdout.readline() == "locked\n"
        command = [str(CFSCTL), "--progress=plain", f"--repo={store / 'r'}", "gc", f"--metrics-file={out}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
            assert waiting.stderr is not None
            assert "lock" in waiting.stderr.readline()
            waiting.send_signal(signal.SIGTERM)
            assert waiting.wait(240) == 143
        locked.communicate("\n", timeout=240)
    assert read(out)["last_run_exit_status"] == 143


def test_file_that_cannot_be_written(store: Path) -> None:
    repo = ("--repo", store / "r")
    os.mkfifo(store / "fifo")
    (store / "stdout").symlink_to("/proc/self/fd/1")
    for place in (store, store / "none" / "out.prom", "", store / "fifo", store / "stdout"):
        done = run_cfsctl(*repo, "gc", "--metrics-file", place)
        assert done.returncode == 2
        assert "expected a file in a directory that exists" in done.stderr
    (store / "link").symlink_to("r/meta.json")
    cfsctl(*repo, "gc", "--metrics-file", store / "link")
    assert not (store / "link").is_symlink()
    cfsctl(*repo, "fsck")


def test_exporter_of_another_user_may_read_it(store: Path) -> None:
    out = store / "out.prom"
    script = 'umask 077 && exec "$@"'
    command = [str(CFSCTL), f"--repo={store / 'r'}", "gc", f"--metrics-file={out}"]
    subprocess.run(["sh", "-c", script, "sh", *command], check=True, capture_output=True)
    assert stat.S_IMODE(out.stat().st_mode) == 0o644


def test_names_are_data() -> None:
    *_, last = iter_lines({"errors": 0}, {"repository": '/a"b\\c\nd\udcff'})
    assert last.rstrip("\n") == 'cfsctl_errors{repository="/a\\"b\\\\c\\nd\ufffd"} 0'
