"""``cfsctl oci copy``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import click

from cfsctl.cli.commands.oci.pull_output import document_of, document_of_index, lines_of_index
from cfsctl.cli.completers import complete_directories, complete_other_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.keeping import keep_option
from cfsctl.cli.output import print_document, print_lines
from cfsctl.digest import qualified

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    import cfsctl


class CopyArguments(TypedDict):
    """Options that say how an image or an index is copied."""

    zerocopy: bool
    with_referrers: bool
    keep: int | None


@click.command("copy", cls=Command)
@click.argument("image", type=TEXT, shell_complete=complete_other_oci_images)
@click.option(
    "--from",
    "source",
    required=True,
    metavar="PATH",
    shell_complete=complete_directories,
    help="Repository that has the image.",
)
@click.option("--name", type=TEXT, metavar="NAME", help="Tag for the copy; without one, it is not tagged.")
@click.option(
    "--zerocopy",
    is_flag=True,
    help="Share files with the other repository by reflink or hard link instead of copying them, and fail if "
    "neither is possible. Needs the same hash; hard links need root and the same mount.",
)
@click.option(
    "--with-referrers", is_flag=True, help="Also copy artifacts about the image that are stored there."
)
@keep_option
@json_option()
@pass_session
def command(
    session: Session,
    *,
    image: str,
    source: str,
    name: str | None,
    as_json: bool,
    **how: Unpack[CopyArguments],
) -> None:
    """Copy IMAGE from another repository; if it is an index, copy all of its images.

    All digests are verified, and file system images are rebuilt. Layers that are already stored are not read.
    Artifacts are copied unchanged. Boot images of the image in the other repository are rebuilt, too.
    """
    from cfsctl.library.oci.options import check_tag

    if name is not None:
        check_tag(name)
    with session.open() as target, session.open_other(source) as other:
        index = other.oci.find_index(image)
        if index is not None:
            copied = target.oci.copy_index(index, other, name, progress=session.progress, **how)
            if as_json:
                print_document(document_of_index(copied))
            else:
                print_lines([_first_line(copied.tag, image, source), *lines_of_index(copied)])
            return
        result = target.oci.copy(image, other, name, progress=session.progress, **how)
    if as_json:
        print_document({**document_of(result), "config_stream": qualified(result.config_id)})
    else:
        print_lines(_lines_of(result, image, source))


def _lines_of(result: cfsctl.OciPullResult, image: str, source: str) -> Iterator[str]:
    yield _first_line(result.tag, image, source)
    yield f"Manifest digest: {result.manifest_digest}"
    yield f"Manifest verity: {result.manifest_id.hex()}"
    yield f"Config digest:   {result.config_digest}"
    yield f"Config verity:   {result.config_id.hex()}"
    yield from (f"Referrer:        {digest}" for digest in result.referrers)


def _first_line(tag: str | None, image: str, source: str) -> str:
    tagged = "" if tag is None else f", tagged as {tag}"
    return f"Copied image {image} from {source} to destination repo{tagged}"
