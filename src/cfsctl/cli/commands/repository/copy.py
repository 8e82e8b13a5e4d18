"""``cfsctl copy``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.keeping import keep_option
from cfsctl.cli.output import print_document, print_line


@click.command("copy", cls=Command)
@click.argument("name")
@click.argument("target")
@click.option(
    "--as", "new_name", metavar="REF", help="Ref or tag in TARGET; the default is NAME, if it is one."
)
@click.option(
    "--allow-unverified",
    is_flag=True,
    help="Move a tag of TARGET to this commit regardless of what was required when it was set.",
)
@keep_option
@json_option()
@pass_session
def command(
    session: Session,
    *,
    name: str,
    target: str,
    new_name: str | None,
    allow_unverified: bool,
    keep: int | None,
    as_json: bool,
) -> None:
    """Copy an image, a commit or a stream to the repository in the directory TARGET.

    NAME is the ID or ref of an image; a tag, a commit ID or a unique prefix of one; or the content
    identifier of a stream. Everything that it refers to is copied and verified, unless it is already in
    TARGET; copies share their blocks if the file system supports it. Images and commits can be copied to a
    repository that uses the other hash; images get another ID there. If a tag of TARGET was set by a pull
    that required signatures or a collection, the requirement stays.
    """
    with session.open() as source, session.open_other(target) as other:
        copied = source.copy(
            name, other, new_name, allow_unverified=allow_unverified, keep=keep, progress=session.progress
        )
    counts, names = copied.counts, {**copied.ids, "tagged": copied.ref}
    if as_json:
        print_document({**names, "objects": counts.as_dict()})
        return
    for key, value in names.items():
        if value is not None:
            print_line(f"{key:7} {value.rpartition(':')[2] if key in copied.ids else value}")
    print_line(
        f"objects {counts.copied} copied ({counts.copied_bytes} bytes,"
        f" {counts.shared_bytes} shared), {counts.present} present"
    )
