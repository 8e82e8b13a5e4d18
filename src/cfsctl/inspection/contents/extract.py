"""Copy a directory of a tree to disk.

First everything is made, in directories that nobody else may enter. Then directories get their attributes,
the innermost first, since even its owner may not write to a directory then. Nothing outside of the target is
touched: names are opened relative to their directories, and no link is followed.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cfsctl.inspection.contents.attributes import AttributeSetter
from cfsctl.inspection.contents.open_directories import OpenDirectories
from cfsctl.inspection.contents.reading import unavailable
from cfsctl.linux.ioctls import try_clone
from cfsctl.linux.sparse import copy_file, write_all, write_hole
from cfsctl.progress import Advanced, Done, Started, Unit
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    InlineFile,
    Socket,
    SparseFile,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.inspection.contents.reading import ContentReader
    from cfsctl.inspection.diff import Entry
    from cfsctl.progress import Reporter

EXTRACT_ID: Final = "extract"
"""Names the progress of an extraction."""

_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REPORT_EVERY: Final = 64


@dataclass(slots=True)
class ExtractCounts:
    """What was extracted.

    Attributes:
        files: Regular files, links not counted.
        directories: Directories.
        links: Symbolic links, and further names of files.
        others: Devices, pipes and sockets.
        size_bytes: Content of the files.
        reflinked_bytes: Content that shares its blocks with objects and takes no space.
        skipped: Paths of devices that were left out, because only root can make them.
        refused: How many files lack an extended attribute that could not be set, by its name.
    """

    files: int = 0
    directories: int = 0
    links: int = 0
    others: int = 0
    size_bytes: int = 0
    reflinked_bytes: int = 0
    skipped: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)


def extract_directory(
    directory: Directory, target: int, reader: ContentReader, reporter: Reporter
) -> ExtractCounts:
    """Copy the entries of a directory, and its own attributes, to an empty directory.

    Args:
        directory: The directory of the tree.
        target: Descriptor of the empty directory, borrowed. Nobody else may write to it.
        reader: Reads the contents of files.
        reporter: Told how many entries are done.

    Raises:
        ContentUnavailableError: A file's content is not in the repository.
        ObjectMissingError, IntegrityError: An object is missing or damaged.
        OSError: Something cannot be written.
    """
    job = _Extraction(target, reader, reporter)
    reporter(Started(EXTRACT_ID, None, Unit.ITEMS))
    job.make_entries(directory)
    job.set_directories(directory)
    reporter(Done(EXTRACT_ID, job.done))
    job.counts.refused = dict(sorted(job.setter.refused.items()))
    return job.counts


def count_content(directory: Directory) -> int:
    """Return the size of the files in a directory, each counted once."""
    sizes: dict[int, int] = {}
    pending = [directory]
    while pending:
        for node in pending.pop().entries.values():
            if isinstance(node, Directory):
                pending.append(node)
            elif isinstance(node, InlineFile):
                sizes[id(node)] = len(node.data)
            elif isinstance(node, ExternalFile):
                sizes[id(node)] = node.size
    return sum(sizes.values())


class _Extraction:
    def __init__(self, target: int, reader: ContentReader, reporter: Reporter) -> None:
        self._target = target
        self._reader = reader
        self._reporter = reporter
        self._is_root = os.geteuid() == 0
        self._may_clone = True
        self._made: dict[int, tuple[bytes, ...]] = {}
        self._trail: list[bytes] = []
        self.setter = AttributeSetter(is_root=self._is_root)
        self.counts = ExtractCounts(directories=1)
        self.done = 0

    def make_entries(self, root: Directory) -> None:
        """Make everything, directories without their attributes."""
        with OpenDirectories(self._target) as where:
            stack = [_iter_sorted(root)]
            while stack:
                found = next(stack[-1], None)
                if found is None:
                    stack.pop()
                    if stack:
                        self._trail.pop()
                        where.leave()
                    continue
                name, node = found
                self._count()
                if isinstance(node, Directory):
                    self.counts.directories += 1
                    os.mkdir(name, 0o700, dir_fd=where.current)
                    where.enter(name)
                    self._trail.append(name)
                    stack.append(_iter_sorted(node))
                else:
                    self._make_leaf(where.current, name, node)

    def set_directories(self, root: Directory) -> None:
        """Give directories their attributes, each after those in it."""
        with OpenDirectories(self._target) as where:
            stack = [(root, _iter_directories(root))]
            while stack:
                node, inner = stack[-1]
                found = next(inner, None)
                if found is not None:
                    name, child = found
                    where.enter(name)
                    stack.append((child, _iter_directories(child)))
                    continue
                stack.pop()
                current = os.dup(where.current)
                try:
                    # First: its mode may forbid to open "..".
                    if stack:
                        where.leave()
                    self.setter.set_open(current, node)
                finally:
                    os.close(current)

    def _count(self) -> None:
        self.done += 1
        if self.done % _REPORT_EVERY == 0:
            self._reporter(Advanced(EXTRACT_ID, self.done, None))

    def _path(self, name: bytes) -> bytes:
        return b"/".join([*self._trail, name])

    def _make_leaf(self, dirfd: int, name: bytes, node: Entry) -> None:
        first = self._made.get(id(node))
        if first is not None:
            self._make_link(dirfd, name, first)
            return
        match node:
            case InlineFile() | ExternalFile() | SparseFile():
                self._make_file(dirfd, name, node)
            case Symlink():
                os.symlink(node.target, name, dir_fd=dirfd)
                self.setter.set_named(dirfd, name, node)
                self.counts.links += 1
            case CharDevice() | BlockDevice() | Fifo() | Socket():
                if not self._make_special(dirfd, name, node):
                    return
            case RedirectedFile():
                raise unavailable(self._path(name))
            case _:
                raise AssertionError(f"unknown node {node!r}")
        self._made[id(node)] = (*self._trail, name)

    def _make_link(self, dirfd: int, name: bytes, first: tuple[bytes, ...]) -> None:
        """Make a further name of a file; a long path is walked in steps, as the kernel limits its length."""
        with OpenDirectories(self._target) as where:
            for part in first[:-1]:
                where.enter(part)
            os.link(first[-1], name, src_dir_fd=where.current, dst_dir_fd=dirfd, follow_symlinks=False)
        self.counts.links += 1

    def _make_special(self, dirfd: int, name: bytes, node: CharDevice | BlockDevice | Fifo | Socket) -> bool:
        """Make a device, pipe or socket; return whether that is allowed."""
        device = node.rdev if isinstance(node, CharDevice | BlockDevice) else 0
        try:
            os.mknod(name, node.file_type | 0o600, device, dir_fd=dirfd)
        except OSError as error:
            if self._is_root or error.errno != errno.EPERM:
                raise
            self.counts.skipped.append(os.fsdecode(self._path(name)))
            return False
        self.setter.set_named(dirfd, name, node)
        self.counts.others += 1
        return True

    def _make_file(self, dirfd: int, name: bytes, node: InlineFile | ExternalFile | SparseFile) -> None:
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=dirfd)
        try:
            if isinstance(node, InlineFile):
                write_all(fd, node.data)
            elif isinstance(node, SparseFile):
                os.ftruncate(fd, node.size)
            else:
                self._copy_object(fd, node)
            self.setter.set_open(fd, node)
        finally:
            os.close(fd)
        self.counts.files += 1
        self.counts.size_bytes += len(node.data) if isinstance(node, InlineFile) else node.size

    def _copy_object(self, fd: int, node: ExternalFile) -> None:
        source = self._reader.open(node)
        try:
            if self._may_clone and try_clone(fd, source):
                self.counts.reflinked_bytes += node.size
                return
            self._may_clone = False
            copy_file(source, lambda data: write_all(fd, data), lambda size: write_hole(fd, size))
        finally:
            os.close(source)


def _iter_sorted(directory: Directory) -> Iterator[tuple[bytes, Entry]]:
    return iter(sorted(directory.entries.items()))


def _iter_directories(directory: Directory) -> Iterator[tuple[bytes, Directory]]:
    return ((name, node) for name, node in directory.entries.items() if isinstance(node, Directory))
