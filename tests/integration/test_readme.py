"""The readme as an index of packages shows it, and the demonstration that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from hatch_build import without_relative_links

ROOT = Path(__file__).parents[2]


def test_links_of_the_readme_work_on_an_index_page() -> None:
    text = without_relative_links((ROOT / "README.md").read_text())
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert targets
    assert all(target.startswith("https://") for target in targets)
    assert "Installation (`docs/how-to/install.md`)" in text
    assert "<!--" not in text


def test_ways_to_install_are_named() -> None:
    text = (ROOT / "README.md").read_text()
    for way in (
        "pipx install",
        "uv tool install",
        "python3 -m venv",
        "make deb",
        "externally-managed-environment",
    ):
        assert way in text


def test_demonstration_is_one_story_in_80_columns() -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        ["sh", ROOT / "demo" / "demo.sh"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = re.sub(r"\x1b\[\d*m", "", done.stdout).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("This pulls a file system over HTTP")
    steps = [line[0] for line in lines if re.match(r"\d\. ", line)]
    assert steps == list("12345")
    assert any(line.startswith("Done: the repository is empty again") for line in lines)
