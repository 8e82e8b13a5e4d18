"""One OSTree repository in a directory: its configuration, and its files opened safely.

    config                          [core] mode=..., parent=PATH
    .lock                           see `cfsctl.ostree.sources.local_lock`
    objects/xx/rest.KIND            an object
    state/<commit>.commitpartial    the commit is known not to be whole

The repository may be hostile: everything is opened relative to descriptors, without following links, and only
if it has the expected type.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from enum import Enum
from typing import TYPE_CHECKING, Final

from cfsctl.errors import ExitCode, describe
from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.files import make_directory, open_regular, read_all
from cfsctl.ostree.key_file import parse_key_file
from cfsctl.ostree.source import SourceError
from cfsctl.ostree.sources.local_lock import lock_for_use

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cfsctl.digest import Checksum

MAX_CONFIG_BYTES: Final = 1 << 20
"""Largest configuration file; real ones have a few hundred bytes."""

FSCK_MARK: Final = b"f"
"""Content of a ``commitpartial`` file that `ostree fsck` made, in place of an unfinished pull."""

DIRECTORY_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_OBJECT_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class NotAnOstreeRepositoryError(SourceError):
    """A directory that is not an OSTree repository, or one whose configuration cannot be read."""

    exit_code = ExitCode.NO_REPOSITORY


class UnsupportedModeError(SourceError):
    """A repository with an unknown mode.

    Attributes:
        mode: The mode as the repository's configuration names it.
    """

    def __init__(self, mode: str, path: str, supported: Iterable[RepositoryMode] | None = None) -> None:
        """Compose the message.

        Args:
            mode: The mode.
            path: The repository.
            supported: Modes that would do; all that there are, if None.
        """
        expected = ", ".join(known.value for known in supported or RepositoryMode)
        super().__init__(f"Unsupported repo mode {mode}: {path}: expected one of {expected}")
        self.mode = mode


class RepositoryMode(Enum):
    """How a repository stores content; the value is its name in the configuration."""

    ARCHIVE = "archive"
    """Header and compressed content in one file."""

    BARE = "bare"
    """Files as they are checked out: owner, mode, attributes and links are those of the file system."""

    BARE_USER = "bare-user"
    """Plain content; owner, mode and attributes are in the attribute ``user.ostreemeta``."""

    BARE_USER_ONLY = "bare-user-only"
    """Files as they are checked out, except for owner and attributes, which are not kept."""

    BARE_SPLIT_XATTRS = "bare-split-xattrs"
    """As bare, with the attributes in files of their own."""

    @property
    def file_suffix(self) -> str:
        """Suffix of content objects."""
        return "filez" if self is RepositoryMode.ARCHIVE else "file"


def parse_mode(text: str) -> RepositoryMode | None:
    """Return the mode that a configuration names, or None for one that is not known."""
    if text == "archive-z2":
        return RepositoryMode.ARCHIVE
    return next((mode for mode in RepositoryMode if mode.value == text), None)


class LocalRepository:
    """A repository, without those that it has for parents.

    Attributes:
        path: As the user, or a child's configuration, names it.
        mode: How it stores content.
        config: Its configuration by group.
    """

    def __init__(self, path: str, *, is_written: bool = False) -> None:
        """Open it and read its configuration.

        Args:
            path: Where it is.
            is_written: Make the file of its lock if none exists.

        Raises:
            NotAnOstreeRepositoryError: None exists.
            UnsupportedModeError: Its mode is not known.
            RepositoryInUseError: It is being pruned, and that does not end.
        """
        self.path = path
        self._is_written = is_written
        self._fan_out: dict[str, int] = {}
        self._dirfd = self._lock = self._objects = -1
        self.config: Mapping[str, Mapping[str, str]] = {}
        try:
            self.config = _read_config(self.root(), path)
            self.mode = _find_mode(self.config, path)
            self._take_lock()
            self.objects()
        except BaseException:
            self.close()
            raise

    @property
    def parent(self) -> str | None:
        """Path of the repository that has what is missing here, if it is configured to have one."""
        return self.config["core"].get("parent") or None

    @property
    def collection_id(self) -> str | None:
        """The collection that the branches belong to, if there is one."""
        return self.config["core"].get("collection-id") or None

    def root(self) -> int:
        """Return an O_PATH descriptor of the repository's directory, borrowed."""
        if self._dirfd < 0:
            message = f"Cannot open ostree repository at {self.path}"
            self._dirfd = _open_directory(self.path, None, message)
            if self.config:  # opened again
                self._take_lock()
        return self._dirfd

    def _take_lock(self) -> None:
        self._lock = lock_for_use(self.root(), self.path, self.config["core"], create=self._is_written)

    def objects(self) -> int:
        """Return an O_PATH descriptor of ``objects``, borrowed."""
        if self._objects < 0:
            message = "Cannot open ostree repository objects directory"
            # A link may lead to the objects of another repository, but nothing is written through it.
            flags = os.O_NOFOLLOW if self._is_written else 0
            self._objects = _open_directory("objects", self.root(), message, flags)
        return self._objects

    def close(self) -> None:
        """Close all directories and let the lock go; they are opened again when needed."""
        descriptors = [*self._fan_out.values(), self._objects, self._lock, self._dirfd]
        self._fan_out.clear()
        self._objects = self._lock = self._dirfd = -1
        for fd in descriptors:
            if fd >= 0:
                os.close(fd)

    # Objects

    def locate(self, checksum: Checksum) -> tuple[int, str]:
        """Return a descriptor of an object's directory, borrowed, and its name there without a suffix.

        Raises:
            FileNotFoundError: There is no such directory.
            OSError: It is a link, or no directory.
        """
        text = checksum.hex()
        prefix = text[:2]
        directory = self._fan_out.get(prefix)
        if directory is None:
            flags = DIRECTORY_FLAGS | os.O_NOFOLLOW
            directory = os.open(prefix, flags, dir_fd=self.objects())
            self._fan_out[prefix] = directory
        return directory, text[2:]

    def object_path(self, checksum: Checksum, suffix: str) -> str:
        """Return the path of an object for messages."""
        text = checksum.hex()
        return f"{self.path}/objects/{text[:2]}/{text[2:]}.{suffix}"

    def open_object(self, checksum: Checksum, suffix: str) -> tuple[int, os.stat_result]:
        """Open a regular file among the objects.

        Returns:
            A descriptor that the caller owns, and its status.

        Raises:
            FileNotFoundError: There is no such object.
            OSError: ELOOP for a link, EINVAL for anything else that is not a regular file.
        """
        try:
            directory, name = self.locate(checksum)
            name = f"{name}.{suffix}"
            # As `open_listed`, with the status from the same call; this runs once per object.
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            # What is neither is not opened: that could start a device. A link is refused by open(2).
            may_open = stat.S_ISREG(mode) or stat.S_ISLNK(mode)
            fd = os.open(name, _OBJECT_FLAGS, dir_fd=directory) if may_open else -1
        except OSError as error:
            error.filename = self.object_path(checksum, suffix)
            raise
        if fd >= 0:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                return fd, status
            os.close(fd)
        path = self.object_path(checksum, suffix)
        raise OSError(errno.EINVAL, "expected a regular file, found something else", path)

    def read_object(self, checksum: Checksum, suffix: str, limit_bytes: int) -> bytes:
        """Return the content of a small file among the objects.

        Raises:
            FileNotFoundError: There is no such object.
            OSError: EFBIG above the limit, or as `open_object`.
        """
        fd, _ = self.open_object(checksum, suffix)
        try:
            return read_all(fd, limit_bytes)
        finally:
            os.close(fd)

    def contains_object(self, checksum: Checksum, suffix: str) -> bool:
        """Return whether a file of any type has the name of this object."""
        return self.find_size(checksum, suffix) is not None

    def find_size(self, checksum: Checksum, suffix: str) -> int | None:
        """Return the size in bytes of what has the name of this object, or None."""
        try:
            directory, name = self.locate(checksum)
            return os.stat(f"{name}.{suffix}", dir_fd=directory, follow_symlinks=False).st_size
        except OSError:
            return None

    # State

    def describe_partial(self, commit: Checksum) -> str | None:
        """Return why the repository has marked a commit as partial, or None."""
        name = f"state/{commit.hex()}.commitpartial"
        try:
            fd = open_regular(self.root(), name)
        except OSError:
            return None
        try:
            marked = os.read(fd, 1) == FSCK_MARK
        finally:
            os.close(fd)
        return "`ostree fsck` found it damaged" if marked else "a pull of it was partial or did not end"

    def has_partial_commits(self) -> bool:
        """Return whether the repository holds any commit for incomplete."""
        try:
            state = os.open("state", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.root())
        except OSError:
            return False
        try:
            names = os.listdir(state)
        finally:
            os.close(state)
        return any(name.endswith(".commitpartial") for name in names)


def open_made(dirfd: int, name: str) -> int:
    """Open a directory, which is made if it is missing; never follows a link.

    Returns:
        A descriptor for reading that the caller owns.
    """
    with contextlib.suppress(FileExistsError):
        make_directory(name, 0o755, dirfd)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dirfd)


def make_fan_out(repository: LocalRepository, checksum: Checksum) -> int:
    """Return a descriptor of the directory that an object goes to, borrowed; it is made if it is missing."""
    with relative_to("objects"):
        try:
            return repository.locate(checksum)[0]
        except FileNotFoundError:
            os.close(open_made(repository.objects(), checksum.hex()[:2]))
            return repository.locate(checksum)[0]


def _open_directory(path: str, dirfd: int | None, message: str, flags: int = 0) -> int:
    try:
        return os.open(path, DIRECTORY_FLAGS | flags, dir_fd=dirfd)
    except OSError as error:
        raise NotAnOstreeRepositoryError(f"{message}: {error.strerror}", hint=_PATH_HINT) from error


_PATH_HINT: Final = (
    "check the path: an OSTree repository has a file 'config' and a directory 'objects';"
    " `ostree init --mode=archive --repo=PATH` makes one"
)


def _read_config(dirfd: int, path: str) -> Mapping[str, Mapping[str, str]]:
    where = f"{path}/config"
    try:
        fd = open_regular(dirfd, "config")
    except OSError as error:
        message = f"Cannot open ostree repo config file: {where}: {error.strerror}"
        raise NotAnOstreeRepositoryError(message, hint=_PATH_HINT) from error
    try:
        text = read_all(fd, MAX_CONFIG_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise NotAnOstreeRepositoryError(f"Can't read config file: {where}: {describe(error)}") from error
    finally:
        os.close(fd)
    if "\0" in text:
        raise NotAnOstreeRepositoryError(f"Can't read config file: {where}: it has a NUL character")
    return parse_key_file(text)


def _find_mode(config: Mapping[str, Mapping[str, str]], path: str) -> RepositoryMode:
    """Return the mode that the repository's configuration names."""
    core = config.get("core")
    if core is None:
        raise NotAnOstreeRepositoryError(f"No [core] section in config: {path}/config")
    text = core.get("mode")
    if text is None:
        raise NotAnOstreeRepositoryError(f"No mode in [core] section in config: {path}/config")
    mode = parse_mode(text)
    if mode is None:
        raise UnsupportedModeError(text, path)
    return mode
