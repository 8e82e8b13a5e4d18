"""Add, list and remove the files that configure remotes, in libostree's format; see `remotes`.

Each remote gets a file of its own, ``NAME.conf``, as ``ostree remote add`` makes it for the system. Its keys
are written first, so that a remote is never there without them.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, ExitCode
from cfsctl.linux.files import AnonymousFile, fsync_directory, write_all
from cfsctl.ostree.key_file import split_lines
from cfsctl.ostree.trust.remotes import (
    RemoteConfigError,
    RemoteNotConfiguredError,
    make_remote,
    parse_remotes,
    read_config,
    read_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cfsctl.ostree.trust.remotes import Remote

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_CREDENTIALS: Final = re.compile(rb"://[^/\n]*@")
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MODE: Final = 0o644
_SECRET_MODE: Final = 0o600
"""For files with credentials in a URL."""


class RemoteExistsError(CfsError):
    """A remote of this name is configured already."""

    exit_code = ExitCode.USAGE


class RemoteNameError(CfsError):
    """A name or value that no remote can have."""

    exit_code = ExitCode.USAGE


def check_remote_name(name: str) -> str:
    """Return a name that a remote can have.

    Raises:
        RemoteNameError: It cannot.
    """
    if not _NAME.fullmatch(name):
        raise RemoteNameError(f"remote {name!r}: expected letters, digits, '.', '_' and '-' as its name")
    return name


def list_remote_options(directory: str) -> dict[str, Mapping[str, str]]:
    """Return the options of all remotes by name, sorted; of a name that occurs twice the first counts.

    Raises:
        RemoteConfigError: A file cannot be read.
    """
    found: dict[str, Mapping[str, str]] = {}
    for path in _iter_files(directory):
        for name, options in read_config(path).items():
            found.setdefault(name, options)
    return dict(sorted(found.items()))


def _iter_files(directory: str) -> Iterator[str]:
    """Yield the files that may configure remotes, in the order in which they are looked through.

    Raises:
        OSError: The directory cannot be read; one that does not exist has no files.
    """
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    yield from (os.path.join(directory, name) for name in names if name.endswith(".conf"))


def add_remote(
    directory: str, name: str, options: Mapping[str, str], keyring: bytes = b"", *, replace: bool = False
) -> Remote:
    """Configure a remote.

    Args:
        directory: Where remotes are configured; it is made if it is missing.
        name: Its name.
        options: Its options as they stand in the file, ``url`` among them.
        keyring: OpenPGP keys of which signatures are accepted, binary; empty for those of the system.
        replace: Replace a remote of this name.

    Raises:
        RemoteNameError: A name or value cannot stand in such a file.
        RemoteExistsError: There is one of this name; nothing has changed.
        RemoteConfigError, UnusableKeyError, SignatureError: The options cannot be used; the same.
        OSError: The files cannot be written.
    """
    check_remote_name(name)
    text = _format(name, options)
    _check_directory(directory)
    os.makedirs(directory, exist_ok=True)
    others = list(_iter_files_with(directory, name))
    if others and not replace:
        raise RemoteExistsError(
            f"remote '{name}' is configured in {others[0].path}",
            hint="--force replaces it, and remove removes it",
        )
    remote = make_remote(name, dict(options), directory, keyring=keyring or None)
    own = f"{name}.conf"
    dirfd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if keyring:
            _write(dirfd, f"{name}.trustedkeys.gpg", keyring)
        rest = next((f"\n{file.rest}" for file in others if file.name == own and file.is_shared), "")
        _write(dirfd, own, f"{text}{rest}".encode())
        for file in others:
            if file.name != own:
                _write(dirfd, file.name, file.rest.encode())
        if not keyring:
            _remove(dirfd, f"{name}.trustedkeys.gpg")
        fsync_directory(dirfd)
    finally:
        os.close(dirfd)
    return remote


class _File(NamedTuple):
    """A file that configures a remote.

    Attributes:
        path: Where it is.
        rest: Its text without the remote.
        is_shared: Whether it configures others as well.
    """

    path: str
    rest: str
    is_shared: bool

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def _iter_files_with(directory: str, name: str) -> Iterator[_File]:
    """Yield the files that configure a remote; each is read once, so that all of it is of one moment.

    Raises:
        RemoteConfigError: One cannot be read.
    """
    for path in _iter_files(directory):
        text = read_text(path)
        remotes = parse_remotes(text)
        if name in remotes:
            yield _File(path, _without(text, name), len(remotes) > 1)


def remove_remote(directory: str, name: str) -> list[str]:
    """Remove a remote and its keys; other remotes in the same file stay.

    Returns:
        The files that were changed or removed.

    Raises:
        RemoteNotConfiguredError: There is no such remote.
        OSError: A file cannot be changed.
    """
    _check_directory(directory)
    files = list(_iter_files_with(directory, name))
    if not files:
        raise RemoteNotConfiguredError(f"remote '{name}' is not configured in {directory}")
    changed = [file.path for file in files]
    dirfd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for file in files:
            if file.rest.strip():
                _write(dirfd, file.name, file.rest.encode())
            else:
                os.unlink(file.name, dir_fd=dirfd)
        # Last: a remote without its keys would be verified by those of the system.
        if _NAME.fullmatch(name) and _remove(dirfd, f"{name}.trustedkeys.gpg"):
            changed.append(os.path.join(directory, f"{name}.trustedkeys.gpg"))
        fsync_directory(dirfd)
    finally:
        os.close(dirfd)
    return changed


def _check_directory(directory: str) -> None:
    if os.path.isdir(os.path.join(directory, "objects")):
        raise RemoteConfigError(
            f"{directory}: expected a directory of remotes, found an OSTree repository",
            hint=f"ostree --repo={directory} remote add changes the remotes of a repository",
        )


def _format(name: str, options: Mapping[str, str]) -> str:
    lines = [f'[remote "{name}"]']
    for key, value in options.items():
        if not _KEY.fullmatch(key):
            raise RemoteNameError(f"option {key!r}: expected letters, digits, '_' and '-'")
        if value != value.strip() or "\\" in value or not value.isprintable():
            raise RemoteNameError(
                f"{key}={value!r}: expected text without control characters, backslashes or outer blanks"
            )
        lines.append(f"{key}={value}")
    return "\n".join(lines) + "\n"


def _without(text: str, name: str) -> str:
    """Return a file without the group of a remote; comments elsewhere stay."""
    kept: list[str] = []
    is_dropped = False
    for raw, line in zip(text.split("\n"), split_lines(text), strict=True):
        if line.startswith("[") and line.endswith("]"):
            is_dropped = line == f'[remote "{name}"]'
        if not is_dropped:
            kept.append(raw)
    rest = "\n".join(kept)
    return rest if not rest or rest.endswith("\n") else rest + "\n"


def _write(dirfd: int, name: str, data: bytes) -> None:
    """Write a file whole, durably, and with the mode of the one that it replaces."""
    mode = _SECRET_MODE if _CREDENTIALS.search(data) else _MODE
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=dirfd, follow_symlinks=False)
        mode &= stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else mode
    with AnonymousFile(dirfd, mode) as file:
        write_all(file.fd, data)
        os.fsync(file.fd)
        file.replace(dirfd, name)


def _remove(dirfd: int, name: str) -> bool:
    """Remove a file; return whether it was there."""
    try:
        os.unlink(name, dir_fd=dirfd)
    except FileNotFoundError:
        return False
    return True
