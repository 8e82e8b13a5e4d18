"""``cfsctl image history``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_image_refs
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.listing import list_options
from cfsctl.cli.options.refs import HISTORY_COLUMNS, show_history

if TYPE_CHECKING:
    from cfsctl.cli.columns import ListRequest


@click.command("history", cls=Command)
@click.argument("name", shell_complete=complete_image_refs)
@list_options(HISTORY_COLUMNS)
@json_option()
@pass_session
def command(session: Session, *, name: str, as_json: bool, listing: ListRequest) -> None:
    """List the current image of the ref NAME and the earlier ones that were kept, latest first.

    SET is when NAME was set to it. Earlier images are kept by --keep of the commands that move refs; `prune`
    removes them.
    """
    with session.open() as repository:
        found = repository.image_history(name)
    show_history(name, found, listing, as_json=as_json)
