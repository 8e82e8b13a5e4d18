"""``cfsctl mounts``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_block, print_document, print_line, tell_lines
from cfsctl.cli.render import format_table

_SHORT_DIGEST = 12


@click.command("mounts", cls=Command)
@json_option()
@click.option("--no-trunc", is_flag=True, help="Print full digests.")
@pass_session
def command(session: Session, *, as_json: bool, no_trunc: bool) -> None:
    """List what is mounted from the repository.

    Lists kernel and FUSE mounts in all mount namespaces that this user may inspect. The refs are those that
    lead to the image now. A question mark means that it is not certain which image is mounted.
    """
    with session.open() as repository:
        found = repository.mounts()
    if as_json:
        print_document(
            {
                "complete": not found.gaps,
                "mounts": [mount.as_dict() for mount in found.mounts],
                "problems": found.gaps,
            }
        )
        return
    tell_lines(f"Warning: there may be more mounts: cannot inspect {gap}" for gap in found.gaps)
    if not found.mounts:
        print_line("No mounts found")
        return
    width = None if no_trunc else _SHORT_DIGEST
    rows = [
        (
            mount.mountpoint,
            mount.kind,
            ", ".join(image_id.hex()[:width] for image_id in mount.image_ids)
            + ("" if mount.is_certain else "?"),
            ", ".join(mount.refs),
        )
        for mount in found.mounts
    ]
    print_block(format_table(["MOUNTPOINT", "KIND", "IMAGE", "REFS"], rows))
