"""The examples of the manual pages, run as they are written."""

from __future__ import annotations

import os
import re
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
PAGES = [page for page in build_pages() if any(example.needs is None for example in page.examples)]
HOST = {"architecture": host_platform().architecture}
MOUNTING = {"mount.composefs"}
IN_INITRAMFS = {"composefs-setup-root"}
"""Pages whose examples mount, which the privileged tests do."""


VERB = re.compile(r"cfsctl-(ostree|oci|boot)-")
"""Pages of the commands of a group, whose examples begin with a repository that has something."""


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


@pytest.fixture(scope="module")
def ostree_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a tree, an OSTree repository, and a store with a commit and an image."""
    require_ostree()
    place = tmp_path_factory.mktemp("ostree")
    (place / "tree" / "usr").mkdir(parents=True)
    (place / "tree" / "usr" / "program").write_bytes(b"x" * 5000)
    make_ostree_repository(place)
    run("cfsctl init --insecure ./store", place)
    run("cfsctl --repo ./store ostree pull-local ./ostree-repo test", place)
    run("cfsctl --repo ./store create-image ./tree web", place)
    return place


@pytest.fixture(scope="module")
def oci_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a tree, a layout, and a store with an image."""
    place = tmp_path_factory.mktemp("oci")
    (place / "tree" / "usr").mkdir(parents=True)
    (place / "tree" / "usr" / "program").write_bytes(b"x" * 5000)
    Layout(place / "layout").add_image("latest", example_layers(), config=HOST)
    run("cfsctl init --insecure ./images", place)
    run("cfsctl --repo ./images oci pull oci:./layout:latest web", place)
    return place


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
    "page",
    [page for page in PAGES if page.name not in MOUNTING | IN_INITRAMFS and not VERB.match(page.name)],
    ids=lambda page: page.name,
)
def test_examples_run(page: Page, place: Path) -> None:
    if page.name == "cfsctl-ostree":
        require_ostree()
        make_ostree_repository(place)
    if page.name == "cfsctl-oci":
        Layout(place / "layout").add_image("latest", example_layers(), config=HOST)
    if page.name == "cfsctl-boot":
        make_system(place / "system")
    for example in page.examples:
        if example.needs is None:
            run(example.text, place)


@pytest.mark.parametrize(
    ("page", "number"),
    [
        (page, number)
        for page in PAGES
        if VERB.match(page.name)
        for number, example in enumerate(page.examples)
        if example.needs is None
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_examples_of_verbs_run(
    page: Page, number: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    template = request.getfixturevalue("ostree_place" if "ostree" in page.name else "oci_place")
    shutil.copytree(template, tmp_path, symlinks=True, dirs_exist_ok=True)
    run(page.examples[number].text, tmp_path)


def make_system(path: Path) -> None:
    """Make a tree that can be booted."""
    for name in ("usr/lib/modules/6.1", "etc", "var", "boot", "sysroot"):
        (path / name).mkdir(parents=True)
    for name in ("vmlinuz", "initramfs.img"):
        (path / "usr/lib/modules/6.1" / name).write_bytes(name.encode() * 100)


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
