"""Find and remove the files of a repository that nothing uses: the second half of a collection."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import ObjectID
from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.files import TEMPORARY_FILE_PREFIX, TEMPORARY_LINK_PREFIX
from cfsctl.linux.flags import DIRECTORY_FLAGS
from cfsctl.repository.gc.prefixes import JOURNAL_PREFIX, PARTIAL_BLOB_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.digest import Algorithm
    from cfsctl.repository.gc.live import LiveObjects

FAN_OUT: Final = tuple(f"{byte:02x}" for byte in range(256))
"""Names of the directories that objects are in."""

_MOST_KNOWN: Final = 100_000
"""Objects that are garbage and held in memory; more are looked for again when they are removed."""

_LOWER_HEX = re.compile(r"[0-9a-f]+\Z")
_RANDOM_PART = re.compile(r"[A-Za-z0-9]{12}\Z")

_COMMIT_PART = re.compile(r"[0-9a-f]{64}\Z")

_LEFTOVERS: Final = (
    (".", TEMPORARY_LINK_PREFIX, _RANDOM_PART, stat.S_ISLNK),
    (".", TEMPORARY_FILE_PREFIX, _RANDOM_PART, stat.S_ISREG),
    ("objects", TEMPORARY_FILE_PREFIX, _RANDOM_PART, stat.S_ISREG),
)
"""Directory, start and rest of the name, and type of what a killed process may leave."""

_JOURNALS: Final = (
    (".", JOURNAL_PREFIX, _COMMIT_PART, stat.S_ISREG),
    (".", PARTIAL_BLOB_PREFIX, _COMMIT_PART, stat.S_ISREG),
)
"""The same of what it leaves for the next pull to go on with."""


class DeadObject(NamedTuple):
    """An object that is garbage.

    Attributes:
        fan_out: Its directory below ``objects``.
        name: Its name in there.
        size: Its size in bytes.
        changed_s: When it was written or got its name, in seconds since 1970.
    """

    fan_out: str
    name: str
    size: int
    changed_s: float

    @property
    def object_id(self) -> ObjectID:
        """Its ID."""
        return ObjectID(bytes.fromhex(self.fan_out + self.name))


class FanOutGarbage(NamedTuple):
    """The garbage of one directory of objects.

    Attributes:
        fan_out: The directory.
        dead: What is not in use, in the order of its names.
        live_count: How many names there are besides.
    """

    fan_out: str
    dead: list[DeadObject]
    live_count: int


class Sweep:
    """Looks for objects that are not in use, in one directory after the other.

    The garbage of one directory is all that is held at a time, so memory does not grow with it.
    """

    def __init__(self, dirfd: int, algorithm: Algorithm, live: LiveObjects) -> None:
        """Prepare; nothing is read yet.

        Args:
            dirfd: The repository's directory, borrowed.
            algorithm: Hash algorithm of the IDs.
            live: The objects in use.
        """
        self._root = dirfd
        self._name_length = 2 * (algorithm.digest_size - 1)
        self._live = live

    def iter_garbage(
        self, note: Callable[[str], None], fan_outs: Iterable[str] = FAN_OUT
    ) -> Iterator[FanOutGarbage]:
        """Yield the garbage of each directory that there is.

        Args:
            note: Called with a message for each entry that is not an object.
            fan_outs: The directories to look at.

        Raises:
            OSError: A directory cannot be read.
        """
        with open_directory(self._root, "objects", note) as objects:
            for fan_out in fan_outs if objects is not None else ():
                assert objects is not None
                with relative_to("objects"), open_directory(objects, fan_out, note) as directory:
                    if directory is not None:
                        yield self._look(directory, fan_out, note)

    def _look(self, directory: int, fan_out: str, note: Callable[[str], None]) -> FanOutGarbage:
        present = os.listdir(directory)
        names = self._live.drop_from(present, fan_out, self._name_length)
        dead = list(_iter_dead(directory, fan_out, sorted(names), self._name_length, note))
        return FanOutGarbage(fan_out, dead, len(present) - len(names))


class Garbage:
    """What a collection removes: how much it is, and the objects themselves as long as they are few.

    Attributes:
        count: How many objects.
        size: Their sizes together, in bytes.
        fan_outs: The directories that they are in, in order.
    """

    def __init__(self, most_known: int | None = None) -> None:
        """Start empty.

        Args:
            most_known: How many objects are few; by default, a hundred thousand.
        """
        self.count = 0
        self.size = 0
        self.fan_outs: list[str] = []
        self._most = _MOST_KNOWN if most_known is None else most_known
        self._known: dict[str, list[DeadObject]] = {}

    def add(self, fan_out: str, dead: list[DeadObject]) -> None:
        """Add what goes from one directory."""
        if not dead:
            return
        self.count += len(dead)
        self.size += sum(item.size for item in dead)
        self.fan_outs.append(fan_out)
        if self.count <= self._most:
            self._known[fan_out] = dead
        else:
            self._known.clear()

    def iter_known(self) -> Iterator[tuple[str, list[DeadObject]]] | None:
        """Yield directories with their objects; None if these are too many, to be looked for again."""
        return iter(self._known.items()) if self.count <= self._most else None


def _iter_dead(
    directory: int, fan_out: str, names: list[str], name_length: int, note: Callable[[str], None]
) -> Iterator[DeadObject]:
    """Yield those of the names that are objects."""
    for name in names:
        if len(name) != name_length or not _LOWER_HEX.match(name):
            note(f"objects/{fan_out}/{name}: not the name of an object; left alone")
            continue
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            yield DeadObject(fan_out, name, status.st_size, max(status.st_mtime, status.st_ctime))
        else:
            note(f"objects/{fan_out}/{name}: expected a regular file; left alone")


@contextlib.contextmanager
def open_directory(dirfd: int, name: str, note: Callable[[str], None]) -> Iterator[int | None]:
    """Open a directory for the block; None if it is missing or not a directory; the latter is reported."""
    try:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=dirfd)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        note(f"{name}: expected a directory of objects; left alone")
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def remove_objects(
    dirfd: int,
    garbage: Iterable[tuple[str, list[DeadObject]]],
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Remove objects, in the order given.

    Args:
        dirfd: The repository's directory, borrowed.
        garbage: Directories of objects, each with what goes from it.
        advance: Told now and then how many are gone.

    Raises:
        OSError: One could not be removed; those before it are gone.
    """
    objects = os.open("objects", DIRECTORY_FLAGS, dir_fd=dirfd)
    count = 0
    try:
        for fan_out, dead in garbage:
            directory = os.open(fan_out, DIRECTORY_FLAGS, dir_fd=objects)
            try:
                for item in dead:
                    os.unlink(item.name, dir_fd=directory)
            finally:
                os.close(directory)
            count += len(dead)
            advance(count)
    finally:
        os.close(objects)


def find_leftovers(dirfd: int) -> list[str]:
    """Return what killed processes left, as paths below the repository.

    Without the exclusive lock, another process may be using them.
    """
    return [path for kind in _LEFTOVERS for path in _find_in(dirfd, *kind)]


def remove_leftovers(dirfd: int, paths: Iterable[str]) -> None:
    """Remove what `find_leftovers` or `find_journals` found.

    Raises:
        OSError: One could not be removed; those before it are gone.
    """
    for place, group in itertools.groupby(paths, key=lambda path: path.rpartition("/")[0]):
        directory = os.open(place or ".", DIRECTORY_FLAGS, dir_fd=dirfd)
        try:
            for path in group:
                os.unlink(path.rpartition("/")[2], dir_fd=directory)
        finally:
            os.close(directory)


def find_journals(dirfd: int) -> list[str]:
    """Return the paths of what pulls that were not finished have kept; as of `find_leftovers`."""
    return [path for kind in _JOURNALS for path in _find_in(dirfd, *kind)]


def _find_in(
    dirfd: int, place: str, prefix: str, rest: re.Pattern[str], is_kind: Callable[[int], bool]
) -> Iterator[str]:
    with open_directory(dirfd, place, lambda _: None) as directory:
        if directory is None:
            return
        for name in sorted(os.listdir(directory)):
            if not name.startswith(prefix) or not rest.match(name, len(prefix)):
                continue
            try:
                mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            except FileNotFoundError:
                continue
            if is_kind(mode):
                yield name if place == "." else f"{place}/{name}"
