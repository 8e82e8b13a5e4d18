"""``cfsctl boot prepare``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.boot import (
    PrepareArguments,
    bootdir_option,
    prepare_options,
    print_prepared,
    stateroot_option,
)
from cfsctl.cli.options.common import TEXT, json_option


@click.command("prepare", cls=Command)
@click.argument("image", type=TEXT, shell_complete=complete_images)
@bootdir_option
@prepare_options(rules="cfsctl")
@stateroot_option
@json_option()
@pass_session
def command(
    session: Session,
    *,
    image: str,
    bootdir: str,
    stateroot: str | None,
    as_json: bool,
    preparing: PrepareArguments,
) -> None:
    """Install a boot entry for IMAGE, the ref or ID of an image in the repository.

    The image is booted as it is: make it with `cfsctl create-image --bootable`. Its kernel is found below
    /usr/lib/modules, since /boot is empty in such images. For OCI images, use `cfsctl oci prepare-boot`.
    """
    options = preparing.options(session, bootdir, stateroot)
    options.check()
    with session.open() as repository:
        prepared = repository.prepare_boot(image, options, progress=session.progress)
    print_prepared(session, prepared, as_json=as_json)
