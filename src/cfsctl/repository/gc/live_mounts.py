"""Find the images of a repository that are mounted at this moment, in any namespace.

The visible information depends on how an image was mounted:

    EROFS from a file           the path of the file
    EROFS on a loop device      the path of the file behind the device
    overlay over EROFS          as above, if that EROFS is mounted somewhere by itself; by descriptor it
                                is not, and then mountinfo has only ``composefs:<what the user typed>`` and
                                the directories of objects. What was typed may be a ref that has moved since.

So an overlay is queried for properties of the image below: its number of blocks and inodes, and the mode and
mtime of its root. Every image in the repository with the same four values counts as mounted. This may keep an
image too many, but never removes one in use. If the values are not available, because the overlay has an
upper layer or cannot be reached, every image counts as mounted.

Hidden mounts are detected by counting (see `cfsctl.linux.erofs_instances`): every mounted image is an EROFS,
so if all EROFS instances of the kernel appear in a mount table, nothing is hidden. Otherwise, detached mounts
that are still in use are searched for, and everything that could not be inspected is reported as a gap.

Images that are served by FUSE name themselves, see `cfsctl.repository.gc.fuse_mounts`.

Unprivileged users can mount too, and their file systems may never answer. So no mount is accessed before it
is known that only a privileged user can have made it; until then, only data cached by the kernel is used
(`open_cached`, `stat_cached`).
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.linux.erofs_instances import count_erofs
from cfsctl.linux.mountinfo import iter_unlisted, read_mount_table
from cfsctl.repository.gc.fuse_mounts import find_fuse_mounts
from cfsctl.repository.gc.mount_finder import EROFS, OVERLAY, MountFinder

if TYPE_CHECKING:
    from collections.abc import Collection

    from cfsctl.digest import ObjectID
    from cfsctl.linux.mountinfo import Mount, MountTable
    from cfsctl.repository.gc.mount_finder import LiveMount
    from cfsctl.repository.objects.store import ObjectStore

_PAUSES_S: Final = (0.02, 0.1, 0.4)
"""How long to wait before each further look, seconds. The kernel takes some time to dismantle the mounts of a
namespace whose last process has ended, and until then they cannot be told from hidden ones."""


class Look(NamedTuple):
    """What a look at all mounts gave.

    Attributes:
        mounts: The mounts that need objects of the repository, or may do so.
        gaps: What could not be looked at although an image may be mounted there, one phrase each.
    """

    mounts: list[LiveMount]
    gaps: list[str]


class _Round(NamedTuple):
    """The same of one try.

    Attributes:
        mounts: By device number.
        gaps: See `Look`; without those for `namespaces`.
        namespaces: Mount namespaces without processes that are kept by an open file, with a process that has
            it open.
    """

    mounts: dict[int, LiveMount]
    gaps: list[str]
    namespaces: dict[str, int]

    @property
    def has_gaps(self) -> bool:
        return bool(self.gaps or self.namespaces)

    @property
    def is_certain(self) -> bool:
        return not self.has_gaps and all(live.is_certain for live in self.mounts.values())


def find_live_mounts(store: ObjectStore, image_ids: Collection[ObjectID]) -> Look:
    """Return all mounts that can be seen and that need objects of a repository.

    Args:
        store: The repository's objects.
        image_ids: All images of the repository.
    """
    found = _look_around(store, image_ids)
    for pause_s in _PAUSES_S:
        if found.is_certain:
            break
        time.sleep(pause_s)
        # A mount that came or went while it was looked at shows little of itself, and would keep everything.
        again = _look_around(store, image_ids)
        mounts = {device: live for device, live in again.mounts.items() if device in found.mounts}
        # Another program that looks at mounts has a namespace open for a moment, and each time another one.
        namespaces = {name: pid for name, pid in again.namespaces.items() if name in found.namespaces}
        found = _Round(mounts, again.gaps if found.gaps else [], namespaces)
        if not found.has_gaps:
            break
    lives = [*found.mounts.values(), *find_fuse_mounts(store)]
    kept = {
        f"mount namespace without processes that process {pid} has open" for pid in found.namespaces.values()
    }
    return Look(sorted(lives, key=lambda live: live.mountpoint), [*found.gaps, *sorted(kept)])


def _look_around(store: ObjectStore, image_ids: Collection[ObjectID]) -> _Round:
    """Return what is mounted at this moment."""
    erofs_count = count_erofs()
    if erofs_count == 0:
        return _Round({}, [], {})
    try:
        store.objects_fd()
    except FileNotFoundError:  # no objects, so nothing is mounted from here
        return _Round({}, [], {})
    table = read_mount_table()
    later_count = count_erofs()
    if later_count is not None:
        # One that was mounted in between is in the table, and must not stand for one that is hidden.
        erofs_count = None if erofs_count is None else max(erofs_count, later_count)
    by_device: dict[int, list[Mount]] = {}
    for mount in table.mounts:
        if mount.kind in {EROFS, OVERLAY}:
            by_device.setdefault(mount.device, []).append(mount)
    finder = MountFinder(store, image_ids, table.mounts)
    results = {device: finder.find(views) for device, views in by_device.items()}
    gaps: list[str] = []
    namespaces: dict[str, int] = {}
    if erofs_count is None or erofs_count > sum(finder.accounts_for_erofs(v) for v in by_device.values()):
        gaps += table.gaps
        with contextlib.suppress(OSError):  # then there is a gap for it already
            results |= _find_detached(finder, table, gaps, namespaces)
    return _Round({device: live for device, live in results.items() if live is not None}, gaps, namespaces)


def _find_detached(
    finder: MountFinder, table: MountTable, gaps: list[str], namespaces: dict[str, int]
) -> dict[int, LiveMount | None]:
    """Return what is known about mounts that no table lists."""
    results: dict[int, LiveMount | None] = {}
    own_devices = {mount.device for mount in table.mounts}
    listed = {mount.mount_id for mount in table.mounts}
    for directory in iter_unlisted(listed, gaps, table.namespaces, namespaces):
        device = finder.find_device(directory.fd)
        if device in own_devices or results.get(device) is not None:
            continue
        results[device] = finder.find_detached(directory)
    return results
