"""Collect garbage: remove every object that no ref leads to.

What is promised, also to whoever kills it at any point:

* While objects are removed nobody else has the repository open.
* Names go before objects, and are gone from the disk before the first object is. So a name that is there
  leads to a complete set of objects, and what a killed collection leaves is more garbage, nothing else.
* What is not understood stays: foreign files are reported and left alone, and if something in use
  cannot be read, no object is removed at all (see `cfsctl.repository.mark`).

A dry run holds the shared lock only and changes nothing. As the original's, it counts objects as they
would go, but only those links that lead nowhere already.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import ObjectID
from cfsctl.linux.files import TEMPORARY_FILE_PREFIX, TEMPORARY_LINK_PREFIX
from cfsctl.repository.mark import Marker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.repository.mark import CategoryMarks, Marks
    from cfsctl.repository.repository import Repository

    _IsKind = Callable[[int], bool]

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOWER_HEX = re.compile(r"[0-9a-f]+\Z")
_RANDOM_PART = re.compile(r"[A-Za-z0-9]{12}\Z")
FAN_OUT: Final = tuple(f"{byte:02x}" for byte in range(256))
"""Names of the directories that objects are in."""

_MAX_PROBLEMS: Final = 1000
"""Problems that are kept; a directory of a million foreign files must not fill the memory."""


@dataclass(frozen=True, slots=True)
class GcResult:
    """What a collection did, or would do.

    Attributes:
        is_dry_run: Whether nothing was changed.
        objects_removed: Objects that went.
        bytes_removed: Their sizes.
        images_pruned: Links below ``images`` that went.
        streams_pruned: Links below ``streams`` that went.
        temporaries_removed: Leftovers of processes that were killed.
        problems: What was met that should not be there, one sentence each.
        is_complete: False if something in use could not be read, so that nothing was removed.
    """

    is_dry_run: bool
    objects_removed: int = 0
    bytes_removed: int = 0
    images_pruned: int = 0
    streams_pruned: int = 0
    temporaries_removed: int = 0
    problems: tuple[str, ...] = ()
    is_complete: bool = True

    def lines(self) -> list[str]:
        """Return the result as the original prints it."""
        lines = ["Dry run (no files deleted):"] if self.is_dry_run else []
        lines.append(f"Objects: {self.objects_removed} removed ({self.bytes_removed} bytes)")
        if self.images_pruned or self.streams_pruned:
            lines.append(f"Pruned symlinks: {self.images_pruned} images, {self.streams_pruned} streams")
        return lines


def collect_garbage(
    repository: Repository,
    *,
    extra_roots: Iterable[str] = (),
    dry_run: bool = False,
    lock_timeout_s: float | None = None,
) -> GcResult:
    """Remove what no ref and no extra root leads to.

    Args:
        repository: The repository, open.
        extra_roots: Further images and streams to keep, by any of their names.
        dry_run: Count only.
        lock_timeout_s: Longest time to wait until nobody else has the repository open; None waits for
            ever.

    Raises:
        NotWritableError: The repository cannot be written to; not in a dry run.
        RefNotFoundError: An extra root that does not exist; nothing was removed.
        LockedError: The time is up.
        OSError: A directory cannot be read or changed; some garbage may be gone.
    """
    roots = list(extra_roots)
    if dry_run:
        return _Collection(repository, is_dry_run=True).run(roots)
    repository.check_writable()
    with repository.lock.exclusive(lock_timeout_s):
        return _Collection(repository, is_dry_run=False).run(roots)


class _Dead(NamedTuple):
    """An object that is garbage."""

    fan_out: str
    name: str
    size: int


@dataclass(slots=True)
class _Pruned:
    """Links of one category that go."""

    entries: list[str] = field(default_factory=list)
    refs: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.entries) + len(self.refs)


class _Collection:
    """One collection."""

    def __init__(self, repository: Repository, *, is_dry_run: bool) -> None:
        self._repository = repository
        self._is_dry_run = is_dry_run
        self._problems: list[str] = []

    def run(self, extra_roots: list[str]) -> GcResult:
        marker = Marker(self._repository)
        for name in extra_roots:
            marker.add_root(name)
        marks = marker.run()
        dead = self._find_dead(marks) if marks.is_complete else []
        if dead and marker.has_lost_streams:
            dead = self._keep_streams(marker, dead)
        images = self._find_prunable(marker.images, marks)
        streams = self._find_prunable(marker.streams, marks)
        temporaries = 0
        if not self._is_dry_run:
            _prune(marker.images, images)
            _prune(marker.streams, streams)
            self._remove_objects(dead)
            temporaries = self._remove_temporaries()
        problems = (*marks.problems, *self._problems)
        return GcResult(
            self._is_dry_run,
            len(dead),
            sum(item.size for item in dead),
            images.count,
            streams.count,
            temporaries,
            problems[:_MAX_PROBLEMS],
            marks.is_complete,
        )

    def _note(self, problem: str) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(problem)

    # Objects

    def _find_dead(self, marks: Marks) -> list[_Dead]:
        """Return all objects that are not in use, in the order of their names."""
        try:
            objects = os.open("objects", _DIRECTORY_FLAGS, dir_fd=self._repository.dirfd)
        except FileNotFoundError:
            return []
        live = {object_id.hex() for object_id in marks.live}
        dead: list[_Dead] = []
        try:
            for fan_out in FAN_OUT:
                directory = self._open_fan_out(objects, fan_out)
                if directory is None:
                    continue
                try:
                    dead.extend(self._find_dead_in(directory, fan_out, live))
                finally:
                    os.close(directory)
        finally:
            os.close(objects)
        return dead

    def _open_fan_out(self, objects: int, fan_out: str) -> int | None:
        try:
            return os.open(fan_out, _DIRECTORY_FLAGS, dir_fd=objects)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            self._note(f"objects/{fan_out}: expected a directory; left alone")
            return None

    def _find_dead_in(self, directory: int, fan_out: str, live: set[str]) -> Iterator[_Dead]:
        name_length = 2 * (self._repository.algorithm.digest_size - 1)
        for name in sorted([name for name in os.listdir(directory) if fan_out + name not in live]):
            if len(name) != name_length or not _LOWER_HEX.match(name):
                self._note(f"objects/{fan_out}/{name}: not the name of an object; left alone")
                continue
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                self._note(f"objects/{fan_out}/{name}: expected a regular file; left alone")
                continue
            yield _Dead(fan_out, name, status.st_size)

    def _keep_streams(self, marker: Marker, dead: list[_Dead]) -> list[_Dead]:
        """Keep every splitstream, since refs name streams that cannot be told among them any more."""
        for item in dead:
            if marker.mark_stream_object(ObjectID(bytes.fromhex(item.fan_out + item.name))):
                self._note(f"objects/{item.fan_out}/{item.name}: kept, a lost ref may mean this stream")
        if not marker.marks.is_complete:
            return []
        live = {object_id.hex() for object_id in marker.marks.live}
        return [item for item in dead if item.fan_out + item.name not in live]

    def _remove_objects(self, dead: list[_Dead]) -> None:
        if not dead:
            return
        objects = os.open("objects", _DIRECTORY_FLAGS, dir_fd=self._repository.dirfd)
        fan_out, directory = "", -1
        try:
            for item in dead:
                if item.fan_out != fan_out:
                    if directory >= 0:
                        os.close(directory)
                    fan_out, directory = item.fan_out, -1
                    directory = os.open(fan_out, _DIRECTORY_FLAGS, dir_fd=objects)
                os.unlink(item.name, dir_fd=directory)
        finally:
            if directory >= 0:
                os.close(directory)
            os.close(objects)

    # Links

    def _find_prunable(self, links: CategoryMarks, marks: Marks) -> _Pruned:
        """Return the links that lead nowhere, or in a real run will do so after the collection."""
        pruned = _Pruned(refs=[ref.name for ref in links.misdirected])
        may_sweep = marks.is_complete and not self._is_dry_run
        for entry, object_id in sorted(links.entries.items()):
            if entry in links.roots:
                continue
            is_going = may_sweep and object_id not in marks.live
            if is_going or not self._repository.objects.contains(object_id):
                pruned.entries.append(entry)
        return pruned

    # Leftovers

    def _remove_temporaries(self) -> int:
        """Remove what killed processes left; nobody can be using it while we have the lock."""
        root = self._repository.dirfd
        count = _remove_leftovers(root, TEMPORARY_LINK_PREFIX, stat.S_ISLNK)
        count += _remove_leftovers(root, TEMPORARY_FILE_PREFIX, stat.S_ISREG)
        try:
            objects = os.open("objects", _DIRECTORY_FLAGS, dir_fd=root)
        except FileNotFoundError:
            return count
        try:
            return count + _remove_leftovers(objects, TEMPORARY_FILE_PREFIX, stat.S_ISREG)
        finally:
            os.close(objects)


def _prune(links: CategoryMarks, pruned: _Pruned) -> None:
    if pruned.count:
        links.category.prune(pruned.entries, pruned.refs)


def find_leftovers(directory: int, prefix: str, is_kind: _IsKind) -> Iterator[str]:
    """Yield the names of temporaries in a directory, which are in use unless nobody else has the lock."""
    for name in os.listdir(directory):
        if not name.startswith(prefix) or not _RANDOM_PART.match(name, len(prefix)):
            continue
        if is_kind(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            yield name


def _remove_leftovers(directory: int, prefix: str, is_kind: _IsKind) -> int:
    count = 0
    for name in find_leftovers(directory, prefix, is_kind):
        os.unlink(name, dir_fd=directory)
        count += 1
    return count
