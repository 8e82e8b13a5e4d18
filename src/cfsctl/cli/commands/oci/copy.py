"""``cfsctl oci copy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.commands.oci.pull_output import document_of
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.output import print_document, print_lines
from cfsctl.digest import qualified

if TYPE_CHECKING:
    from collections.abc import Iterator

    import cfsctl


@click.command("copy", cls=Command)
@click.argument("image", type=TEXT)
@click.option("--from", "source", required=True, metavar="PATH", help="Repository that has the image.")
@click.option("--name", type=TEXT, metavar="NAME", help="Tag for the copy; without one, it is not tagged.")
@click.option(
    "--zerocopy",
    is_flag=True,
    help="Share files with the other repository by reflink or hard link instead of copying them, and fail if "
    "neither is possible. Needs the same hash; hard links need root and the same mount.",
)
@json_option()
@pass_session
def command(
    session: Session, *, image: str, source: str, name: str | None, zerocopy: bool, as_json: bool
) -> None:
    """Copy IMAGE from another repository.

    All digests are verified, and file system images are made again. Layers that are already here are not
    read. Artifacts are copied as they are. If the image has boot images there, they are made here as well.
    """
    from cfsctl.library.oci.options import check_tag  # noqa: PLC0415 - keeps --help quick

    if name is not None:
        check_tag(name)
    with session.open() as target, session.open_other(source) as other:
        result = target.oci.copy(image, other, name, zerocopy=zerocopy, progress=session.progress)
    if as_json:
        print_document({**document_of(result), "config_stream": qualified(result.config_id)})
    else:
        print_lines(_lines_of(result, image, source))


def _lines_of(result: cfsctl.OciPullResult, image: str, source: str) -> Iterator[str]:
    tagged = "" if result.tag is None else f", tagged as {result.tag}"
    yield f"Copied image {image} from {source} to destination repo{tagged}"
    yield f"Manifest digest: {result.manifest_digest}"
    yield f"Manifest verity: {result.manifest_id.hex()}"
    yield f"Config digest:   {result.config_digest}"
    yield f"Config verity:   {result.config_id.hex()}"
