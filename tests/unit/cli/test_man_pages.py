"""The manual pages: current, complete, and well formed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING

import click
import pytest

from cfsctl.cli.app import cfsctl
from cfsctl.cli.tools import composefs_info, mkcomposefs, mount_composefs, setup_root
from tests.support.programs import require
from tools.man_pages import DOCS, EXAMPLES, TOOLS, build_pages, render, render_examples, subcommands

if TYPE_CHECKING:
    from collections.abc import Iterator

MAN = DOCS / "man"
PAGES = {page.name: page for page in build_pages()}
COMMITTED = sorted(MAN.glob("man?/*.?"))


def plain(name: str) -> str:
    """Return the source of a page without its markup."""
    source = render(PAGES[name], "2000-01-01").replace("\\-", "-").replace("\\(dq", '"')
    return re.sub(r"\\f.|^\.[A-Z]+ ", "", source, flags=re.MULTILINE)


def test_pages_are_those_that_would_be_written() -> None:
    date = tomllib.loads((MAN / "prose.toml").read_text())["date"]
    written = {page.path: render(page, date) for page in PAGES.values()}
    assert EXAMPLES.read_text() == render_examples(build_pages()), "run `make man`"
    committed = {str(path.relative_to(MAN)): path.read_text() for path in COMMITTED}
    assert committed == written, "run `make man`"


def all_commands() -> Iterator[tuple[str, click.Context]]:
    """Yield every command that is meant to be seen, and the page that describes it."""
    root = click.Context(cfsctl, info_name="cfsctl")
    yield "cfsctl", root
    for name, command in subcommands(root):
        context = click.Context(command, info_name=name, parent=root)
        yield f"cfsctl-{name}", context
        if isinstance(command, click.Group):
            for below, subcommand in subcommands(context):
                yield f"cfsctl-{name}-{below}", click.Context(subcommand, info_name=below, parent=context)


@pytest.mark.parametrize(
    ("page", "context"), list(all_commands()), ids=lambda item: getattr(item, "command_path", "")
)
def test_every_parameter_has_an_entry(page: str, context: click.Context) -> None:
    text = plain(page)
    for parameter in context.command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{parameter.opts[0]} has no help text"
            for name in parameter.opts:
                entry = rf"^([^\n]*, )?{re.escape(name)}( [^\n]*|,[^\n]*)?$"
                assert re.search(entry, text, re.MULTILINE), f"{page} has no entry for {name}"
        elif isinstance(parameter, click.Argument):
            description = context.command.help or ""
            assert parameter.human_readable_name.upper() in description, f"{parameter.name} is not explained"


GETOPT = {
    "mkcomposefs": mkcomposefs,
    "composefs-info": composefs_info,
    "mount.composefs": mount_composefs,
    "composefs-setup-root": setup_root,
}


@pytest.mark.parametrize("tool", TOOLS)
def test_every_option_of_the_tools_has_an_entry(tool: str) -> None:
    module = GETOPT[tool]
    names = [f"-{letter}" for letter in module.SHORT_OPTIONS.replace(":", "")]
    names += [f"--{name.rstrip('=')}" for name in module.LONG_OPTIONS]
    terms = {
        word.rstrip(",")
        for entry in PAGES[tool].lists["OPTIONS"]
        for word in entry.term.split()
        if word.startswith("-")
    }
    assert set(names) == terms


@pytest.mark.parametrize("tool", TOOLS)
def test_help_of_the_tools_is_taken_apart_whole(tool: str) -> None:
    """Every word of the help text is in the page, so nothing fell between the lists."""
    words = set(re.findall(r"[\w.-]{4,}", TOOLS[tool][1])) - {"Usage", "Options", "Commands"}
    missing = {word for word in words if word.lower() not in plain(tool).lower()}
    assert not missing


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_pages_render_without_warnings(path: os.PathLike[str]) -> None:
    require("man", "man-db")
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "PAGER": "cat"}
    done = subprocess.run(
        ["man", "--warnings", "-l", path], capture_output=True, check=True, timeout=60, env=environment
    )
    assert done.stderr == b""
    assert len(done.stdout) > 400


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_pages_pass_the_lint() -> None:
    done = subprocess.run(
        ["mandoc", "-Tlint", *COMMITTED], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout + done.stderr == ""
