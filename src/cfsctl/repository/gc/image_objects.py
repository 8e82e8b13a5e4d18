"""The objects that many images refer to, read in parallel if that is faster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, describe
from cfsctl.repository.names.images import map_file

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.repository.objects.store import ObjectStore

_WORTH_WORKERS: Final = 32 << 20
"""Bytes of images from which on it pays to start processes."""


class ImageObjects(NamedTuple):
    """What one image refers to.

    Attributes:
        image_id: The image.
        object_ids: IDs of the objects.
        problem: Why the image could not be read, or empty.
    """

    image_id: ObjectID
    object_ids: set[ObjectID]
    problem: str


def read_images(store: ObjectStore, image_ids: Sequence[ObjectID]) -> Iterator[ImageObjects]:
    """Yield what each image refers to, in no particular order.

    An image whose files are objects of the other hash refers to no object of this repository.
    """
    sizes = _find_sizes(store, image_ids)
    reader = _Reader(store, sizes)
    if len(image_ids) < 2 or sum(sizes.values()) < _WORTH_WORKERS:
        yield from map(reader, image_ids)
        return
    from cfsctl.workers import WorkerPool  # few repositories have that many images

    with WorkerPool(lambda: reader) as pool:
        yield from pool.map_unordered(image_ids)


def read_image(store: ObjectStore, image_id: ObjectID) -> set[ObjectID]:
    """Return what one image refers to.

    Raises:
        CfsError, OSError: It cannot be read, or is not an image.
    """
    return _Reader(store).read(image_id)


def _find_sizes(store: ObjectStore, image_ids: Sequence[ObjectID]) -> dict[ObjectID, int]:
    """Return the sizes in bytes of those images that are regular files."""
    found = ((image_id, store.stat(image_id)) for image_id in image_ids)
    return {image_id: status.st_size for image_id, status in found if status is not None}


class _Reader:
    """Reads one image after the other; lives in a worker or in this process."""

    def __init__(self, store: ObjectStore, listed: Container[ObjectID] = ()) -> None:
        """Take the store, and the images that were just found to be regular files."""
        self._store = store
        self._listed = listed

    def __call__(self, image_id: ObjectID) -> ImageObjects:
        try:
            return ImageObjects(image_id, self.read(image_id), "")
        except (CfsError, OSError) as error:
            return ImageObjects(image_id, set(), describe(error))

    def read(self, image_id: ObjectID) -> set[ObjectID]:
        from cfsctl.erofs.read.attributes import WrongAlgorithmError  # only where images are
        from cfsctl.erofs.read.objects import collect_objects

        size = None
        if image_id in self._listed:
            fd, size = self._store.open_listed(image_id)
        else:
            fd = self._store.open(image_id)
        try:
            with map_file(fd, size) as data:
                return collect_objects(data, self._store.algorithm)
        except WrongAlgorithmError:
            return set()
        finally:
            os.close(fd)
