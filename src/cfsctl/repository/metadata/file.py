"""``meta.json`` on disk: read it, see whether it is protected, write it once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.errors import ExitCode, RepositoryError
from cfsctl.fsverity.kernel import VerityMissingError, VerityUnsupportedError, enable, measure
from cfsctl.linux.files import AnonymousFile, fsync_directory, open_regular, read_all, write_all
from cfsctl.repository.metadata.config import (
    MAX_META_BYTES,
    META_NAME,
    Config,
    ConfigError,
    format_config,
    parse_config,
)

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm

_MODE = 0o644


class NotARepositoryError(RepositoryError):
    """A directory that no composefs repository is in."""

    exit_code = ExitCode.NO_REPOSITORY


class VerityRequiredError(RepositoryError):
    """A secure repository was requested, but fs-verity is not available."""


class Metadata(NamedTuple):
    """What a repository says about itself.

    Attributes:
        config: The content of its meta.json.
        is_secure: Whether that file has fs-verity, which means that all objects must have it.
    """

    config: Config
    is_secure: bool


def read_metadata(dirfd: int) -> Metadata | None:
    """Read the meta.json of the repository in a directory.

    Returns:
        None if there is no such file.

    Raises:
        ConfigError: It does not follow its format.
        OSError: It cannot be read, is not a regular file, or was measured with another hash algorithm.
    """
    try:
        fd = open_regular(dirfd, META_NAME)
    except FileNotFoundError:
        return None
    try:
        if os.fstat(fd).st_size > MAX_META_BYTES:
            raise ConfigError(f"{META_NAME}: more than {MAX_META_BYTES} bytes")
        config = parse_config(read_all(fd, MAX_META_BYTES))
        return Metadata(config, is_secure=_has_verity(fd, config.algorithm))
    finally:
        os.close(fd)


def _has_verity(fd: int, algorithm: Algorithm) -> bool:
    try:
        measure(fd, algorithm)
    except (VerityMissingError, VerityUnsupportedError):
        return False
    return True


def write_metadata(dirfd: int, config: Config, *, is_secure: bool, replace: bool = False) -> None:
    """Write the meta.json of a repository, whole or not at all, and make it durable.

    Args:
        dirfd: The repository's directory, opened for reading, borrowed.
        config: What to write.
        is_secure: Protect the file with fs-verity, which makes the repository secure.
        replace: Replace an existing meta.json.

    Raises:
        FileExistsError: There is one already, and `replace` is false.
        VerityRequiredError: The file system does not support fs-verity; nothing has changed.
    """
    with AnonymousFile(dirfd, _MODE) as file:
        write_all(file.fd, format_config(config))
        os.fsync(file.fd)
        if is_secure:
            file.make_read_only()
            _protect(file.fd, config.algorithm)
        if replace:
            file.replace(dirfd, META_NAME)
        else:
            file.link(dirfd, META_NAME)
    fsync_directory(dirfd)


def _protect(fd: int, algorithm: Algorithm) -> None:
    try:
        enable(fd, algorithm)
        measure(fd, algorithm)
    except VerityUnsupportedError as error:
        raise VerityRequiredError(
            f"cannot enable fs-verity ({algorithm.hash_name}) on {META_NAME}: {error}",
            hint="use a file system with fs-verity, or --insecure",
        ) from error
