"""``cfsctl ls``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_sources
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.diff import RepositoryOpener
from cfsctl.cli.options.tree import tree_reading
from cfsctl.cli.output import print_document, print_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    import cfsctl


@click.command("ls", cls=Command)
@click.argument("source", shell_complete=complete_sources)
@click.argument("path", default="/")
@json_option()
@click.option(
    "-l", "--long", "is_long", is_flag=True, help="Print mode, owner, group, size and time as well."
)
@click.option("-R", "--recursive", is_flag=True, help="List everything below, with paths.")
@click.option("-d", "--directory", is_flag=True, help="List the directory itself, not its entries.")
@pass_session
def command(
    session: Session,
    *,
    source: str,
    path: str,
    as_json: bool,
    is_long: bool,
    recursive: bool,
    directory: bool,
) -> None:
    """List the directory PATH of the tree SOURCE, without mounting it.

    SOURCE is an image (ref, ID or file), an OSTree commit (tag or ID), a container image (tag or digest), a
    dump or a directory; the prefixes image:, commit:, oci:, dump: and dir: say which is meant. PATH is / by
    default. Symbolic links in PATH are followed within the tree, the last one only if a slash follows.
    """
    from cfsctl.library.contents import list_tree

    with RepositoryOpener(session) as opener:
        found = list_tree(
            source,
            path,
            is_recursive=recursive,
            is_directory_itself=directory,
            reading=tree_reading(session, opener),
        )
    if as_json:
        _print_json(found)
    else:
        _print_text(found, is_long=is_long, with_paths=recursive or directory)


def _print_json(found: Sequence[cfsctl.TreePlace]) -> None:
    from cfsctl.library.contents import entry_document

    print_document({"entries": [entry_document(place) for place in found]})


def _print_text(found: Sequence[cfsctl.TreePlace], *, is_long: bool, with_paths: bool) -> None:
    from cfsctl.library.contents import format_long

    named = [(_name(place, with_paths=with_paths), place.node) for place in found]
    print_lines(format_long(named) if is_long else (name for name, _ in named))


def _name(place: cfsctl.TreePlace, *, with_paths: bool) -> str:
    return os.fsdecode(place.path if with_paths else place.path.rpartition(b"/")[2] or b"/")
