"""``cfsctl remote list``."""

from __future__ import annotations

import click

from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.trust import remotes_option
from cfsctl.cli.output import print_block, print_document, print_line
from cfsctl.cli.render import format_table


@click.command("list", cls=Command)
@remotes_option
@json_option()
def command(*, remotes: str | None, as_json: bool) -> None:
    """List the configured remotes and their URLs."""
    from cfsctl.library.remotes import list_remotes
    from cfsctl.library.sources import redact_url

    rows = [
        (name, redact_url(options.get("url") or options.get("metalink") or ""))
        for name, options in list_remotes(remotes).items()
    ]
    if as_json:
        print_document({"remotes": [{"name": name, "url": url} for name, url in rows]})
    elif rows:
        print_block(format_table(["NAME", "URL"], rows))
    else:
        print_line("No remotes configured")
