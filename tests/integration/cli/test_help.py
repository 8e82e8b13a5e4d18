"""Help texts as they appear on a terminal, and the ways that lead to them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from cfsctl import __version__
from cfsctl.cli.app import cfsctl
from cfsctl.cli.catalog import BOOT, IMAGE, OCI, OSTREE, PROGRAM, REMOTE
from cfsctl.cli.help import HELP_WIDTH, Command
from cfsctl.cli.lazy import LazyGroup
from tests.support import schemas
from tests.support.programs import CFSCTL
from tests.support.terminal import count_cells, run_on_terminal
from tools.man_pages import subcommands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def contexts() -> Iterator[click.Context]:
    root = click.Context(
        cfsctl, info_name="cfsctl", help_option_names=["-h", "--help"], max_content_width=HELP_WIDTH
    )
    yield root
    for name, command in subcommands(root):
        context = click.Context(command, info_name=name, parent=root)
        yield context
        if isinstance(command, click.Group):
            for below, subcommand in subcommands(context):
                yield click.Context(subcommand, info_name=below, parent=context)


ALL = {context.command_path: context for context in contexts()}
GROUPS = {
    "cfsctl": PROGRAM,
    "cfsctl boot": BOOT,
    "cfsctl image": IMAGE,
    "cfsctl oci": OCI,
    "cfsctl ostree": OSTREE,
    "cfsctl remote": REMOTE,
}


def attempt(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(place)}
    return subprocess.run(
        [CFSCTL, *arguments], cwd=place, capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("group", GROUPS)
def test_help_of_groups_fits_the_terminal(group: str, columns: int, tmp_path: Path) -> None:
    screen = run_on_terminal([CFSCTL, *group.split()[1:], "--help"], columns, place=tmp_path)
    assert screen.status == 0
    assert max(map(count_cells, screen.lines)) <= columns
    assert "..." not in screen.text.replace("[ARGS]...", "")  # nothing is cut off
    for title, commands in GROUPS[group].items():
        start = screen.lines.index(f"{title}:") + 1
        shown = dict(line.split(None, 1) for line in screen.lines[start : start + len(commands)])
        assert shown == dict(commands)
    assert "Other commands:" not in screen.lines, "add the command to cli/catalog.py"


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("path", ALL)
def test_help_of_every_command_fits(path: str, columns: int) -> None:
    """In this process, which tells click the width: starting each command twice would take a minute."""
    context = ALL[path]
    context.terminal_width = columns - 2
    lines = context.command.get_help(context).split("\n")
    assert max(map(count_cells, lines)) <= columns


def test_help_uses_the_width(tmp_path: Path) -> None:
    for columns in (80, 120):
        screen = run_on_terminal([CFSCTL, "ostree", "pull", "--help"], columns, place=tmp_path)
        assert columns - 10 < max(map(count_cells, screen.lines)) <= columns


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_examples(path: str) -> None:
    context = ALL[path]
    assert isinstance(context.command, Command | LazyGroup)
    if path not in GROUPS or path == "cfsctl":
        assert "\nExamples:\n" in context.command.get_help(context).replace("  Examples:", "Examples:"), path


def test_every_group_is_here() -> None:
    groups = {path for path, context in ALL.items() if isinstance(context.command, click.Group)}
    assert groups == set(GROUPS)


def test_options_of_a_pull_stand_in_sections(tmp_path: Path) -> None:
    screen = run_on_terminal([CFSCTL, "ostree", "pull", "--help"], 80, place=tmp_path)
    headings = [line for line in screen.lines if line.endswith(" options:")]
    assert headings == ["Source options:", "Trust options:", "Connection options:", "Output options:"]
    sections = screen.text.split(" options:\n")
    assert "--subpath" in sections[1]
    assert "--gpg-key" in sections[2]
    assert "--stall-timeout" in sections[3]
    assert "--json" in sections[4]


@pytest.mark.parametrize("arguments", [[], ["ostree"], ["oci"]], ids=["cfsctl", "ostree", "oci"])
def test_no_command_prints_the_help(arguments: list[str], tmp_path: Path) -> None:
    done = attempt(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == attempt(tmp_path, *arguments, "--help").stdout
    assert "\\n" not in done.stderr


def test_no_command_with_json_is_an_error(tmp_path: Path) -> None:
    done = attempt(tmp_path, "--json")
    assert done.returncode == 2
    assert json.loads(done.stderr)["message"] == "cfsctl needs a command"


@pytest.mark.parametrize(
    "words", [[], ["gc"], ["ostree"], ["ostree", "pull"], ["oci", "build"]], ids=" ".join
)
def test_help_command(words: list[str], tmp_path: Path) -> None:
    done = attempt(tmp_path, "help", *words)
    assert done.returncode == 0
    assert done.stdout == attempt(tmp_path, *words, "--help").stdout


def test_help_command_knows_the_tools(tmp_path: Path) -> None:
    assert attempt(tmp_path, "help", "mkcomposefs").stdout.startswith("Usage: mkcomposefs ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonsense"], "No such command 'nonsense'."),
        (["ostree", "pul"], "did you mean pull"),
        (["gc", "more"], "'cfsctl gc' has no commands, found 'more'"),
    ],
)
def test_help_of_what_there_is_not(words: list[str], message: str, tmp_path: Path) -> None:
    done = attempt(tmp_path, "help", *words)
    assert done.returncode == 2
    assert message in done.stderr


def test_version_of_a_script_is_one_line(tmp_path: Path) -> None:
    for option in ("--version", "-V"):
        assert attempt(tmp_path, option).stdout == f"cfsctl {__version__}\n"


def test_version_on_a_terminal_says_which_program_it_is(tmp_path: Path) -> None:
    screen = run_on_terminal([CFSCTL, "--version"], 80, place=tmp_path)
    assert screen.lines[0] == f"cfsctl {__version__}"
    assert "Python" in screen.lines[1]


def test_verbose_version(tmp_path: Path) -> None:
    for options in (["--version", "--verbose"], ["-v", "--version"]):
        first, *rest = attempt(tmp_path, *options).stdout.splitlines()
        assert first == f"cfsctl {__version__}"
        named = [line.partition(":")[0] for line in rest]
        expected = ["implementation", "python", "libcurl", "isal", "lanes", "kernel", "erofs", "overlayfs"]
        assert named == expected


def test_version_as_json(tmp_path: Path) -> None:
    document = json.loads(attempt(tmp_path, "--json", "--version").stdout)
    assert document["version"] == __version__
    schemas.check(document, "version")
