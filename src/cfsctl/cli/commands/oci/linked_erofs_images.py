"""``cfsctl oci linked-erofs-images``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.output import print_document, print_document_list
from cfsctl.digest import Algorithm, DigestFormatError, ObjectID, parse_object_id, qualified
from cfsctl.errors import CfsError
from cfsctl.library.short_ids import parse_short_id

if TYPE_CHECKING:
    import cfsctl


class InvalidImageIdError(CfsError):
    """Text that is not an image ID; the exit status is that of composefs-rs, because scripts check it."""


@click.command("linked-erofs-images", cls=Command)
@click.argument("verity", metavar="VERITY", type=TEXT)
@click.option(
    "--all", "lists_all", is_flag=True, help="List all OCI images that include VERITY, with their tags."
)
@pass_session
def command(session: Session, *, verity: str, lists_all: bool) -> None:
    """List all file system images of the OCI image that includes VERITY, the ID of one of them.

    The output is always JSON, in the form of composefs-rs unless --json stands before the command or --all is
    given. If several OCI images include VERITY, the one with the lowest digest is used.
    """
    with session.open() as repository:
        short = repository.find_image(verity) if parse_short_id(verity) is not None else None
        image_id = short or _parse(verity, repository.algorithm)
        if lists_all:
            manifests = repository.oci.linked_manifests(image_id, progress=session.progress)
            print_document({"manifests": [_document(manifest) for manifest in manifests]})
            return
        found = repository.oci.linked_images(image_id, progress=session.progress)
    if session.as_json:
        print_document({"images": [_describe(linked, is_qualified=True) for linked in found]})
    else:
        print_document_list([_describe(linked, is_qualified=False) for linked in found])


def _document(manifest: cfsctl.OciLinkedManifest) -> dict[str, object]:
    return {
        "manifest": str(manifest.digest),
        "tags": list(manifest.tags),
        "images": [_describe(linked, is_qualified=True) for linked in manifest.images],
    }


def _describe(linked: cfsctl.LinkedImage, *, is_qualified: bool) -> dict[str, object]:
    return {
        "id": qualified(linked.image_id) if is_qualified else linked.image_id.hex(),
        "bootable": linked.is_bootable,
        "version": 2 if linked.is_version_2 else 1,
        "xattrMode": linked.xattrs.value if linked.is_bootable else None,
    }


def _parse(text: str, algorithm: Algorithm) -> ObjectID:
    try:
        return parse_object_id(text.lower(), algorithm)
    except DigestFormatError as error:
        raise InvalidImageIdError(str(error)) from error
