"""Recognise the kind of an object by its first bytes: a splitstream, an image, or anything else."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.repository.objects.reader import ObjectReader

_SPLITSTREAM_MAGIC: Final = b"SplitStream"
_MAGIC_OFFSETS: Final = (0, 18)
"""Where the magic stands in the two header layouts."""

_IMAGE_MAGIC: Final = 0xD078629A.to_bytes(4, "little")
"""At the start of every composefs image; see `cfsctl.erofs.format`, which takes longer to import."""


class ObjectRole(Enum):
    """What an object looks like."""

    STREAM = "splitstream"
    IMAGE = "image"
    OTHER = "file"


def find_role(objects: ObjectReader, object_id: ObjectID) -> ObjectRole:
    """Return what an object looks like; one that cannot be read looks like a file.

    A file of an image may look like anything, so this is a reason to keep more, never to keep less.
    """
    try:
        fd = objects.open(object_id)
    except (CfsError, OSError):
        return ObjectRole.OTHER
    try:
        start = os.pread(fd, _MAGIC_OFFSETS[-1] + len(_SPLITSTREAM_MAGIC), 0)
    except OSError:
        return ObjectRole.OTHER
    finally:
        os.close(fd)
    if any(start[at : at + len(_SPLITSTREAM_MAGIC)] == _SPLITSTREAM_MAGIC for at in _MAGIC_OFFSETS):
        return ObjectRole.STREAM
    return ObjectRole.IMAGE if start.startswith(_IMAGE_MAGIC) else ObjectRole.OTHER
