"""Create an image of a directory, with the scan cache and early flushing."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Final

from cfsctl.progress import silent
from cfsctl.repository.names.names import check_new_ref
from cfsctl.repository.objects.space import needing
from cfsctl.scan.cache import FileCache
from cfsctl.scan.container_root import scan_container_root
from cfsctl.scan.files import StoringError
from cfsctl.scan.fingerprint import Fingerprint
from cfsctl.scan.image_memory import ImageMemory
from cfsctl.scan.images import build_images
from cfsctl.tree.transform import XattrFilter
from cfsctl.tree.walk import iter_nodes

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem

_LARGE: Final = 4000
"""Files of a tree from which on its images take as long as a sync."""


def _find_size(error: OSError) -> int | None:
    """Return the size of the file that could not be stored; how much of the others is new is not known."""
    return os.lstat(error.filename).st_size if isinstance(error, StoringError) else None


def create_image(
    repository: Repository,
    path: str,
    ref: str | None = None,
    *,
    xattr_filter: XattrFilter = XattrFilter.ALLOWLIST_ONLY,
    propagate_usr: bool = True,
    bootable: bool = False,
    use_cache: bool = True,
    verify_cache: bool = False,
    reporter: Reporter = silent,
) -> ObjectID:
    """Store a directory and make images of it, one in each of the repository's formats.

    Args:
        repository: Where, open.
        path: The directory.
        ref: A ref for the image in the default format, or None.
        xattr_filter: See `scan_container_root`.
        propagate_usr: See `scan_container_root`.
        bootable: See `scan_container_root`.
        use_cache: Let the repository remember what was read, and read less the next time.
        verify_cache: Read everything, and fail if the cache says something else.
        reporter: Told how many entries have been seen, and of trouble with the cache.

    Returns:
        The ID of the image in the default format.

    Raises:
        InvalidNameError: The ref cannot be one; nothing was stored.
        NotWritableError: The repository cannot be written to.
        TransformError: There is no ``/usr``.
        NotBootableError: A bootable tree lacks ``/boot`` or ``/sysroot``.
        FormatError: A boot entry or the SELinux policy is malformed.
        ChangedError: Something changed in the meantime.
        StaleCacheError: The cache was to be verified, and is wrong.
        ErofsError: The tree does not fit into an image.
        OSError: Something cannot be read or stored.
    """
    if ref is not None:
        check_new_ref(ref, "image name")
    repository.check_writable()
    algorithm = repository.algorithm
    cache = fingerprint = None
    if use_cache:
        cache = FileCache.load(repository.dirfd, algorithm, verify=verify_cache, reporter=reporter)
        # Boot entries and the SELinux policy are no part of a scan's fingerprint.
        fingerprint = None if bootable or verify_cache else Fingerprint()
    with needing(_find_size):
        filesystem = scan_container_root(
            path,
            algorithm=algorithm,
            store=repository.objects,
            xattr_filter=xattr_filter,
            propagate_usr=propagate_usr,
            bootable=bootable,
            cache=cache,
            fingerprint=fingerprint,
            reporter=reporter,
        )
    # What was stored, and the scan cache, are on their way to the disk while the images are made.
    with repository.flushing(is_worthwhile=_is_large(filesystem)):
        if cache is not None:
            cache.save(reporter=reporter)
        if fingerprint is None:
            return build_images(repository, filesystem, ref)
        memory = ImageMemory(repository, fingerprint, xattr_filter, propagate_usr=propagate_usr)
        image_id = build_images(repository, filesystem, ref, known=memory)
        memory.save()
        return image_id


def _is_large(filesystem: FileSystem) -> bool:
    """Return whether the images take long enough to write files to the disk in the meantime."""
    return next(islice(iter_nodes(filesystem), _LARGE, None), None) is not None
