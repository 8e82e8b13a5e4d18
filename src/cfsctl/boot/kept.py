"""Refs that keep the images alive that boot entries name.

    images/refs/boot-images/<ID>

A kernel command line names an image by its ID alone, so no other ref need lead to it. Garbage collection must
not remove what the machine boots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.digest import DigestFormatError, parse_object_id
from cfsctl.errors import RefNotFoundError

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.repository import Repository

PREFIX: Final = "boot-images"


def keep_image(repository: Repository, image_id: ObjectID) -> bool:
    """Give an image that is stored and named by its ID the ref that keeps it; return whether it is new."""
    ref = f"{PREFIX}/{image_id.hex()}"
    is_new = repository.images.links.read_ref(ref) is None
    repository.images.links.set_ref(ref, image_id.hex())
    return is_new


def list_kept(repository: Repository) -> list[ObjectID]:
    """Return the images that are kept for boot entries, sorted."""
    found = []
    for ref in repository.images.links.list_refs(PREFIX):
        try:
            found.append(parse_object_id(ref.name, repository.algorithm))
        except DigestFormatError:
            continue  # a ref of the user's own
    return found


def release_image(repository: Repository, image_id: ObjectID) -> bool:
    """Remove the ref that keeps an image; return whether there was one."""
    try:
        repository.images.remove_ref(f"{PREFIX}/{image_id.hex()}")
    except RefNotFoundError:
        return False
    return True
