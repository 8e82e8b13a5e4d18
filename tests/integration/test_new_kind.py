"""How to add a kind of stream: CONTRIBUTING.md, followed word for word on a copy of the sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cfsctl.repository import Repository
from cfsctl.splitstream import SplitstreamWriter
from tests.support.repositories import make_repository, write_stream

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^## How to add a kind of stream\n(.*?)^## ", re.MULTILINE | re.DOTALL)
PROGRAM = "import sys; from cfsctl.cli.main import main; sys.exit(main())"

BLOCK = re.compile(r"`([\w./]+)`:\n|^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
"""A path in front of a colon, which the blocks behind it are for; or a block."""


def follow(text: str, root: Path) -> list[str]:
    """Do in a copy of the project what a page says, and return the paths that it touched."""
    path, touched = "", []
    for found in BLOCK.finditer(text):
        if found[1]:
            path = found[1]
        elif found[2] == "python":
            (root / path).write_text(found[3])
            touched.append(path)
        else:
            assert found[2] == "diff"
            change(root / path, found[3].splitlines(keepends=True))
            touched.append(path)
    return touched


def change(file: Path, lines: list[str]) -> None:
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    before = file.read_text()
    assert before.count(old) == 1, f"{file.name} no longer has these lines once:\n{old}"
    file.write_text(before.replace(old, new))


class Project:
    """A copy of the project that the page has been followed in, and its program."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.touched: list[str] = []

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root / "src"), **variables}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def cfsctl(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.python("-c", PROGRAM, *map(str, arguments))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    page = SECTION.search((ROOT / "CONTRIBUTING.md").read_text())
    assert page is not None
    made = Project(root)
    made.touched = follow(page[1], root)
    return made


def add_note(project: Project, path: Path, title: str, text: str) -> None:
    code = (
        "import sys; from cfsctl.notes import store_note; from cfsctl.repository import Repository\n"
        "with Repository.open(sys.argv[1]) as opened: store_note(opened, *sys.argv[2:])"
    )
    done = project.python("-c", code, str(path), title, text)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def store(project: Project, tmp_path: Path) -> Path:
    """Return a repository with two notes."""
    make_repository(tmp_path / "store").close()
    add_note(project, tmp_path / "store", "first", "some text")
    add_note(project, tmp_path / "store", "second/part", "other text")
    return tmp_path / "store"


def test_what_is_added_is_a_room_and_one_registration(project: Project) -> None:
    assert set(project.touched) == {
        "src/cfsctl/notes.py",
        "src/cfsctl/kinds/notes.py",
        "src/cfsctl/kinds/registry.py",
        "pyproject.toml",
    }


def test_the_code_on_the_page_is_as_the_project_demands(project: Project) -> None:
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        done = project.python("-m", *command, "src/cfsctl/notes.py", "src/cfsctl/kinds")
        assert done.returncode == 0, done.stdout
    program = Path(sys.executable).with_name("lint-imports")
    done = project.python(str(program))
    assert done.returncode == 0, done.stdout


def test_sound_notes_pass_a_check_and_survive_a_collection(project: Project, store: Path) -> None:
    assert project.cfsctl("--repo", store, "gc").returncode == 0
    done = project.cfsctl("--repo", store, "fsck", "--deep")
    assert done.returncode == 0
    assert "streams: 2/2 ok" in done.stdout


def test_what_is_no_text_is_found(project: Project, store: Path) -> None:
    with Repository.open(str(store)) as repository:
        with SplitstreamWriter(repository.objects, repository.algorithm, 0x65746F6E) as writer:
            writer.write_inline(b"caf\xe9")
            stream_id = writer.finish()
        repository.streams.link("note-first", stream_id)
    done = project.cfsctl("--repo", store, "fsck")
    assert done.returncode != 0
    assert "stream-content-invalid: streams/note-first: note: expected UTF-8" in done.stdout


def test_another_stream_with_the_name_of_a_note_is_found(project: Project, store: Path) -> None:
    with Repository.open(str(store)) as repository:
        write_stream(repository, "note-first", [])
    done = project.cfsctl("--repo", store, "fsck")
    assert "streams/note-first: expected a note, found a stream of the content type 0x1" in done.stdout


def test_a_note_is_copied_with_its_ref(project: Project, store: Path, tmp_path: Path) -> None:
    make_repository(tmp_path / "other").close()
    done = project.cfsctl("--repo", store, "copy", "refs/notes/first", tmp_path / "other")
    assert done.returncode == 0, done.stderr
    assert project.cfsctl("--repo", tmp_path / "other", "gc").returncode == 0
    assert project.cfsctl("--repo", tmp_path / "other", "cat", "note-first").stdout == "some text"


def test_a_lost_note_is_restored_from_another_repository(
    project: Project, store: Path, tmp_path: Path
) -> None:
    shutil.copytree(store, tmp_path / "other", symlinks=True)
    for file in (store / "objects").glob("*/*"):
        file.unlink()
    done = project.cfsctl("--repo", store, "fsck", "--repair", "--from", tmp_path / "other")
    assert done.returncode == 0, done.stdout
    assert project.cfsctl("--repo", store, "cat", "note-first").stdout == "some text"


def test_notes_are_compared(project: Project, store: Path) -> None:
    assert project.cfsctl("--repo", store, "diff", "note:first", "note:first").returncode == 0
    done = project.cfsctl("--repo", store, "diff", "note:first", "note:second/part")
    assert done.returncode == 1
    assert "/note" in done.stdout


def test_a_name_that_is_nothing_is_told_what_there_could_be(project: Project, store: Path) -> None:
    done = project.cfsctl("--repo", store, "diff", "nothing", "note:first")
    assert "no image, commit, container image or note of that name" in done.stderr
    assert "a note by title" in done.stderr


def test_titles_are_completed(project: Project, store: Path) -> None:
    done = project.python("-c", PROGRAM, "--repo", str(store), "diff", "note:s", _CFSCTL_COMPLETE="zsh")
    assert "note\\:second/part" in done.stdout or "note:second/part" in done.stdout
