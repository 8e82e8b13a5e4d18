"""SOURCE_DATE_EPOCH, by which builds are repeatable, wherever the clock would get into a result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.conftest import environment, run

if TYPE_CHECKING:
    from pathlib import Path


def commit(place: Path, epoch: str, *options: str) -> tuple[int, int | str]:
    """Commit; return the status and the commit's time, or the error."""
    words = ["ostree", "commit", "web", "--reference", "dated", "--json", *options]
    done = run(place, "--repo", "repo", *words, env={**environment(), "SOURCE_DATE_EPOCH": epoch})
    if done.returncode:
        return done.returncode, done.stderr
    log = run(place, "--repo", "repo", "ostree", "log", "--json", json.loads(done.stdout)["commit"])
    return 0, json.loads(log.stdout)["commits"][0]["timestamp"]


def test_commit_has_that_time(place: Path) -> None:
    assert commit(place, "86400") == (0, "1970-01-02T00:00:00Z")


def test_what_the_command_line_says_counts_more(place: Path) -> None:
    assert commit(place, "86400", "--timestamp=@5") == (0, "1970-01-01T00:00:05Z")


def test_empty_is_not_set(place: Path) -> None:
    assert str(commit(place, "")[1]) > "2023"


@pytest.mark.parametrize("text", ["-1", "now", "1.5", "٣", str(1 << 64)])
def test_what_is_no_time_is_refused(text: str, place: Path) -> None:
    status, error = commit(place, text)
    assert status == 2
    assert "SOURCE_DATE_EPOCH" in str(error)
