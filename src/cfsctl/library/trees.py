"""What is computed of a directory, without storing anything."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.ids import ObjectID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.library.events import Progress
    from cfsctl.library.paths import StrPath
    from cfsctl.scan import FileCache
    from cfsctl.tree.model import FileSystem
    from cfsctl.tree.transform import XattrFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """How a directory is read.

    Attributes:
        as_root: It is the root of a system or of a container: the root directory takes the metadata of
            ``/usr``, ``/run`` is emptied, and only portable extended attributes stay.
        bootable: Empty ``/boot`` and ``/sysroot``, and label files as the tree's own SELinux policy says.
        xattrs: With `as_root`, the extended attributes that stay; None is ``security.capability``.
        cache: Repository whose scan cache is used, and left as it is; None uses none.
        verify_cache: Read everything, and fail if the cache says something else.
    """

    as_root: bool = True
    bootable: bool = False
    xattrs: XattrFilter | None = None
    cache: StrPath | None = None
    verify_cache: bool = False


DEFAULT_SCAN_OPTIONS = ScanOptions()


@cancellable
def compute_id(
    path: StrPath,
    options: ScanOptions = DEFAULT_SCAN_OPTIONS,
    *,
    algorithm: Algorithm = Algorithm.SHA512,
    erofs_version: FormatVersion = FormatVersion.V1,
    progress: Progress | None = None,
) -> ObjectID:
    """Return the ID of the image that `Repository.create_image` makes of a directory; nothing is stored.

    Args:
        path: The directory.
        options: How it is read.
        algorithm: Hash of the objects, and of the ID.
        erofs_version: Format of the image.
        progress: Told how many entries have been seen.

    Raises:
        CfsError: The tree changed in the meantime, or cannot be an image.
    """
    from cfsctl.scan import compute_image_id

    filesystem = _scan(path, options, algorithm, progress)
    return ObjectID(compute_image_id(filesystem, erofs_version, algorithm))


@cancellable
def create_dumpfile(
    path: StrPath,
    options: ScanOptions = DEFAULT_SCAN_OPTIONS,
    *,
    algorithm: Algorithm = Algorithm.SHA512,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Return a directory as a composefs dump, in pieces; nothing is stored.

    Raises:
        CfsError: The tree changed in the meantime, or cannot be an image.
    """
    from cfsctl.dumpfile import iter_dump

    return iter_dump(_scan(path, options, algorithm, progress))


def format_kernel_argument(
    image_id: ObjectID, *, erofs_version: FormatVersion = FormatVersion.V1, insecure: bool = False
) -> str:
    """Return the kernel argument that names an image for the boot.

    Args:
        image_id: The image.
        erofs_version: Its format.
        insecure: Boot without fs-verity too.
    """
    from cfsctl.boot.cmdline import format_argument

    return format_argument(image_id, is_format_2=erofs_version is FormatVersion.V2, is_insecure=insecure)


def _scan(path: StrPath, options: ScanOptions, algorithm: Algorithm, progress: Progress | None) -> FileSystem:
    from cfsctl.scan import scan_container_root
    from cfsctl.tree.transform import XattrFilter

    with _open_cache(options, algorithm, progress) as cache:
        return scan_container_root(
            os.fspath(path),
            algorithm=algorithm,
            xattr_filter=options.xattrs or XattrFilter.ALLOWLIST_ONLY,
            propagate_usr=options.as_root,
            bootable=options.bootable,
            cache=cache,
            reporter=make_reporter(progress),
        )


@contextlib.contextmanager
def _open_cache(
    options: ScanOptions, algorithm: Algorithm, progress: Progress | None
) -> Iterator[FileCache | None]:
    """Yield the scan cache of a repository, if there is one."""
    if options.cache is None:
        yield None
        return
    from cfsctl.scan import FileCache

    try:
        dirfd = os.open(options.cache, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield FileCache.load(dirfd, algorithm, verify=options.verify_cache, reporter=make_reporter(progress))
    finally:
        os.close(dirfd)
