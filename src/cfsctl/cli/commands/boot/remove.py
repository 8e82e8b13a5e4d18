"""``cfsctl boot remove``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_deployments
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.boot import bootdir_option, stateroot_option
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.output import print_document, print_line
from cfsctl.digest import qualified
from cfsctl.progress import Message


@click.command("remove", cls=Command)
@click.argument("image", type=TEXT, shell_complete=complete_deployments)
@bootdir_option
@stateroot_option
@click.option(
    "--purge-state", is_flag=True, help="Also remove what the deployment has written to /etc and /var."
)
@click.option("--force", is_flag=True, help="Also remove the deployment that this machine has booted.")
@json_option()
@pass_session
def command(
    session: Session,
    *,
    image: str,
    bootdir: str,
    stateroot: str | None,
    purge_state: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Remove the boot entries of IMAGE, an ID or a unique prefix of one, and the ref that keeps it.

    Kernel files are removed from directories with the name of the entry; other files are left. The image
    stays until garbage collection; the state stays unless --purge-state is given.
    """
    with session.open() as repository:
        image_id = repository.find_deployment(image, bootdir, stateroot=stateroot)
        removed = repository.remove_deployment(
            image_id,
            bootdir,
            stateroot=stateroot,
            purge_state=purge_state,
            force=force,
            progress=session.progress,
        )
    if as_json:
        print_document(
            {
                "image": qualified(image_id),
                "files": list(removed.files),
                "left": list(removed.left),
                "state": removed.state,
            }
        )
        return
    for path in removed.left:
        session.progress(Message(f"left {path}, which others may use"))
    print_line(f"Removed deployment {image_id.hex()}")
