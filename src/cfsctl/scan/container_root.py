"""Scan a directory that is the root of a container; `cfsctl.tree.transform` says what becomes of its tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.progress import silent
from cfsctl.scan.scanner import scan_directory
from cfsctl.tree.transform import XattrFilter, apply_oci_transform

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm
    from cfsctl.progress import Reporter
    from cfsctl.scan.cache import FileCache
    from cfsctl.scan.fingerprint import Fingerprint
    from cfsctl.scan.store import ObjectSink
    from cfsctl.tree.model import FileSystem


def scan_container_root(
    path: str,
    *,
    algorithm: Algorithm,
    store: ObjectSink | None = None,
    xattr_filter: XattrFilter = XattrFilter.ALLOWLIST_ONLY,
    propagate_usr: bool = True,
    bootable: bool = False,
    workers: int | None = None,
    cache: FileCache | None = None,
    fingerprint: Fingerprint | None = None,
    reporter: Reporter = silent,
) -> FileSystem:
    """Return the tree of a directory that holds the root of a container.

    Args:
        path: The directory.
        algorithm: Hash algorithm of the objects.
        store: Where large files are stored, or None to compute their IDs only.
        xattr_filter: Which extended attributes stay.
        propagate_usr: Apply `apply_oci_transform`; otherwise the tree and all attributes stay as they are.
        bootable: Then make the tree bootable, see `make_directory_bootable`. Boot entries are checked if
            the files are stored.
        workers: See `scan_directory`.
        cache: See `scan_directory`.
        fingerprint: See `scan_directory`; it is that of the directory, before anything is changed.
        reporter: See `scan_directory`.

    Raises:
        TransformError: There is no ``/usr``.
        NotBootableError: A bootable tree lacks ``/boot`` or ``/sysroot``.
        FormatError: A boot entry or the SELinux policy is malformed.
        ChangedError: A file changed in the meantime.
        OSError: Something cannot be read.
    """
    filesystem = scan_directory(
        path,
        algorithm=algorithm,
        store=store,
        # What will not stay need not be read.
        keep_xattr=xattr_filter.keeps if propagate_usr else None,
        workers=workers,
        cache=cache,
        fingerprint=fingerprint,
        reporter=reporter,
    )
    if propagate_usr:
        apply_oci_transform(filesystem, None)  # the scan has kept what the filter keeps
    if bootable:
        from cfsctl.scan.bootable import make_directory_bootable  # few images are

        make_directory_bootable(path, filesystem, algorithm, check_entries=store is not None)
    return filesystem
