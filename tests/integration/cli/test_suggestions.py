"""Names that are mistyped get a hint at those that there are."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from cfsctl.repository.names.names import suggest
from tests.integration.cli.conftest import run

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {
    "image-objects": (["image-objects", "wbe"], "web"),
    "dump-files": (["dump-files", "webb", "/usr"], "web"),
    "mount": (["mount", "we", "mountpoint"], "web"),
    "cat": (["cat", "refs/ostree/tset"], "refs/ostree/test"),
    "ostree inspect": (["ostree", "inspect", "tets"], "test"),
    "ostree untag": (["ostree", "untag", "tes"], "test"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_was_meant(name: str, place: Path) -> None:
    arguments, meant = COMMANDS[name]
    if meant != "web" and shutil.which("ostree") is None:
        pytest.skip("ostree is not installed (package ostree)")
    done = run(place, "--repo", "repo", *arguments)
    assert done.returncode == 17
    assert done.stderr.splitlines()[1] == f"Hint: did you mean {meant}?"


def test_nothing_alike(place: Path) -> None:
    done = run(place, "--repo", "repo", "image-objects", "xyzzy")
    assert done.stderr == "Error: image not found: xyzzy\nHint: list the images with `cfsctl images`\n"


def test_names_in_hints_are_escaped(place: Path) -> None:
    refs = place / "repo" / "images" / "refs"
    (refs / "web\x1b[31m").symlink_to(os.readlink(refs / "web"))
    (refs / "web").unlink()
    done = run(place, "--repo", "repo", "image-objects", "web[31m")
    assert "did you mean web\\x1b[31m?" in done.stderr
    assert "\x1b" not in done.stderr


def test_best_come_first_and_not_too_many() -> None:
    assert suggest("web", ["wab", "webs", "other"]) == "did you mean webs or wab?"
    assert suggest("web", ["webs", "web1", "web2", "web3"]) in {
        "did you mean webs or web3?",
        "did you mean webs or web2?",
    }
    assert suggest("web", []) is None


def test_long_names_are_not_compared() -> None:
    assert suggest("x" * 301, ["x" * 300]) is None
    assert suggest("x" * 299, ["x" * 301, "x" * 298]) == f"did you mean {'x' * 298}?"
