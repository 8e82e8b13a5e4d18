"""Completion in real shells, with names from a real repository."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.conftest import environment, locked
from tests.support.programs import CFSCTL, require, run_cfsctl
from tests.support.repositories import view

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[[Path, str], list[str]]

SCRIPTS = Path(__file__).parents[3] / "completions"

BASH = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
COMP_WORDS=() COMP_CWORD=0
_cfsctl
printf '%s\n' "${COMPREPLY[@]}"
"""


def shell_environment(place: Path) -> dict[str, str]:
    return {
        **environment(),
        "PATH": f"{CFSCTL.parent}:{os.environ['PATH']}",
        "HOME": str(place),
        "TERM": "dumb",
    }


def ask_bash(place: Path, line: str) -> list[str]:
    require("bash")
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", SCRIPTS / "cfsctl.bash", line],
        cwd=place,
        env=shell_environment(place),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


def ask_fish(place: Path, line: str) -> list[str]:
    require("fish")
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {SCRIPTS / 'cfsctl.fish'}; complete -C '{line}'"],
        cwd=place,
        env=shell_environment(place),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return [found.split("\t")[0] for found in done.stdout.splitlines()]


def ask_program(place: Path, line: str) -> list[str]:
    """Ask without any shell."""
    words = line.split(" ")[1:]
    done = run_cfsctl(*words, cwd=place, env={**shell_environment(place), "_CFSCTL_COMPLETE": "zsh"})
    assert (done.returncode, done.stderr) == (0, "")
    return [found.split("\t")[0] for found in done.stdout.splitlines()]


SHELLS: dict[str, Ask] = {"bash": ask_bash, "fish": ask_fish, "program": ask_program}


@pytest.fixture(params=SHELLS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return SHELLS[request.param]


def test_commands_and_options(ask: Ask, place: Path) -> None:
    assert ask(place, "cfsctl create-") == ["create-dumpfile", "create-image"]
    assert ask(place, "cfsctl ostree ta") == ["tag"]
    assert ask(place, "cfsctl gc --dry") == ["--dry-run"]
    assert ask(place, "cfsctl --hash sha5") == ["sha512"]


@pytest.mark.parametrize("command", ["image-objects", "mount", "dump-files", "diff", "ls", "show", "extract"])
def test_images(ask: Ask, place: Path, command: str) -> None:
    assert "web" in ask(place, f"cfsctl --repo repo {command} w")
    assert "web" not in ask(place, f"cfsctl --repo repo {command} x")


def test_image_ids_once_they_are_begun(ask: Ask, place: Path) -> None:
    image_id = os.path.basename(os.readlink(place / "repo" / "images" / "refs" / "web"))
    assert ask(place, f"cfsctl --repo repo mount {image_id[:3]}") == [image_id]
    assert image_id not in ask(place, "cfsctl --repo repo mount ")


def test_commits_tags_and_streams(ask: Ask, place: Path) -> None:
    if shutil.which("ostree") is None:
        pytest.skip("ostree is not installed (package ostree)")
    for command in ("inspect", "dump", "mount", "untag", "tag", "compute-id"):
        assert ask(place, f"cfsctl --repo repo ostree {command} te") == ["test"]
    assert ask(place, "cfsctl --repo repo cat refs/ost") == ["refs/ostree/test"]
    assert ask(place, "cfsctl --repo repo gc --root refs/w") == ["refs/web"]


def test_names_with_colons(ask: Ask, place: Path) -> None:
    expected = "web" if ask is ask_bash else "image:web"  # bash has split the word before
    assert ask(place, "cfsctl --repo repo diff image:w") == [expected]
    expected = "app" if ask is ask_bash else "oci:app"
    assert ask(place, "cfsctl --repo repo diff oci:a") == [expected]


def test_images_of_the_other_repository(ask: Ask, place: Path) -> None:
    assert ask(place, "cfsctl --repo elsewhere oci copy --from repo ap") == ["app"]
    assert ask(place, "cfsctl --repo repo oci copy ap") == []


def test_repository_from_the_environment(place: Path) -> None:
    done = subprocess.run(
        [CFSCTL, "image-objects", "w"],
        cwd=place,
        env={**shell_environment(place), "_CFSCTL_COMPLETE": "zsh", "CFSCTL_REPO": "repo"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "web\timage\n"


def test_nothing_is_said_where_there_is_no_repository(ask: Ask, place: Path) -> None:
    assert ask(place, "cfsctl --repo nowhere image-objects w") == []
    assert ask(place, "cfsctl --repo tree image-objects w") == []


def test_nobody_is_waited_for(ask: Ask, place: Path) -> None:
    with locked(place):
        assert ask(place, "cfsctl --repo repo image-objects w") == []


def test_nothing_is_written(ask: Ask, place: Path) -> None:
    (place / "repo" / "meta.json").unlink()  # an old repository, which other commands would upgrade
    before = view(place / "repo")
    ask(place, "cfsctl --repo repo image-objects w")
    assert view(place / "repo") == before


def test_names_that_would_steer_a_terminal_are_left_out(ask: Ask, place: Path) -> None:
    refs = place / "repo" / "images" / "refs"
    (refs / "w\x1b[31m").symlink_to(os.readlink(refs / "web"))
    (refs / "w\nx").symlink_to(os.readlink(refs / "web"))
    assert ask(place, "cfsctl --repo repo image-objects w") == ["web"]


def test_files_and_directories(place: Path) -> None:
    assert ask_fish(place, "cfsctl create-image tr") == ["tree/"]
    assert "tree/" in ask_fish(place, "cfsctl diff tr")


def typed(command: list[str], place: Path, setup: str, line: str) -> str:
    """Type a line into an interactive shell, press tab, and return what it shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place)
        os.execvpe(command[0], command, shell_environment(place))
    shown = b""

    def read_until(end: bytes) -> None:
        nonlocal shown
        deadline = time.monotonic() + 240
        while end not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 4096)

    try:
        os.write(terminal, f"{setup}; echo rea''dy\n".encode())
        read_until(b"ready")
        shown = b""
        os.write(terminal, line.encode() + b"\t")
        read_until(b"web")
        return shown.decode(errors="replace")
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_bash_at_the_terminal(place: Path) -> None:
    require("bash")
    setup = f"source {SCRIPTS / 'cfsctl.bash'}"
    shown = typed(["bash", "--norc", "-i"], place, setup, "cfsctl --repo repo image-objects w")
    assert "image-objects web" in shown


def test_zsh_at_the_terminal(place: Path) -> None:
    require("zsh")
    setup = f"autoload -Uz compinit; compinit -u -D; source {SCRIPTS / '_cfsctl'}"
    shown = typed(["zsh", "-f", "-i"], place, setup, "cfsctl --repo repo image-objects w")
    assert "web" in shown


TOOLS = {
    "mkcomposefs --dig": ["--digest-store"],
    "mkcomposefs --hash sha5": ["sha512"],
    "mkcomposefs --erofs-version ": ["0", "1", "2"],
    "composefs-info missing": ["missing-objects"],
    "composefs-info --bas": ["--basedir"],
    "mount.composefs -o tryv": ["tryverity"],
    "mount.composefs -o verity,uppe": ["verity,upperdir="],
}


@pytest.mark.parametrize("line", TOOLS)
def test_the_other_programs(place: Path, line: str) -> None:
    program, *words = line.split(" ")
    done = subprocess.run(
        [CFSCTL.parent / program, *words],
        cwd=place,
        env={**shell_environment(place), "_CFSCTL_COMPLETE": "zsh"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert [found.split("\t")[0] for found in done.stdout.splitlines()] == TOOLS[line]


@pytest.mark.parametrize("program", ["mkcomposefs", "composefs-info", "mount.composefs"])
def test_the_other_programs_in_bash(place: Path, program: str) -> None:
    require("bash")
    script = BASH.replace("_cfsctl\n", f"_cfsctl {program}\n")
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", SCRIPTS / f"{program}.bash", f"{program} --hel"],
        cwd=place,
        env=shell_environment(place),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["--help"]
