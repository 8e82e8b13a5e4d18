"""``cfsctl oci linked-erofs-images``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.output import print_document, print_document_list
from cfsctl.digest import Algorithm, DigestFormatError, ObjectID, parse_object_id, qualified
from cfsctl.errors import CfsError
from cfsctl.library.short_ids import parse_short_id


class InvalidImageIdError(CfsError):
    """Text that is not an image ID; the exit status is that of composefs-rs, because scripts check it."""


@click.command("linked-erofs-images", cls=Command)
@click.argument("verity", metavar="VERITY", type=TEXT)
@pass_session
def command(session: Session, verity: str) -> None:
    """List all file system images of the OCI image that includes VERITY, the ID of one of them.

    The output is always JSON, that of composefs-rs unless --json stands before the command.
    """
    with session.open() as repository:
        short = repository.find_image(verity) if parse_short_id(verity) is not None else None
        found = repository.oci.linked_images(
            short or _parse(verity, repository.algorithm), progress=session.progress
        )
    documents = [
        {
            "id": qualified(linked.image_id) if session.as_json else linked.image_id.hex(),
            "bootable": linked.is_bootable,
            "version": 2 if linked.is_version_2 else 1,
            "xattrMode": linked.xattrs.value if linked.is_bootable else None,
        }
        for linked in found
    ]
    if session.as_json:
        print_document({"images": documents})
    else:
        print_document_list(documents)


def _parse(text: str, algorithm: Algorithm) -> ObjectID:
    try:
        return parse_object_id(text.lower(), algorithm)
    except DigestFormatError as error:
        raise InvalidImageIdError(str(error)) from error
