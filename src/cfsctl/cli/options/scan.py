"""Options and helpers of the commands that scan a directory."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, TypedDict

from cfsctl.cli.context import HomeMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    from cfsctl.cli.context import Session
    from cfsctl.digest import Algorithm
    from cfsctl.scan import FileCache
    from cfsctl.tree import FileSystem


class ScanArguments(TypedDict):
    """What `cfsctl.cli.options.common.scan_options` adds to a command."""

    path: str
    xattrs: str
    no_propagate_usr_to_root: bool
    bootable: bool
    no_cache: bool
    verify_cache: bool


def scan(session: Session, algorithm: Algorithm, **arguments: Unpack[ScanArguments]) -> FileSystem:
    """Scan as the command line says, without storing anything.

    The scan cache of the repository is used if there is one, and left as it is.

    Args:
        session: Says where the repository is.
        algorithm: Hash algorithm of the objects.
        **arguments: As given on the command line.
    """
    from cfsctl.scan import scan_container_root  # noqa: PLC0415 - keeps --help quick
    from cfsctl.tree.transform import XattrFilter  # noqa: PLC0415 - the same

    with _cache_at_hand(session, algorithm, arguments) as cache:
        return scan_container_root(
            arguments["path"],
            algorithm=algorithm,
            xattr_filter=XattrFilter(arguments["xattrs"]),
            propagate_usr=not arguments["no_propagate_usr_to_root"],
            bootable=arguments["bootable"],
            cache=cache,
            reporter=session.progress,
        )


def _load_cache(
    session: Session, dirfd: int, algorithm: Algorithm, arguments: ScanArguments
) -> FileCache | None:
    if arguments["no_cache"]:
        return None
    from cfsctl.scan import FileCache  # noqa: PLC0415 - keeps --help quick

    return FileCache.load(dirfd, algorithm, verify=arguments["verify_cache"], reporter=session.progress)


@contextlib.contextmanager
def _cache_at_hand(
    session: Session, algorithm: Algorithm, arguments: ScanArguments
) -> Iterator[FileCache | None]:
    """Yield the cache of the repository that would be used, if there is one."""
    dirfd = -1
    try:
        if not session.no_repo and not arguments["no_cache"]:
            with contextlib.suppress(OSError, HomeMissingError):
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                dirfd = os.open(session.repository_path(), flags)
        yield _load_cache(session, dirfd, algorithm, arguments) if dirfd >= 0 else None
    finally:
        if dirfd >= 0:
            os.close(dirfd)
