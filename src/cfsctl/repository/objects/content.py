"""Open the content of a file for reading, once it has been verified."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.digest import qualified
from cfsctl.errors import IntegrityError
from cfsctl.repository.objects.reader import ObjectState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.repository.objects.reader import ObjectReader

_READ_BYTES: Final = 1 << 20


def open_verified(objects: ObjectReader, object_id: ObjectID, size: int | None = None) -> int:
    """Open an object whose content is known to be right: it was verified before, or it is now.

    Args:
        objects: Where it is.
        object_id: Its ID.
        size: The size that it must have, in bytes, if that is known.

    Returns:
        A descriptor that the caller owns.

    Raises:
        ObjectMissingError: It does not exist.
        IntegrityError: It is damaged.
    """
    # open() comes first, so that the name leads to the file that is verified unless somebody replaces it.
    fd = objects.open(object_id)
    try:
        _check(objects, object_id, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check(objects: ObjectReader, object_id: ObjectID, size: int | None) -> None:
    found = objects.find_damage(object_id, size)
    if found is ObjectState.SOUND:
        return
    reason = found if isinstance(found, str) else "it has been removed"
    raise IntegrityError(
        f"object {qualified(object_id)}: {reason}",
        hint="cfsctl fsck --repair restores objects from a source that has them",
    )


def iter_verified(objects: ObjectReader, object_id: ObjectID, size: int | None = None) -> Iterator[bytes]:
    """Yield the content of an object in pieces; arguments and errors as for `open_verified`."""
    with open(open_verified(objects, object_id, size), "rb", buffering=0) as source:
        while data := source.read(_READ_BYTES):
            yield data
