"""Upgrade old repositories that have no meta.json.

Such a repository is recognised by its ``objects``. The hash is inferred from the length of an object's name,
the security from that object's fs-verity, and the image format from the stored images. composefs-rs always
writes format 1 here, although the program that made these repositories only knew format 2, and then does not
find their images.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import CfsError, RepositoryError
from cfsctl.fsverity.kernel import VerityMissingError, VerityUnsupportedError, measure
from cfsctl.linux.files import open_regular
from cfsctl.linux.flags import DIRECTORY_FLAGS
from cfsctl.repository.metadata.config import AlgorithmMismatchError, Config
from cfsctl.repository.metadata.file import NotARepositoryError, write_metadata
from cfsctl.repository.names.links import LinkDirectory
from cfsctl.repository.names.names import find_object_in
from cfsctl.repository.objects.fan_out import OBJECTS
from cfsctl.repository.objects.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALGORITHMS = {2 * (algorithm.digest_size - 1): algorithm for algorithm in Algorithm}
"""Algorithm by the length of an object's name below its fan-out directory."""

_HEADERS_SIZE = 1152
"""Bytes of an image up to the first inode, which is what its version is read from."""

_MAX_IMAGES_READ = 64
"""Images looked at; one that can be read is enough."""


class CannotInferError(NotARepositoryError):
    """A repository without meta.json, and too little in it to write one."""


class Inferred(NamedTuple):
    """What a repository without meta.json is.

    Attributes:
        algorithm: Hash algorithm of its objects.
        is_secure: Whether the object that was looked at has fs-verity.
    """

    algorithm: Algorithm
    is_secure: bool


def has_objects_directory(dirfd: int) -> bool:
    """Return whether a directory has ``objects``, as every repository of the old format does."""
    try:
        os.stat(OBJECTS, dir_fd=dirfd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def infer(dirfd: int) -> Inferred:
    """Find out what the repository in a directory is from the first object in it.

    Raises:
        CannotInferError: No ``objects``, or no object in it.
        OSError: Something in ``objects`` cannot be read.
    """
    try:
        objects = os.open(OBJECTS, DIRECTORY_FLAGS, dir_fd=dirfd)
    except FileNotFoundError as error:
        raise CannotInferError("opening objects/ directory: no such directory") from error
    try:
        for fan_out, name, algorithm in _iter_objects(objects):
            return Inferred(algorithm, is_secure=_has_verity(objects, fan_out, name, algorithm))
    finally:
        os.close(objects)
    raise CannotInferError("no objects found in repository — cannot infer metadata")


def _iter_objects(objects: int) -> Iterator[tuple[str, str, Algorithm]]:
    """Yield fan-out directory, name and algorithm of what has the name of an object."""
    for fan_out in sorted(os.listdir(objects)):
        if len(os.fsencode(fan_out)) != 2:
            continue
        directory = os.open(fan_out, DIRECTORY_FLAGS, dir_fd=objects)
        try:
            names = sorted(os.listdir(directory))
        finally:
            os.close(directory)
        for name in names:
            algorithm = _ALGORITHMS.get(len(os.fsencode(name)))
            if algorithm is not None:
                yield fan_out, name, algorithm


def _has_verity(objects: int, fan_out: str, name: str, algorithm: Algorithm) -> bool:
    directory = os.open(fan_out, DIRECTORY_FLAGS, dir_fd=objects)
    try:
        fd = open_regular(directory, name)
    finally:
        os.close(directory)
    try:
        measure(fd, algorithm)
    except (VerityMissingError, VerityUnsupportedError):
        return False
    finally:
        os.close(fd)
    return True


def infer_format(dirfd: int, algorithm: Algorithm) -> FormatVersion:
    """Return the format of the images in a repository: that of the first that can be read, else 2."""
    store = ObjectStore(dirfd, algorithm)
    try:
        entries = LinkDirectory(dirfd, "images", lambda: None).iter_entries()
        for _, entry in zip(range(_MAX_IMAGES_READ), entries, strict=False):
            object_id = find_object_in(entry.text, algorithm) if entry.text else None
            if object_id is None:
                continue
            try:
                return _read_format(store.open(object_id))
            except (CfsError, OSError):
                continue  # one image that cannot be read says nothing about the others
    except RepositoryError:
        return FormatVersion.V2
    finally:
        store.close()
    return FormatVersion.V2


def _read_format(fd: int) -> FormatVersion:
    from cfsctl.erofs.superblock import read_superblock  # only for an upgrade

    try:
        return read_superblock(os.pread(fd, _HEADERS_SIZE, 0), os.fstat(fd).st_size).version
    finally:
        os.close(fd)


def infer_config(dirfd: int) -> Config:
    """Return the configuration that a repository without meta.json would get.

    Raises:
        CannotInferError: There is no object to tell from.
    """
    algorithm = infer(dirfd).algorithm
    return Config.new(algorithm, infer_format(dirfd, algorithm))


def upgrade(dirfd: int, expected: Algorithm | None = None) -> Config:
    """Write a meta.json for a repository of the old format.

    Args:
        dirfd: The repository's directory, opened for reading, borrowed.
        expected: The hash algorithm it must have, or None for whichever it has.

    Returns:
        What was written.

    Raises:
        CannotInferError: There is no object to tell from.
        AlgorithmMismatchError: Its objects are of another algorithm.
        FileExistsError: Another process wrote one in the meantime.
    """
    found = infer(dirfd)
    if expected not in {None, found.algorithm}:
        assert expected is not None
        raise AlgorithmMismatchError(
            f"inferred algorithm {found.algorithm.label} is not compatible with this repository type"
            f" (expected {expected.label})"
        )
    config = infer_config(dirfd)
    write_metadata(dirfd, config, is_secure=found.is_secure)
    return config
