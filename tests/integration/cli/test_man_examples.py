"""The examples of the manual pages, run as they are written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.oci.reference import host_platform
from tests.support.oci import Layout, example_layers
from tests.support.ostree_client import require_ostree, run_ostree
from tools.man_pages import build_pages

if TYPE_CHECKING:
    from tools.man_pages import Page

BIN = Path(sys.executable).parent
PAGES = [page for page in build_pages() if page.examples]
HOST = {"architecture": host_platform().architecture}
MOUNTING = {"mount.composefs"}
"""Pages whose examples mount, which the privileged tests do."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with what the examples speak of."""
    tree = tmp_path / "tree"
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / "program").write_bytes(b"x" * 5000)
    (tree / "usr" / "note").write_text("a note\n")
    (tree / "link").symlink_to("usr/note")
    run("mkcomposefs --digest-store=objects ./tree tree.img", tmp_path)
    return tmp_path


def run(commands: str, place: Path) -> None:
    done = attempt(commands, place)
    assert done.returncode == 0, f"{commands}\n{done.stderr.decode()}"
    assert done.stderr == b""


def attempt(commands: str, place: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CFSCTL_")},
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(place),
    }
    return subprocess.run(
        ["sh", "-e", "-u", "-c", commands],
        cwd=place,
        capture_output=True,
        check=False,
        timeout=120,
        env=environment,
    )


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in MOUNTING], ids=lambda page: page.name
)
def test_examples_run(page: Page, place: Path) -> None:
    if "ostree" in page.name:
        require_ostree()
        make_ostree_repository(place)
    if page.name == "cfsctl-oci":
        Layout(place / "layout").add_image("latest", example_layers(), config=HOST)
    for example in page.examples:
        run(example.text, place)


def make_ostree_repository(place: Path) -> None:
    (place / "ostree-repo").mkdir()
    run_ostree(place / "ostree-repo", "init", "--mode=archive")
    run_ostree(place / "ostree-repo", "commit", "--branch=test", f"--tree=dir={place / 'tree'}")


def test_mounting_examples_are_correct_up_to_the_mount(place: Path) -> None:
    """With -f mount.composefs does everything but mount."""
    (page,) = (page for page in PAGES if page.name in MOUNTING)
    for example in page.examples:
        commands = example.text.replace("mount -t composefs", "mount.composefs")
        done = attempt(commands.replace("mount.composefs", "mount.composefs -f"), place)
        # Whether there is fs-verity depends on where the tests run.
        assert done.returncode == 0 or ("digest=" in commands and b"fs-verity is not" in done.stderr)


@pytest.mark.parametrize("name", ["mkcomposefs", "composefs-info"])
def test_tools_have_examples_at_all(name: str) -> None:
    assert shutil.which(name, path=str(BIN))
    assert sum(len(page.examples) for page in PAGES if page.name == name) >= 4
