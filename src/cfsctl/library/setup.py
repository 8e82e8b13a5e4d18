"""Making a directory a repository."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.library.configuration import Configuration
from cfsctl.library.events import cancellable, make_reporter
from cfsctl.repository import InitStatus as InitStatus  # noqa: PLC0414 - exported from here
from cfsctl.repository import check_algorithm, read_config
from cfsctl.repository import init_repository as _init
from cfsctl.repository.metadata.config import parse_algorithm as parse_algorithm  # noqa: PLC0414 - the same

if TYPE_CHECKING:
    from cfsctl.library.events import Progress
    from cfsctl.library.paths import StrPath


def read_configuration(
    path: StrPath, algorithm: Algorithm | None = None, *, may_infer: bool = True
) -> Configuration:
    """Return how a repository is configured, without opening it.

    Args:
        path: Its directory.
        algorithm: The hash that it must have, or None for any.
        may_infer: Tell the hash of a repository without a meta.json from its objects.

    Raises:
        NotARepositoryError: None exists.
        RepositoryError: It has another hash, or its meta.json is damaged.
    """
    config = read_config(os.fspath(path), may_infer=may_infer)
    check_algorithm(config.algorithm, algorithm)
    return Configuration.of(config)


@cancellable
def init_repository(
    path: StrPath,
    *,
    algorithm: Algorithm = Algorithm.SHA512,
    erofs_version: FormatVersion = FormatVersion.V1,
    insecure: bool = False,
    exist_ok: bool = False,
    reset_metadata: bool = False,
    lock_timeout_s: float | None = None,
    progress: Progress | None = None,
) -> InitStatus:
    """Make a directory a repository, and return whether it was one already.

    Args:
        path: The directory; it and its parents are made where they are missing.
        algorithm: Hash of its objects.
        erofs_version: Format of its images.
        insecure: Do without fs-verity.
        exist_ok: Leave a repository that exists as it is; without, it must be configured as asked for.
        reset_metadata: Remove all images, streams and refs first; objects stay.
        lock_timeout_s: Longest time to wait for a collection to end; None waits forever.
        progress: Told when that has to be waited for.

    Raises:
        RepositoryError: There is a repository with another configuration, or no fs-verity.
        LockedError: The timeout expired.
    """
    return _init(
        os.fspath(path),
        algorithm=algorithm,
        erofs_version=erofs_version,
        insecure=insecure,
        ensure=exist_ok,
        reset_metadata=reset_metadata,
        lock_timeout_s=lock_timeout_s,
        reporter=make_reporter(progress),
    )
