"""``cfsctl remote remove``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_remotes
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.trust import remotes_option
from cfsctl.cli.output import print_document


@click.command("remove", cls=Command)
@click.argument("name", type=TEXT, shell_complete=complete_remotes)
@remotes_option
@click.option("--if-exists", is_flag=True, help="Do nothing if there is no remote of this name.")
@json_option()
def command(*, name: str, remotes: str | None, if_exists: bool, as_json: bool) -> None:
    """Remove the remote NAME and its keys. Commits that were pulled from it stay."""
    from cfsctl.library.remotes import list_remotes, remove_remote

    is_there = not if_exists or name in list_remotes(remotes)
    if is_there:
        remove_remote(name, remotes)
    if as_json:
        print_document({"name": name, "changed": is_there})
