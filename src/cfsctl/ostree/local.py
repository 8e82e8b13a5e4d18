"""An OSTree repository in a directory, as a source to pull from.

    config                         [core] mode=archive-z2, or its older name archive
    refs/heads/NAME                64 hex digits and a newline
    refs/remotes/REMOTE/NAME       the same
    objects/xx/rest.KIND           an object
    state/<commit>.commitpartial   the commit is known not to be whole

Only archive mode is read here. The repository may belong to somebody else: objects are opened relative to
descriptors, without following links, and only if they are regular files; refs may be links to other
refs, but never lead out of ``refs``.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final, TypeVar

from cfsctl.errors import ExitCode
from cfsctl.linux.files import open_regular, read_all
from cfsctl.linux.syscalls import openat2
from cfsctl.ostree.objects import MAX_METADATA_SIZE, ObjectKind, OstreeObjectError
from cfsctl.ostree.source import (
    MAX_REF_FILE_BYTES,
    InvalidRefError,
    ObjectMissingError,
    RefNotFoundError,
    SourceError,
    check_ref_name,
    parse_ref_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.digest import Checksum
    from cfsctl.ostree.source import FileSink

T = TypeVar("T")

MAX_CONFIG_BYTES: Final = 1 << 20
"""Largest configuration file; real ones have a few hundred bytes."""

READ_BYTES: Final = 1 << 17
"""Bytes of an object read at a time; most objects come in one piece."""

ARCHIVE_MODES: Final = frozenset(("archive", "archive-z2"))

_OBJECT_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class NotAnOstreeRepositoryError(SourceError):
    """A directory that is no OSTree repository, or one whose configuration cannot be read."""

    exit_code = ExitCode.NO_REPOSITORY


class UnsupportedModeError(SourceError):
    """A repository in a mode that cannot be read here.

    Attributes:
        mode: The mode as the repository's configuration names it.
    """

    def __init__(self, mode: str, path: str) -> None:
        """Compose the message."""
        super().__init__(
            f"Unsupported repo mode {mode}: {path}: expected an archive repository",
            hint="make one with `ostree init --mode=archive` and `ostree pull-local`",
        )
        self.mode = mode


class LocalArchiveSource:
    """An archive repository in a directory; see `cfsctl.ostree.source.Source`.

    Attributes:
        description: Its path as the user named it.
    """

    def __init__(self, path: str) -> None:
        """Open the repository and read its configuration.

        Raises:
            NotAnOstreeRepositoryError: There is none.
            UnsupportedModeError: It is not in archive mode.
        """
        self.description = path
        self._fan_out: dict[str, int] = {}
        self._dirfd = -1
        self._objects = -1
        try:
            _check_mode(self._open_root(), path)
            self._open_objects()
        except BaseException:
            self.close()
            raise

    def _open_root(self) -> int:
        if self._dirfd < 0:
            path = self.description
            self._dirfd = _open_directory(path, None, f"Cannot open ostree repository at {path}")
        return self._dirfd

    def _open_objects(self) -> int:
        if self._objects < 0:
            message = "Cannot open ostree repository objects directory"
            self._objects = _open_directory("objects", self._open_root(), message)
        return self._objects

    def close(self) -> None:
        """Close all directories; they are opened again when needed."""
        descriptors = [*self._fan_out.values(), self._objects, self._dirfd]
        self._fan_out.clear()
        self._objects = self._dirfd = -1
        for fd in descriptors:
            if fd >= 0:
                os.close(fd)

    # Refs

    def resolve_ref(self, name: str) -> Checksum:
        """Return the commit a ref stands for.

        Tried are ``refs/NAME`` where that starts with ``heads/`` or ``remotes/``, a branch of that name, a
        branch of a remote as ``REMOTE/NAME``, and ``REMOTE:NAME``.

        Raises:
            RefNotFoundError: No such ref.
            InvalidRefError: No valid name, or a file that does not hold a checksum.
        """
        check_ref_name(name)
        for path in _ref_paths(name):
            data = self._read_ref_file(path)
            if data is not None:
                return parse_ref_file(data, f"ref '{name}' of {self.description}")
        raise RefNotFoundError(name, self.description)

    def _read_ref_file(self, path: str) -> bytes | None:
        """Return the content of a ref, or None if there is no such file."""
        try:
            refs = os.open("refs", _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=self._open_root())
        except FileNotFoundError:
            return None
        try:
            # A ref may be a link to another ref; the file that it leads to is opened by its descriptor.
            handle = openat2(refs, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InvalidRefError(f"{self.description}/refs/{path}: {error.strerror}") from error
        finally:
            os.close(refs)
        try:
            return self._read_handle(handle, path)
        finally:
            os.close(handle)

    def _read_handle(self, handle: int, path: str) -> bytes | None:
        """Return the content behind an O_PATH descriptor, or None if that is no regular file."""
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_all(fd, MAX_REF_FILE_BYTES)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            where = f"{self.description}/refs/{path}"
            raise InvalidRefError(
                f"{where}: expected at most {MAX_REF_FILE_BYTES} bytes, found more"
            ) from error
        finally:
            os.close(fd)

    # Objects

    def fetch_metadata(
        self,
        request: Callable[[], tuple[Checksum, ObjectKind] | None],
        deliver: Callable[[Checksum, ObjectKind, bytes], None],
    ) -> None:
        """Read what `request` names, one after the other; see `Source.fetch_metadata`.

        Raises:
            ObjectMissingError: There is no such object.
            OstreeObjectError: It is larger than any metadata may be.
        """
        while (wanted := request()) is not None:
            deliver(*wanted, self._read_metadata(*wanted))

    def _read_metadata(self, checksum: Checksum, kind: ObjectKind) -> bytes:
        fd, size_bytes = self._open(checksum, kind)
        try:
            if size_bytes > MAX_METADATA_SIZE:
                message = f"expected at most {MAX_METADATA_SIZE} bytes, found {size_bytes}"
                raise OstreeObjectError(f"{kind.label} object {checksum.hex()}: {message}")
            return os.read(fd, size_bytes)
        finally:
            os.close(fd)

    def fetch_files(
        self, checksums: Iterable[Checksum], make_sink: Callable[[Checksum], FileSink[T]]
    ) -> Iterator[T]:
        """Pass content objects through sinks, one after the other; see `Source.fetch_files`.

        Raises:
            ObjectMissingError: There is no such object.
        """
        for checksum in checksums:
            fd, size_bytes = self._open(checksum, ObjectKind.FILE)
            try:
                sink = make_sink(checksum)
                _copy(fd, size_bytes, sink)
            finally:
                os.close(fd)
            yield sink.finish()

    def _open(self, checksum: Checksum, kind: ObjectKind) -> tuple[int, int]:
        """Return a descriptor of an object and its size in bytes."""
        text = checksum.hex()
        prefix = text[:2]
        name = f"{text[2:]}.{kind.value}"
        try:
            directory = self._fan_out.get(prefix)
            if directory is None:
                flags = _DIRECTORY_FLAGS | os.O_NOFOLLOW
                directory = os.open(prefix, flags, dir_fd=self._open_objects())
                self._fan_out[prefix] = directory
            # As `open_regular`, but with the size from the same call; this runs once per object.
            fd = os.open(name, _OBJECT_FLAGS, dir_fd=directory)
        except FileNotFoundError as error:
            raise ObjectMissingError(checksum, kind, self.description, hint=self._hint()) from error
        except OSError as error:
            error.filename = self._object_path(prefix, name)
            raise
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            return fd, status.st_size
        os.close(fd)
        path = self._object_path(prefix, name)
        raise OSError(errno.EINVAL, "expected a regular file, found something else", path)

    def _object_path(self, prefix: str, name: str) -> str:
        return f"{self.description}/objects/{prefix}/{name}"

    def _hint(self) -> str | None:
        """Say so if the repository knows itself that it is not whole."""
        try:
            names = os.listdir(f"/proc/self/fd/{self._open_root()}/state")
        except OSError:
            return None
        if any(name.endswith(".commitpartial") for name in names):
            return "the repository has partial commits; pull what it lacks into it first"
        return None


def _copy(fd: int, size_bytes: int, sink: FileSink[T]) -> None:
    """Pass the content of a file on; one piece if it is small."""
    try:
        chunk = os.read(fd, min(size_bytes, READ_BYTES))
        sink.write(chunk)
        if len(chunk) == size_bytes:
            return
        while chunk := os.read(fd, READ_BYTES):
            sink.write(chunk)
    except BaseException:
        sink.abort()
        raise


def _open_directory(path: str, dirfd: int | None, message: str) -> int:
    try:
        return os.open(path, _DIRECTORY_FLAGS, dir_fd=dirfd)
    except OSError as error:
        raise NotAnOstreeRepositoryError(f"{message}: {error.strerror}") from error


def _ref_paths(name: str) -> list[str]:
    """Return where a ref of this name may be, below ``refs``."""
    remote, colon, branch = name.partition(":")
    paths = [f"heads/{name}", f"remotes/{name}"]
    if colon:
        paths.insert(0, f"remotes/{remote}/{branch}")
    if name.startswith(("heads/", "remotes/", "mirrors/")):
        paths.insert(0, name)
    return paths


def _check_mode(dirfd: int, path: str) -> None:
    mode = _read_mode(dirfd, path)
    if mode not in ARCHIVE_MODES:
        raise UnsupportedModeError(mode, path)


def _read_mode(dirfd: int, path: str) -> str:
    """Return the mode that the repository's configuration names."""
    where = f"{path}/config"
    try:
        fd = open_regular(dirfd, "config")
    except OSError as error:
        message = f"Cannot open ostree repo config file: {where}: {error.strerror}"
        raise NotAnOstreeRepositoryError(message) from error
    try:
        text = read_all(fd, MAX_CONFIG_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise NotAnOstreeRepositoryError(f"Can't read config file: {where}: {error}") from error
    finally:
        os.close(fd)
    core = parse_key_file(text).get("core")
    if core is None:
        raise NotAnOstreeRepositoryError(f"No [core] section in config: {where}")
    mode = core.get("mode")
    if mode is None:
        raise NotAnOstreeRepositoryError(f"No mode in [core] section in config: {where}")
    return mode


def parse_key_file(text: str) -> dict[str, dict[str, str]]:
    """Return the groups of a key file, as GLib's GKeyFile reads the parts that OSTree uses.

    A line is a comment (``#``), a ``[group]``, or ``key=value``, blanks around the equals sign ignored; of
    a key that occurs twice the last counts. Other lines are ignored.
    """
    groups: dict[str, dict[str, str]] = {}
    group: dict[str, str] = {}
    for raw in text.splitlines():
        line = raw.strip()
        key, equals, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            group = groups.setdefault(line[1:-1], {})
        elif equals and not line.startswith("#"):
            group[key.rstrip()] = value.lstrip()
    return groups
