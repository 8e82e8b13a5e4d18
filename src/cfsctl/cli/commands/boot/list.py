"""``cfsctl boot list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.boot import bootdir_option, stateroot_option
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_block, print_document
from cfsctl.cli.render import format_table
from cfsctl.digest import qualified

if TYPE_CHECKING:
    import cfsctl

_SHORT_ID = 12


@click.command("list", cls=Command)
@bootdir_option
@stateroot_option
@json_option()
@pass_session
def command(session: Session, *, bootdir: str, stateroot: str | None, as_json: bool) -> None:
    """List the deployments: images that have a boot entry, a ref that keeps them for one, or a state.

    Boot entries that cannot be read are reported on standard error and skipped.
    """
    with session.open() as repository:
        found = repository.deployments(bootdir, stateroot=stateroot, progress=session.progress)
    if as_json:
        print_document({"deployments": [_document(deployment) for deployment in found]})
    elif not found:
        print_block("No deployments found")
    else:
        rows = [
            (
                deployment.image.hex()[:_SHORT_ID],
                "\n".join(deployment.entries) or "-",
                "yes" if deployment.state else "no",
                _remarks(deployment) or "-",
            )
            for deployment in found
        ]
        print_block(format_table(["IMAGE", "ENTRIES", "STATE", "REMARKS"], rows))


def _remarks(deployment: cfsctl.Deployment) -> str:
    remarks = {
        "booted": deployment.is_booted,
        "image is missing": not deployment.is_stored,
        "not kept": deployment.is_stored and not deployment.is_kept,
    }
    return ", ".join(text for text, applies in remarks.items() if applies)


def _document(deployment: cfsctl.Deployment) -> dict[str, object]:
    return {
        "image": qualified(deployment.image),
        "entries": list(deployment.entries),
        "booted": deployment.is_booted,
        "kept": deployment.is_kept,
        "stored": deployment.is_stored,
        "state": deployment.state,
    }
