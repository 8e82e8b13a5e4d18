"""``cfsctl oci build``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict

import click

from cfsctl.cli.commands.oci.pull_output import document_of, lines_of
from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option, xattrs_option
from cfsctl.cli.options.keeping import keep_option
from cfsctl.cli.output import print_document, print_lines, tell
from cfsctl.cli.source_date import read_source_date
from cfsctl.errors import ExitCode

if TYPE_CHECKING:
    from typing import Unpack

    from cfsctl.library.oci.options import OciBuildOptions

_SHOWN = 10


class BuildArguments(TypedDict):
    """What the options say about the image."""

    platform: str | None
    compression: str
    xattrs: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: tuple[str, ...]
    label: tuple[str, ...]
    bootable: bool


@click.command("build", cls=Command)
@click.argument("source")
@click.argument("name", type=TEXT, required=False)
@click.option(
    "--base",
    type=TEXT,
    metavar="IMAGE",
    shell_complete=complete_oci_images,
    help="Stored image to build on: the new image has its layers and config, with SOURCE on top.",
)
@click.option(
    "--platform",
    metavar="OS/ARCH[/VARIANT]",
    help="Platform of the image; the default is that of --base, or of this machine.",
)
@click.option(
    "--compression",
    type=click.Choice(["gzip", "zstd", "none"]),
    default="gzip",
    show_default=True,
    help="Compression of the layer when it is pushed; the repository stores it uncompressed.",
)
@click.option("--entrypoint", type=TEXT, metavar="ARG", multiple=True, help="Entry point. Repeatable.")
@click.option("--cmd", type=TEXT, metavar="ARG", multiple=True, help="Default arguments. Repeatable.")
@click.option(
    "--env", type=TEXT, metavar="NAME=VALUE", multiple=True, help="Environment variable. Repeatable."
)
@click.option("--label", type=TEXT, metavar="KEY=VALUE", multiple=True, help="Label. Repeatable.")
@click.option("--bootable", is_flag=True, help="Also create a boot image.")
@keep_option
@xattrs_option
@json_option()
@pass_session
def command(
    session: Session,
    *,
    source: str,
    name: str | None,
    base: str | None,
    keep: int | None,
    as_json: bool,
    **arguments: Unpack[BuildArguments],
) -> int:
    """Build an OCI image with one new layer from SOURCE, store it, and tag it with NAME.

    SOURCE is a directory, a composefs image (ref, ID or file) or an OSTree commit (tag or ID), optionally
    with the prefix dir:, image: or commit:. Builds are reproducible: the image has the times of the files,
    but none later than $SOURCE_DATE_EPOCH if that is set. Sockets are skipped and listed on standard error,
    and the exit status is then 3.
    """
    from cfsctl.library.oci.options import check_tag

    options = _make_options(arguments)
    tag = None if name is None else check_tag(name)
    with session.open() as repository:
        result = repository.oci.build(source, tag, options, base=base, keep=keep, progress=session.progress)
    for path in result.skipped[:_SHOWN]:
        tell(f"cfsctl: {os.fsdecode(path)}: skipped, a layer cannot have sockets")
    if len(result.skipped) > _SHOWN:
        tell(f"cfsctl: {len(result.skipped) - _SHOWN} more skipped")
    if as_json:
        skipped = [path.decode(errors="backslashreplace") for path in result.skipped]
        print_document(document_of(result.pulled) | {"skipped": skipped})
    else:
        print_lines(lines_of(result.pulled))
    return ExitCode.PARTIAL if result.skipped else ExitCode.OK


def _make_options(arguments: BuildArguments) -> OciBuildOptions:
    from cfsctl.library.oci.options import OciBuildOptions
    from cfsctl.tree.transform import XattrFilter

    return OciBuildOptions(
        platform=arguments["platform"],
        compression=arguments["compression"],
        xattrs=XattrFilter(arguments["xattrs"]),
        source_date_s=read_source_date(10**12),
        entrypoint=arguments["entrypoint"] or None,
        cmd=arguments["cmd"] or None,
        env=_parse_pairs("--env", arguments["env"]),
        labels=_parse_pairs("--label", arguments["label"]),
        bootable=arguments["bootable"],
    )


def _parse_pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.UsageError(f"{option}: expected KEY=VALUE, found {text!r}")
        pairs[key] = value
    return pairs
