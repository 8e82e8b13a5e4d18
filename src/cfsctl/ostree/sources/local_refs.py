"""Refs of an OSTree repository in a directory.

    refs/heads/NAME                  a branch: 64 hex digits and a newline
    refs/remotes/REMOTE/NAME         what was pulled from a remote; its refspec is REMOTE:NAME
    refs/mirrors/COLLECTION/NAME     what was mirrored of a collection

A ref may be a link to another ref, but never leads out of ``refs``.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from cfsctl.linux.files import read_all
from cfsctl.linux.syscalls import openat2
from cfsctl.ostree.source import MAX_REF_FILE_BYTES, InvalidRefError, parse_ref_file
from cfsctl.ostree.sources.local_repository import DIRECTORY_FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import Checksum
    from cfsctl.ostree.sources.local_repository import LocalRepository

_PLACES: Final = ("heads/", "remotes/", "mirrors/")

_GROUPS: Final = ("remotes", "mirrors")
"""Directories whose entries each hold the refs of one remote, or of one collection."""

MAX_GROUPS: Final = 10_000
"""Remotes and collections that are searched for a ref, and directories of branches."""

MAX_BRANCHES: Final = 200_000
"""Branches of a repository."""


def find_ref(repository: LocalRepository, name: str) -> Checksum | None:
    """Return the commit that a ref stands for, or None if the repository itself has no such ref.

    Args:
        repository: Where to look; not in its parents.
        name: A branch; ``REMOTE:NAME`` or ``COLLECTION:NAME``; a path below ``refs`` that begins with heads,
            remotes or mirrors; ``REMOTE/NAME``; or a branch that only remotes or collections have.

    Raises:
        InvalidRefError: A file that holds no checksum, or several remotes that disagree.
    """
    for path in _iter_paths(repository, name):
        data = _read_ref_file(repository, path)
        if data is not None:
            return parse_ref_file(data, f"ref '{name}' of {repository.path}")
    return _find_in_groups(repository, name)


def _iter_paths(repository: LocalRepository, name: str) -> Iterator[str]:
    """Yield where a ref of this name may be, below ``refs``."""
    owner, colon, branch = name.partition(":")
    if name.startswith(_PLACES):
        yield name
    if colon:
        yield f"remotes/{owner}/{branch}"
        yield f"mirrors/{owner}/{branch}"
        if owner == repository.collection_id:
            yield f"heads/{branch}"
        for group, keys in repository.config.items():
            if group.startswith('remote "') and keys.get("collection-id") == owner:
                yield f"remotes/{group[8:-1]}/{branch}"
    yield f"heads/{name}"
    yield f"remotes/{name}"


def _find_in_groups(repository: LocalRepository, name: str) -> Checksum | None:
    """Find a branch in all remotes and collections, which must agree on its commit."""
    found: dict[Checksum, str] = {}
    for group in _GROUPS:
        owners = _list_directory(repository, f"refs/{group}")
        if len(owners) > MAX_GROUPS:
            where = f"{repository.path}/refs/{group}"
            raise InvalidRefError(f"{where}: expected at most {MAX_GROUPS} entries, found {len(owners)}")
        for owner in owners:
            path = f"{group}/{owner}/{name}"
            data = _read_ref_file(repository, path)
            if data is not None:
                found.setdefault(parse_ref_file(data, f"ref '{path}' of {repository.path}"), path)
    if len(found) > 1:
        raise InvalidRefError(
            f"ref '{name}' of {repository.path}: expected one commit, found another one in each of "
            + ", ".join(sorted(found.values())),
            hint="name the one that is meant, for example as REMOTE:NAME",
        )
    return next(iter(found), None)


def list_branches(repository: LocalRepository) -> dict[str, Checksum]:
    """Return the branches of a repository, sorted by name, as its summary would list them.

    Raises:
        InvalidRefError: A file among them that holds no checksum.
    """
    found: dict[str, Checksum] = {}
    pending = [""]
    directories = 0
    while pending:
        prefix = pending.pop()
        directories += 1
        if directories > MAX_GROUPS or len(found) > MAX_BRANCHES:
            # Links to directories may lead anywhere below refs, so that a few stand for any number of paths.
            raise InvalidRefError(
                f"{repository.path}/refs/heads: expected at most {MAX_GROUPS} directories and "
                f"{MAX_BRANCHES} branches, found more"
            )
        for entry in _list_directory(repository, f"refs/heads/{prefix}"):
            name = prefix + entry
            data = _read_ref_file(repository, f"heads/{name}")
            if data is not None:
                found[name] = parse_ref_file(data, f"ref '{name}' of {repository.path}")
            elif name.count("/") < os.pathconf("/", "PC_PATH_MAX") // 2:
                pending.append(f"{name}/")
    return dict(sorted(found.items()))


def _list_directory(repository: LocalRepository, path: str) -> list[str]:
    """Return the entries of a directory, sorted; none if there is no such directory."""
    try:
        fd = openat2(repository.root(), path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        names = os.listdir(fd)
    finally:
        os.close(fd)
    # What rsync and NFS leave begins with a dot, as no ref does.
    return sorted(name for name in names if name.isprintable() and not name.startswith("."))


def _read_ref_file(repository: LocalRepository, path: str) -> bytes | None:
    """Return the content of a ref, or None if there is no such file."""
    try:
        refs = os.open("refs", DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=repository.root())
    except FileNotFoundError:
        return None
    try:
        # A ref may be a link to another ref; the file that it leads to is opened by its descriptor.
        fd = _open_ref_file(refs, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidRefError(f"{repository.path}/refs/{path}: {error.strerror}") from error
    finally:
        os.close(refs)
    return None if fd is None else _read_content(fd, f"{repository.path}/refs/{path}")


def _open_ref_file(refs: int, path: str) -> int | None:
    """Open a ref for reading, or return None if it is not a regular file."""
    handle = openat2(refs, path, os.O_PATH)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return None
        try:
            return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # no /proc: by its name, if that still leads to the same file
            fd = openat2(refs, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            if os.path.samestat(os.fstat(fd), status):
                return fd
            os.close(fd)
            raise OSError(errno.EINVAL, "was replaced while it was opened") from None
    finally:
        os.close(handle)


def _read_content(fd: int, where: str) -> bytes:
    """Return the content of a ref, whose descriptor is closed."""
    try:
        return read_all(fd, MAX_REF_FILE_BYTES)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        raise InvalidRefError(f"{where}: expected at most {MAX_REF_FILE_BYTES} bytes, found more") from error
    finally:
        os.close(fd)
