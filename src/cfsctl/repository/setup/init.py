"""Initialise a repository in a directory.

At any time, the directory has either a complete meta.json or none: the file is linked in one step and never
overwritten. If two processes initialise the same path, one finds the file of the other. A reset is the
exception. It removes every name in the repository, so it first waits until no other process uses the
repository, then checks what it is going to write, and removes last.
"""

from __future__ import annotations

import contextlib
import errno
import os
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import RepositoryError
from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.files import fsync_directory, make_directory, read_umask
from cfsctl.linux.flags import DIRECTORY_FLAGS
from cfsctl.progress import silent
from cfsctl.repository.locking.lock import RepositoryLock
from cfsctl.repository.metadata.config import AlgorithmMismatchError, Config, ConfigError
from cfsctl.repository.metadata.file import read_metadata, write_metadata
from cfsctl.repository.names.names import REFS
from cfsctl.repository.objects.space import explain_no_space
from cfsctl.repository.setup.upgrade import CannotInferError, has_objects_directory, infer, upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.progress import Reporter

_DIRECTORY_MODE = 0o700
_PARENT_BITS = 0o300
"""What the owner needs to make something in a directory, regardless of the umask."""
_MAX_REMOVALS = 20
"""How often the directory may vanish while it becomes a repository."""

_CATEGORIES = ("streams", "images")


class ConfigConflictError(RepositoryError):
    """An existing repository with a different configuration."""


class InitStatus(Enum):
    """What came of initialising a path."""

    CREATED = "created"
    EXISTED = "existed"
    PRESERVED = "preserved"
    UPGRADED = "upgraded"


class InitRequest(NamedTuple):
    """How a repository is to be made.

    Attributes:
        algorithm: Hash algorithm of its objects.
        erofs_version: Format of its images.
        insecure: Do without fs-verity.
        ensure: Do not change an existing repository, except to upgrade one in the old format.
        reset_metadata: Remove all images, streams and refs first; objects stay.
    """

    algorithm: Algorithm = Algorithm.SHA512
    erofs_version: FormatVersion = FormatVersion.V1
    insecure: bool = False
    ensure: bool = False
    reset_metadata: bool = False

    @property
    def config(self) -> Config:
        """The configuration that is requested."""
        return Config.new(self.algorithm, self.erofs_version)


def init_repository(
    path: str,
    *,
    algorithm: Algorithm = Algorithm.SHA512,
    erofs_version: FormatVersion = FormatVersion.V1,
    insecure: bool = False,
    ensure: bool = False,
    reset_metadata: bool = False,
    lock_timeout_s: float | None = None,
    reporter: Reporter = silent,
) -> InitStatus:
    """Make the directory `path` a repository; it and its parents are created where missing.

    Args:
        path: Where the repository is to be created.
        algorithm: Hash algorithm of its objects.
        erofs_version: Format of its images.
        insecure: Do without fs-verity.
        ensure: Do not change an existing repository, except to upgrade one in the old format.
        reset_metadata: Remove all images, streams and refs first; objects stay.
        lock_timeout_s: Longest time to wait for other users of the repository; None waits forever.
        reporter: Told when they have to be waited for.

    Raises:
        ConfigConflictError: There is a repository with another configuration.
        AlgorithmMismatchError: There are objects of another algorithm.
        ConfigError: There is a meta.json that cannot be read.
        VerityRequiredError: The file system does not support fs-verity and `insecure` is false.
        LockedError: Others use the repository and did not stop in time.
    """
    request = InitRequest(algorithm, erofs_version, insecure, ensure, reset_metadata)
    for _ in range(_MAX_REMOVALS):
        # Another one that fails at the same time takes the directory away that it has made, perhaps from us.
        with contextlib.suppress(FileNotFoundError):
            return _init_once(path, request, lock_timeout_s, reporter)
    return _init_once(path, request, lock_timeout_s, reporter)


def _init_once(
    path: str, request: InitRequest, lock_timeout_s: float | None, reporter: Reporter
) -> InitStatus:
    with _made_directory(path) as dirfd:
        lock = RepositoryLock(dirfd, path, reporter)
        lock.share(lock_timeout_s)
        try:
            with relative_to(path):
                if request.reset_metadata:
                    with lock.exclusive(lock_timeout_s):
                        return _reset(dirfd, request)
                return _ensure(dirfd, request) if request.ensure else _init(dirfd, request)
        except OSError as error:
            # File systems report different errors for a directory that has been removed.
            if os.fstat(dirfd).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
            explain_no_space(error, dirfd, path)
            raise


@contextlib.contextmanager
def _made_directory(path: str) -> Iterator[int]:
    """Open a directory for the block, made with its parents where missing.

    What was made and is empty goes again if the block fails.
    """
    made: list[str] = []
    try:
        _make_directories(path, made)
        dirfd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield dirfd
        finally:
            os.close(dirfd)
    except BaseException:
        for directory in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        raise


def _make_directories(path: str, made: list[str]) -> None:
    """Make a directory and its parents, and note those that were missing, outermost first."""
    missing = []
    place = path.rstrip("/") or "/"
    while not os.path.lexists(place):
        missing.append(place)
        place = os.path.dirname(place) or "."
    for directory in reversed(missing):
        try:
            if directory == missing[0]:
                make_directory(directory, _DIRECTORY_MODE)
            else:  # as `mkdir -p` does
                make_directory(directory, _PARENT_BITS | 0o777 & ~read_umask())
        except FileExistsError:  # another process was faster
            continue
        made.append(directory)
    for directory in missing:
        fd = os.open(os.path.dirname(directory) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _init(dirfd: int, request: InitRequest) -> InitStatus:
    metadata = read_metadata(dirfd)
    if metadata is None:
        _check_objects(dirfd, request.algorithm)
        try:
            write_metadata(dirfd, request.config, is_secure=not request.insecure)
        except FileExistsError:
            metadata = read_metadata(dirfd)
            if metadata is None:
                raise
        else:
            return InitStatus.CREATED
    _check_same(metadata.config, request.config)
    metadata.config.check_supported()
    return InitStatus.EXISTED


def _check_objects(dirfd: int, algorithm: Algorithm) -> None:
    """Check that existing objects use the requested algorithm.

    Raises:
        AlgorithmMismatchError: They are not.
    """
    try:
        found = infer(dirfd).algorithm
    except CannotInferError:
        return
    if found is not algorithm:
        raise AlgorithmMismatchError(
            f"the existing objects use {found.label}, not of {algorithm.label}",
            hint=f"use --algorithm {found.label}, or another directory",
        )


def _check_same(found: Config, wanted: Config) -> None:
    differences = found.list_differences(wanted)
    if not differences:
        return
    shown = {"algorithm", "erofs_formats.default"}
    others = [name for name in differences if name not in shown]
    more = "" if shown & set(differences) else f"; they differ in {', '.join(others)}"
    raise ConfigConflictError(
        "repository already initialized with different configuration"
        f" ({_describe(found)}); cannot re-initialize with ({_describe(wanted)}){more}",
        hint="use --ensure to keep the existing configuration",
    )


def _describe(config: Config) -> str:
    return f"algorithm: {config.algorithm.label}, erofs_version: V{int(config.default_format)}"


def _ensure(dirfd: int, request: InitRequest) -> InitStatus:
    metadata = read_metadata(dirfd)
    status = InitStatus.PRESERVED
    if metadata is None:
        try:
            status = _create_or_upgrade(dirfd, request)
        except FileExistsError:
            # Another process was faster, so its file is used.
            metadata = read_metadata(dirfd)
            if metadata is None:
                raise
    if metadata is not None:
        metadata.config.check_supported(request.algorithm)
    return status


def _create_or_upgrade(dirfd: int, request: InitRequest) -> InitStatus:
    if has_objects_directory(dirfd):
        try:
            upgrade(dirfd, request.algorithm)
        except CannotInferError:
            pass  # an empty ``objects`` is not a repository that could be upgraded
        else:
            return InitStatus.UPGRADED
    write_metadata(dirfd, request.config, is_secure=not request.insecure)
    return InitStatus.CREATED


def _reset(dirfd: int, request: InitRequest) -> InitStatus:
    """Write new metadata and remove all names; the caller holds the exclusive lock."""
    _check_objects(dirfd, request.algorithm)
    _check_ours(dirfd)
    has_objects = has_objects_directory(dirfd)
    write_metadata(dirfd, request.config, is_secure=not request.insecure, replace=True)
    for name in _CATEGORIES:
        _remove_tree(dirfd, name)
    fsync_directory(dirfd)
    return InitStatus.UPGRADED if request.ensure and has_objects else InitStatus.CREATED


def _check_ours(dirfd: int) -> None:
    """Check that a newer program's repository is not thrown away; a broken meta.json may be replaced."""
    try:
        metadata = read_metadata(dirfd)
    except (ConfigError, OSError):
        return
    if metadata is not None:
        metadata.config.check_supported()


def _remove_tree(dirfd: int, name: str) -> None:
    """Remove a category: refs before what they name, so that none dangles if this is interrupted."""
    import shutil  # only for a reset

    try:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=dirfd)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(name, dir_fd=dirfd)
        return
    try:
        _remove_tree(fd, REFS)
    finally:
        os.close(fd)
    shutil.rmtree(name, dir_fd=dirfd)
