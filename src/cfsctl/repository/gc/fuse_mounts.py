"""Find the images of a repository that are served by FUSE.

A running server holds the lock of its repository, so a collection waits for it. But locks can be lost, for
example on a network file system. So its images count as mounted, as those do that the kernel has mounted.

The ID of the image is in the source of the mount, and a server tells it, see
`cfsctl.repository.mounting.servers`. Any user can write such a source, which keeps one image at most. Neither
the mount nor the server is asked anything.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cfsctl.digest import DigestFormatError, parse_object_id
from cfsctl.fuse.device import parse_source
from cfsctl.linux.mountinfo import read_own_mounts
from cfsctl.repository.gc.mount_finder import DETACHED, LiveMount
from cfsctl.repository.mounting.servers import find_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.repository.objects.store import ObjectStore


def find_fuse_mounts(store: ObjectStore) -> list[LiveMount]:
    """Return the FUSE mounts that need an image of a repository, or of another one with the same image."""
    found: dict[tuple[str, str], LiveMount] = {}
    for mountpoint, process, text in _iter_candidates():
        object_id = _find_image(store, text)
        if object_id is not None:
            live = LiveMount(mountpoint, process, (object_id,), is_certain=True, kind="fuse")
            found.setdefault((mountpoint, text), live)
    return list(found.values())


def _iter_candidates() -> Iterator[tuple[str, str, str]]:
    """Yield mount point, a process that sees it, and what is said to be the image's ID."""
    namespace = ""
    mounted = set()
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/mnt")
        for mount in read_own_mounts():
            text = parse_source(os.fsdecode(mount.source))
            if text is not None:
                mounted.add(mount.mount_id)
                yield os.fsdecode(mount.mountpoint), "self", text
    for server in find_servers():
        is_here = server.namespace == namespace
        if not (is_here and server.served.mount_id in mounted):
            mountpoint = DETACHED if is_here else server.served.mountpoint
            yield mountpoint, str(server.pid), server.served.image


def _find_image(store: ObjectStore, text: str) -> ObjectID | None:
    try:
        object_id = parse_object_id(text, store.algorithm)
    except DigestFormatError:
        return None
    return object_id if store.contains(object_id) else None
