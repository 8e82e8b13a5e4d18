"""Every shell block of the documents runs as it is written, and every block of Python.

Blocks of one page run in order in one directory, each in a shell of its own that stops at the first
failure; what a block exports is there for those behind it. ``https://example.com/repo`` stands for a
server that has the ref ``some/ref``; commands that name no repository use one that is there. A
block is left out only with ``<!-- not run: reason -->`` before it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser

from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.programs import CFSCTL, cfsctl
from tests.support.web import serve_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sybil import Example

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
NOT_RUN = re.compile(r"<!-- not run: \S.* -->\n+$")
SAMPLE_URL = "https://example.com/repo"


def blocks(path: Path, language: str = "sh") -> list[str]:
    """Return the blocks of a document that are to be run."""
    found: list[str] = []

    def keep(example: Example) -> None:
        before = example.document.text[: example.region.start]
        if not NOT_RUN.search(before):
            found.append(str(example.parsed))

    parser = CodeBlockParser(language=language, evaluator=keep)
    for example in Sybil(parsers=[parser]).parse(path).examples():
        example.evaluate()
    return found


RUNNING = [path for path in DOCUMENTS if blocks(path)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve an OSTree repository and return its URL."""
    require_ostree()
    (tmp_path / "served" / "tree" / "usr").mkdir(parents=True)
    (tmp_path / "served" / "tree" / "usr" / "file").write_bytes(b"x" * 1000)
    repository = tmp_path / "served" / "repo"
    repository.mkdir()
    run_ostree(repository, "init", "--mode=archive")
    run_ostree(repository, "commit", "--branch=some/ref", f"--tree=dir={tmp_path / 'served' / 'tree'}")
    run_ostree(repository, "summary", "-u")
    with serve_directory(tmp_path / "served") as url:
        yield f"{url}/repo"


PRINTED = {
    "first-image.md": ["No images found", "hello\n", "! /usr/bin/hello: mode 0755 -> 0700", "status: ok"],
    "pull-in-a-script.md": ["not-found 17"],
    "build-pipeline.md": ["! /usr/lib/library.so: mtime"],
}
"""What pages say that is printed, or let expect."""


def run_ostree_init(path: Path) -> None:
    path.mkdir()
    run_ostree(path, "init", "--mode=archive")


KEEP_EXPORTS = "\nexport -p > .exports\n"


@pytest.mark.parametrize("path", RUNNING, ids=lambda path: str(path.relative_to(ROOT)))
def test_shell_blocks_run(path: Path, tmp_path: Path, server: str) -> None:
    script = blocks(path)
    place = tmp_path / "place"
    (place / "tree" / "usr").mkdir(parents=True)
    mounts = any(re.search(r"^cfsctl .*mount ", block, re.MULTILINE) for block in script)
    if mounts and (os.geteuid() or shutil.which("unshare") is None):
        pytest.skip("mounting needs root and unshare")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CFSCTL_")},
        "PATH": f"{CFSCTL.parent}:{os.environ['PATH']}",
        "HOME": str(place),
        "CFSCTL_REPO": "repository",
        "OSTREE_REPO": "ostree-repository",
    }
    run_ostree_init(place / "ostree-repository")
    cfsctl("init", "--insecure", place / "repository")
    (place / ".exports").touch()
    apart = ["unshare", "--mount", "--propagation", "private"] if mounts else []
    output = ""
    for block in script:
        commands = block.replace(SAMPLE_URL, server)
        done = subprocess.run(
            [*apart, "sh", "-e", "-c", f". ./.exports\n{commands}{KEEP_EXPORTS}"],
            cwd=place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=environment,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        output += done.stdout
    for text in PRINTED.get(path.name, ()):
        assert text in output


PRINTED_BY_PYTHON = {
    "library.md": [
        "['builds/42']\n",
        "some/ref 1\n",
        "sound\n",
        "refused: POLICY\n",
        "NO_REPOSITORY check the path, or create a repository there with `cfsctl init nowhere`\n",
    ]
}


@pytest.mark.parametrize("name", PRINTED_BY_PYTHON)
def test_python_blocks_run(name: str, tmp_path: Path, server: str) -> None:
    (path,) = (path for path in DOCUMENTS if path.name == name)
    place = tmp_path / "place"
    (place / "tree" / "usr").mkdir(parents=True)
    (place / "tree" / "usr" / "file").write_bytes(b"x" * 1000)
    program = "\n".join(blocks(path, "python")).replace(SAMPLE_URL, server)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for text in PRINTED_BY_PYTHON[name]:
        assert text in done.stdout


def test_documents_have_blocks_that_run() -> None:
    names = {path.name for path in RUNNING}
    assert {"README.md", "first-image.md", "pull-in-a-script.md", "build-pipeline.md"} <= names


LINK = re.compile(r"\]\(\s*([^)#\s]+)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target
