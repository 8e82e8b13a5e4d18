"""``cfsctl copy``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, print_line


@click.command("copy")
@click.argument("name")
@click.argument("target")
@click.option("--as", "new_name", metavar="REF", help="Ref or tag in TARGET; without, the one that NAME is.")
@click.option(
    "--allow-unverified",
    is_flag=True,
    help="Let a tag of TARGET go to this commit whatever was demanded when it was set.",
)
@json_option()
@pass_session
def command(
    session: Session, *, name: str, target: str, new_name: str | None, allow_unverified: bool, as_json: bool
) -> None:
    """Copy an image, a commit or a stream to the repository in the directory TARGET.

    NAME is an image ID or the ref of an image, else a tag, a commit ID or the beginning of one, else the
    content identifier of a stream. All that it needs is copied too, unless it is there, and verified;
    where the file system can, copies share their blocks. Images and commits can be copied to a repository
    of the other hash; an image has another ID there. A tag of TARGET that was set by a pull which demanded
    signatures or a collection keeps that demand.
    """
    from cfsctl.kinds.copying import copy_by_name  # noqa: PLC0415 - keeps --help quick

    with session.open_repository() as source, session.open_other(target) as other:
        copied = copy_by_name(
            source, other, name, new_name, session.progress, allow_unverified=allow_unverified
        )
    counts, names = copied.counts, {**copied.ids, "tagged": copied.ref}
    if as_json:
        print_document({**names, "objects": counts.as_dict()})
        return
    for key, value in names.items():
        if value is not None:
            print_line(f"{key:7} {value}")
    print_line(
        f"objects {counts.copied} copied ({counts.copied_bytes} bytes,"
        f" {counts.shared_bytes} shared), {counts.present} present"
    )
