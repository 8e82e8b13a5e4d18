"""Progress as people, logs and programs see it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli import progress_views
from cfsctl.progress import Advanced, Done, Event, Message, Skipped, Started, Unit
from tests.integration.cli.conftest import environment, run
from tests.support import schemas
from tests.support.ostree_client import require_ostree
from tests.support.programs import CFSCTL

if TYPE_CHECKING:
    from pathlib import Path

WORK: dict[str, tuple[list[str], set[str]]] = {
    "create-image": (["create-image", "tree"], {"scan"}),
    "compute-id": (["compute-id", "tree"], {"scan"}),
    "fsck": (["fsck"], {"fsck"}),
    "fsck --repair": (["fsck", "--repair"], {"fsck"}),
    "gc": (["gc"], {"mark"}),
    "copy": (["copy", "web", "target"], {"copy"}),
}
COMMITS: dict[str, tuple[list[str], set[str]]] = {
    "pull-local": (["ostree", "pull-local", "new-repo", "other"], {"metadata", "files"}),
    "export": (["ostree", "export", "test", "ostree-repo"], {"export"}),
    "commit": (["ostree", "commit", "web"], {"tree"}),
    "copy": (["copy", "test", "target"], {"copy"}),
}


def events_of(place: Path, *arguments: str) -> list[dict[str, object]]:
    """Run a command with --progress-fd and return what it wrote there; standard error stays empty."""
    read_end, write_end = os.pipe()
    try:
        done = run(place, "--repo", "repo", "--progress-fd", str(write_end), *arguments, pass_fds=[write_end])
    finally:
        os.close(write_end)
    with os.fdopen(read_end) as lines:
        events = [json.loads(line) for line in lines]
    assert (done.returncode, done.stderr) == (0, "")
    for event in events:
        schemas.check(event, "progress")
    return events


def check_course(events: list[dict[str, object]], expected: set[str]) -> None:
    """Every work begins, goes forward, and ends."""
    standing: dict[object, int] = {}
    ended = set()
    for event in events:
        match event["event"]:
            case "started":
                standing[event["id"]] = 0
            case "advanced":
                assert standing[event["id"]] <= int(str(event["done"]))
                standing[event["id"]] = int(str(event["done"]))
            case "done":
                ended.add(event["id"])
            case other:
                assert other in {"skipped", "message"}
    assert ended == set(standing) >= expected


@pytest.mark.parametrize("name", WORK)
def test_programs_follow(name: str, place: Path) -> None:
    arguments, expected = WORK[name]
    check_course(events_of(place, *arguments), expected)


@pytest.mark.parametrize("name", COMMITS)
def test_programs_follow_work_on_commits(name: str, place: Path) -> None:
    require_ostree()
    subprocess.run(["cp", "-a", "ostree-repo", "new-repo"], cwd=place, check=True)
    (place / "tree" / "usr" / "more").write_text("more\n" * 5000)
    command = ["ostree", "--repo=new-repo", "commit", "--branch=other", "--tree=dir=tree"]
    subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
    arguments, expected = COMMITS[name]
    check_course(events_of(place, *arguments), expected)


def test_json_lines_on_standard_error(place: Path) -> None:
    done = run(place, "--repo", "repo", "--progress=json", "fsck")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[0] == {
        "schema_version": 1,
        "event": "started",
        "id": "fsck",
        "total": lines[0]["total"],
        "unit": "items",
    }
    assert lines[-1]["event"] == "done"
    assert "ok" in done.stdout


@pytest.mark.parametrize("words", [["-q"], ["--progress=none"], ["--json"], []])
def test_short_work_says_nothing(words: list[str], place: Path) -> None:
    assert run(place, "--repo", "repo", *words, "fsck").stderr == ""


def test_quiet_leaves_the_descriptor_alone(place: Path) -> None:
    check_course(events_of(place, "-q", "fsck"), {"fsck"})


@pytest.mark.parametrize("number", ["77", "-1", "x", "99999999999999999999"])
def test_descriptor_that_is_not_open(number: str, place: Path) -> None:
    done = run(place, "--repo", "repo", f"--progress-fd={number}", "fsck")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--progress-fd" in done.stderr


def test_descriptor_for_reading(place: Path) -> None:
    with (place / "web.img").open() as file:
        number = file.fileno()
        done = run(place, "--repo", "repo", f"--progress-fd={number}", "fsck", pass_fds=[number])
    assert done.returncode == 2
    assert "open for writing" in done.stderr


def test_reader_who_goes_away_is_not_missed(place: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        number = str(write_end)
        done = run(place, "--repo", "repo", "--progress-fd", number, "fsck", pass_fds=[write_end])
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


def test_reader_who_does_not_read_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that do not fit are left out; those that are there are whole."""
    monkeypatch.setattr(progress_views, "_PATIENCE_MS", 1)
    monkeypatch.setattr(progress_views, "_JSON_INTERVAL_S", 0)
    read_end, write_end = os.pipe()
    show = progress_views.JsonLines(write_end)
    for index in range(5000):
        show(Advanced("x", index, None))
    show(Message("m" * 10_000))
    os.close(write_end)
    with os.fdopen(read_end) as lines:
        numbers = [json.loads(line)["done"] for line in lines]
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) < 5000


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now_s)


def test_a_plain_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    lines: list[str] = []
    show = progress_views.Lines(lines.append)
    show(Started("files", 1000, Unit.ITEMS))
    show(Skipped("other"))
    for index in range(11):
        show(Advanced("files", 50 * index, 1000, 123_000 * index))
        clock.now_s += 1
    show(Done("files", 1000))
    assert lines == [
        "files: 250 of 1,000 (25 %), 615 kB, 50/s, 15 s left",
        "files: 500 of 1,000 (50 %), 1.23 MB, 50/s, 10 s left",
        "files: 1,000, done in 11 s",
    ]


def test_plain_lines_about_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    lines: list[str] = []
    show = progress_views.Lines(lines.append)
    show(Started("a\x1b[31m", None, Unit.BYTES))
    clock.now_s += 4000
    show(Advanced("a\x1b[31m", 8_000_000_000_000, None))
    show(Done("a\x1b[31m", 8_000_000_000_000))
    assert lines == [
        "a\\x1b[31m: 8 TB, 2 GB/s",
        "a\\x1b[31m: 8 TB, done in 1 h 6 min",
    ]


def watch_terminal(events: list[Event], pause_s: float) -> str:
    """Show events on a pseudo-terminal, in a process of their own; return all it was sent.

    Args:
        events: What happens.
        pause_s: Time between two of them by the clock of that process, which stands still otherwise.
    """
    script = f"""
import time
now = 100.0
time.time = time.monotonic = lambda: now
from cfsctl.cli.progress import Progress, ProgressMode
from cfsctl.progress import *
events = {[(type(event).__name__, tuple(event)) for event in events]!r}
show = Progress(ProgressMode.AUTO)
for name, fields in events:
    event = globals()[name](*fields)
    show(event)
    now += {pause_s}
show.close()
"""
    script = script.replace("<Unit.ITEMS: 'items'>", "Unit.ITEMS")
    master, slave = pty.openpty()
    python = CFSCTL.parent / "python"
    process = subprocess.Popen(
        [python, "-c", script], stderr=slave, env={**environment(), "TERM": "xterm", "COLUMNS": "80"}
    )
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 4096):
            seen += chunk
    except OSError:  # how a pseudo-terminal ends
        pass
    os.close(master)
    assert process.wait() == 0
    return seen.decode()


def test_bars_on_a_terminal() -> None:
    course: list[Event] = [Started("files", 10, Unit.ITEMS)]
    course += [Advanced("files", done, 10, 1000 * done) for done in range(1, 10)]
    course += [Message("a\x1b[31mb"), Advanced("files", 9, 10, 9000)]
    seen = watch_terminal(course, 0.15)
    assert "files:" in seen
    assert "9/10" in seen
    assert "9 kB" in seen
    assert "cfsctl: a\\x1b[31mb" in seen
    assert seen.rstrip("\r\n ").endswith("\x1b[A") or seen.rsplit("\r", 1)[-1].strip() == ""


def test_short_work_draws_no_bar() -> None:
    course: list[Event] = [Started("files", 10, Unit.ITEMS)]
    course += [Advanced("files", done, 10) for done in range(10)]
    assert watch_terminal([*course, Done("files", 10)], 0) == ""


def test_a_terminal_that_can_do_nothing_gets_lines(place: Path) -> None:
    master, slave = pty.openpty()
    environ = {**environment(), "TERM": "dumb"}
    done = run(place, "--repo", "repo", "--progress=auto", "fsck", stderr=slave, env=environ)
    os.close(slave)
    with pytest.raises(OSError, match="Input/output error"):  # nothing was written
        os.read(master, 1)
    os.close(master)
    assert done.returncode == 0
