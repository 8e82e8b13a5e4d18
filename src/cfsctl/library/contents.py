"""What is in a tree, without mounting it; a repository is needed only for what is in one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from cfsctl.errors import CfsError
from cfsctl.inspection.contents.listing import entry_document as entry_document  # noqa: PLC0414 - exported from here
from cfsctl.inspection.contents.listing import format_long as format_long  # noqa: PLC0414 - the same
from cfsctl.library.comparison import DEFAULT_READING, ReadingOptions, find_source
from cfsctl.library.events import make_reporter
from cfsctl.library.opened import store_of
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.inspection.contents.extract import ExtractCounts
    from cfsctl.inspection.contents.place import Place
    from cfsctl.inspection.contents.reading import ContentReader
    from cfsctl.library.comparison import OpenRepository
    from cfsctl.library.events import Progress
    from cfsctl.library.opened import OpenedRepository
    from cfsctl.library.paths import StrPath
    from cfsctl.progress import Reporter
    from cfsctl.repository.objects.reader import ObjectReader
    from cfsctl.tree.model import FileSystem

    TreePath: TypeAlias = str | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeReading:
    """How a tree is found and read.

    Attributes:
        open_repository: Returns a repository, which has to stay open; called if a name stands for something
            in one, or for the contents of files. None if there is no repository.
        options: How directories and commits are read.
        progress: Told how far it is, and how the tree was read.
    """

    open_repository: OpenRepository | None = None
    options: ReadingOptions = DEFAULT_READING
    progress: Progress | None = None


DEFAULT_TREE_READING = TreeReading()


def as_stored(open_repository: OpenRepository, progress: Progress | None) -> TreeReading:
    """Return how trees are read without changing anything in them."""
    return TreeReading(
        open_repository=open_repository, options=ReadingOptions(as_root=False), progress=progress
    )


def list_tree(
    source: str,
    path: TreePath = "/",
    *,
    is_recursive: bool = False,
    is_directory_itself: bool = False,
    reading: TreeReading = DEFAULT_TREE_READING,
) -> list[Place]:
    """Return the entries of a directory of a tree, sorted by name; of anything else, itself.

    Args:
        source: An image, an OSTree commit, a container image, a dump or a directory, named as for `diff`.
        path: The directory; symbolic links on the way are followed within the tree.
        is_recursive: Return everything below as well.
        is_directory_itself: Return a directory, not its entries.
        reading: How the tree is found and read.

    Returns:
        Entries with their paths and nodes.

    Raises:
        CfsError: A name leads to nothing, or to what cannot be read.
    """
    from cfsctl.inspection.contents.listing import iter_entries
    from cfsctl.inspection.contents.place import find_place

    place = find_place(_read(source, reading), _encode(path), follow_last=False)
    if is_directory_itself:
        return [place]
    return list(iter_entries(place, is_recursive=is_recursive))


def iter_file(source: str, path: TreePath, *, reading: TreeReading = DEFAULT_TREE_READING) -> Iterator[bytes]:
    """Yield the content of a file of a tree in pieces, nothing of it before all of it is verified.

    Args:
        source: The tree, as for `list_tree`; not a directory on disk.
        path: The file; symbolic links are followed within the tree.
        reading: How the tree is found and read.

    Raises:
        CfsError: A name leads to nothing, or the content is missing or damaged.
    """
    from cfsctl.inspection.contents.place import find_place
    from cfsctl.inspection.contents.reading import file_at

    place = find_place(_read(source, reading, with_contents=True), _encode(path))
    return _make_reader(reading).iter_content(place.path, file_at(place))


def extract(
    source: str,
    target: StrPath,
    path: TreePath = "/",
    *,
    reading: TreeReading = DEFAULT_TREE_READING,
) -> ExtractCounts:
    """Copy a directory of a tree to disk; every file is verified.

    Root sets owners and makes devices; for others the files are theirs, without set-ID bits.

    Args:
        source: The tree, as for `list_tree`; not a directory on disk.
        target: A directory: a new one, which appears when it is complete, or an empty one.
        path: The directory of the tree, or a file, which is put into the target; symbolic links are
            followed within the tree.
        reading: How the tree is found and read.

    Returns:
        What was extracted, and what was left out.

    Raises:
        CfsError: A name leads to nothing, the target is in use, or a file is missing or damaged; nothing of
            the target is left then.
        OSError: The target cannot be written.
    """
    from cfsctl.inspection.contents.extract import (
        count_content,
        extract_directory,
    )
    from cfsctl.inspection.contents.place import as_directory, find_place
    from cfsctl.inspection.contents.target import explain_full_target, new_directory
    from cfsctl.repository.objects.space import needing

    place = find_place(_read(source, reading, with_contents=True), _encode(path))
    reader, report = _make_reader(reading), make_reporter(reading.progress)
    directory, name = as_directory(place), os.fspath(target)
    try:
        with needing(lambda _: count_content(directory)), new_directory(name) as fd:
            return extract_directory(directory, fd, reader, report)
    except OSError as error:
        explain_full_target(error, name)
        raise


def iter_tar(
    source: str,
    path: TreePath = "/",
    *,
    reading: TreeReading = DEFAULT_TREE_READING,
) -> Iterator[bytes]:
    """Yield a directory of a tree as a tar archive (pax), in pieces; every file is verified first.

    The same tree makes the same bytes. Sockets are left out, and a message says so.

    Args:
        source: The tree, as for `list_tree`; not a directory on disk.
        path: The directory of the tree, or a file, which is put into the archive alone.
        reading: How the tree is found and read.

    Raises:
        CfsError: A name leads to nothing, or a file is missing or damaged.
    """
    from cfsctl.inspection.contents.archive import iter_archive
    from cfsctl.inspection.contents.place import as_directory, find_place

    place = find_place(_read(source, reading, with_contents=True), _encode(path))
    return iter_archive(as_directory(place), _make_reader(reading), make_reporter(reading.progress))


def _encode(path: TreePath) -> bytes:
    if not path:
        raise CfsError("expected a path in the tree, found nothing")
    return os.fsencode(path)


def _read(source: str, reading: TreeReading, *, with_contents: bool = False) -> FileSystem:
    from cfsctl.digest import Algorithm
    from cfsctl.inspection.sources import DirectorySource

    report: Reporter = make_reporter(reading.progress)
    found = find_source(source, reading.open_repository, reading.options, report)
    if with_contents and isinstance(found, DirectorySource):
        raise CfsError(
            f"{source} is a directory on disk",
            hint="read it there, or name an image or commit of the repository",
        )
    filesystem = found.read(found.find_algorithm() or Algorithm.SHA512)
    for note in found.notes:
        report(Message(note))
    return filesystem


def _make_reader(reading: TreeReading) -> ContentReader:
    from cfsctl.inspection.contents.reading import ContentReader

    return ContentReader(_objects_opener(reading.open_repository))


def _objects_opener(
    open_repository: Callable[[], OpenedRepository] | None,
) -> Callable[[], ObjectReader]:
    def open_objects() -> ObjectReader:
        if open_repository is None:
            raise CfsError("no repository was named, which has the contents of files")
        return store_of(open_repository()).objects

    return open_objects
