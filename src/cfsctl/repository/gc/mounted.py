"""What is mounted from a repository, with the names of the images."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import qualified
from cfsctl.errors import CfsError
from cfsctl.repository.gc.live_mounts import find_live_mounts

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.repository.repository import Repository

_MAX_STEPS: Final = 3
"""How many streams away from a ref an image is looked for: a tag names a manifest, that a config."""


class MountedImage(NamedTuple):
    """A mount that uses a repository, or may do so.

    Attributes:
        mountpoint: Where it is; if that is in another mount namespace, with a process that sees it.
        kind: ``kernel`` or ``fuse``.
        image_ids: The images that it may be of; empty if it is an image that is not in this repository.
        refs: What leads to these images now: refs of images, and of streams such as ``ostree/TAG``.
        is_certain: Whether it is known which image it is.
    """

    mountpoint: str
    kind: str
    image_ids: tuple[ObjectID, ...]
    refs: tuple[str, ...]
    is_certain: bool

    def as_dict(self) -> dict[str, object]:
        """Return it as it is printed in JSON, in the order of its keys."""
        return {
            "mountpoint": self.mountpoint,
            "kind": self.kind,
            "images": [qualified(image_id) for image_id in self.image_ids],
            "refs": list(self.refs),
            "certain": self.is_certain,
        }


class MountList(NamedTuple):
    """What is mounted.

    Attributes:
        mounts: The mounts, by mount point.
        gaps: What could not be looked at although an image may be mounted there, one phrase each.
    """

    mounts: list[MountedImage]
    gaps: list[str]


def list_mounts(repository: Repository) -> MountList:
    """Return what is mounted from a repository at this moment."""
    look = find_live_mounts(repository.objects, repository.images.list_ids())
    wanted = {image_id for mount in look.mounts for image_id in mount.image_ids}
    names = _find_names(repository, wanted) if wanted else {}
    mounts = [
        MountedImage(
            mount.where,
            mount.kind,
            mount.image_ids,
            tuple(sorted(name for image_id in mount.image_ids for name in names.get(image_id, ()))),
            mount.is_certain,
        )
        for mount in look.mounts
    ]
    return MountList(mounts, look.gaps)


def _find_names(repository: Repository, wanted: set[ObjectID]) -> dict[ObjectID, set[str]]:
    """Return the refs that lead to images."""
    names: dict[ObjectID, set[str]] = {}
    for ref in repository.images.list_refs():
        with contextlib.suppress(CfsError, OSError):
            image_id = repository.images.find(f"refs/{ref.name}")
            if image_id in wanted:
                names.setdefault(image_id, set()).add(ref.name)
    for ref in repository.streams.list_refs():
        for image_id in _follow(repository, f"refs/{ref.name}") & wanted:
            names.setdefault(image_id, set()).add(ref.name)
    return names


def _follow(repository: Repository, name: str) -> set[ObjectID]:
    """Return the objects that a stream names, and those that these name if they are streams."""
    found: set[ObjectID] = set()
    with contextlib.suppress(CfsError, OSError):
        stream_id = repository.streams.find(name)
        pending = set() if stream_id is None else {stream_id}
        for _ in range(_MAX_STEPS):
            found |= pending
            pending = {target for one in pending for target in _read_refs(repository, one)} - found
        found |= pending
    return found


def _read_refs(repository: Repository, object_id: ObjectID) -> set[ObjectID]:
    try:
        with repository.streams.open_object(object_id) as reader:
            return set(reader.named_refs.values())
    except (CfsError, OSError):  # not a stream
        return set()
