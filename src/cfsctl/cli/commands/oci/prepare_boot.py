"""``cfsctl oci prepare-boot``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_oci_images
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


@click.command("prepare-boot", cls=Command)
@click.argument("image", type=TEXT, shell_complete=complete_oci_images)
@click.argument("verity", type=TEXT, required=False)
@bootdir_option
@prepare_options(rules="original")
@stateroot_option
@json_option()
@pass_session
def command(
    session: Session,
    *,
    image: str,
    verity: str | None,
    bootdir: str,
    stateroot: str | None,
    as_json: bool,
    preparing: PrepareArguments,
) -> None:
    """Install a boot entry for IMAGE, and make the state directories of its deployment.

    IMAGE is a tag, the digest of a manifest or config, or a unique prefix of one. If it is a digest, all
    layers are read and verified, unless VERITY is the ID of the config's stream. The boot image is stored
    and kept until `cfsctl boot remove`. Everything is checked before anything is written; the boot loader
    sees the entry only when all of its files are on the disk.
    """
    options = preparing.options(session, bootdir, stateroot)
    options.check()
    with session.open() as repository:
        prepared = repository.oci.prepare_boot(
            image, options, config_stream=verity, progress=session.progress
        )
    print_prepared(session, prepared, as_json=as_json, has_output=False)
