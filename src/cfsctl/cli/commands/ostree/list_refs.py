"""``cfsctl ostree list-refs``."""

from __future__ import annotations

import click

from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.http import ConnectionArguments, connection_options
from cfsctl.cli.output import print_document, print_line, print_lines
from cfsctl.cli.render import iter_table


@click.command("list-refs", cls=Command)
@click.argument("url", type=TEXT)
@connection_options
@json_option()
def command(*, url: str, as_json: bool, connecting: ConnectionArguments) -> None:
    """List the refs in the summary of the repository at URL.

    For a local repository, file:///PATH, its branches are listed.
    """
    from cfsctl.cli.options.http import with_credentials  # noqa: PLC0415 - keeps --help quick
    from cfsctl.library.sources import Location, list_refs  # noqa: PLC0415 - the same

    location = Location(url, is_url=True)
    if location.find_directory() is not None:
        refs = list_refs(location)
    else:
        address = Location(with_credentials(url, connecting.auth_file), is_url=True)
        refs = list_refs(address, connecting.source_options(url))
    if as_json:
        print_document({"refs": [{"name": ref.name, "commit": ref.commit.hex()} for ref in refs]})
    elif refs:
        print_lines(iter_table(["REF", "COMMIT"], lambda: ((ref.name, ref.commit.hex()) for ref in refs)))
    else:
        print_line("No refs found")
