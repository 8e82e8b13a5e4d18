"""``cfsctl dump-files``."""

from __future__ import annotations

import os

import click

from cfsctl.cli.completers import complete_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.output import write_bytes


@click.command("dump-files", cls=Command)
@click.argument("image_name", shell_complete=complete_images)
@click.argument("files", nargs=-1)
@click.option("--backing-path-only", is_flag=True, help="Print only the object path of each file.")
@pass_session
def command(session: Session, *, image_name: str, files: tuple[str, ...], backing_path_only: bool) -> None:
    """Print FILES of the image IMAGE_NAME as dump lines; directories are printed recursively.

    Nothing is printed unless all FILES exist.
    """
    if "" in files:
        raise click.BadParameter("expected a path, found nothing", param_hint="FILES")
    paths = [os.fsencode(name) for name in files]
    with session.open() as repository:
        if backing_path_only:
            write_bytes(repository.list_backing_paths(image_name, paths))
        else:
            write_bytes(repository.iter_image_dump(image_name, paths))
