"""``cfsctl ostree images``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_block, print_document
from cfsctl.cli.render import format_table


@click.command("images")
@json_option()
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """List all tags and their commits."""
    from cfsctl.ostree.store.partial_tags import list_parts  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.store.refs import list_tags  # noqa: PLC0415 - the same

    with session.open_repository() as repository:
        found = [(tag.name, tag.commit.hex(), False) for tag in list_tags(repository)]
        found += [(part.name, part.commit.hex(), True) for part in list_parts(repository)]
    if as_json:
        keys = ("name", "commit", "partial")
        print_document({"images": [dict(zip(keys, row, strict=True)) for row in found]})
        return
    rows = [(f"{name} (partial)" if is_partial else name, commit) for name, commit, is_partial in found]
    print_block(format_table(["NAME", "COMMIT"], rows) if rows else "No ostree commits found")
