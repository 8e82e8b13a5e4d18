"""Check a whole repository and report all errors, without changing anything.

There is one exception: if an object is damaged, the list of verified objects may be wrong, and is removed.

The parts of a check are independent: metadata, each of the 256 object directories, streams and images.
Workers process them one by one, the long ones first; the report lists them in a fixed order. Streams and
images are checked against the set of existing objects, regardless of their contents.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, describe
from cfsctl.linux.flags import DIRECTORY_FLAGS
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.repository.check.links import ImageInspector, LinkChecker, StreamInspector
from cfsctl.repository.check.objects import ObjectChecker, make_check_failure
from cfsctl.repository.check.report import FsckReport, Tally
from cfsctl.repository.gc.sweep import FAN_OUT, find_leftovers
from cfsctl.repository.metadata.config import AlgorithmMismatchError
from cfsctl.repository.metadata.file import read_metadata
from cfsctl.repository.objects.verified import forget_verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.progress import Reporter
    from cfsctl.repository.check.links import ContentChecks
    from cfsctl.repository.repository import Repository

FSCK_ID: Final = "fsck"
"""Names the progress of a check."""

_CATEGORIES: Final = ("streams", "images")
_WORTH_WORKERS: Final = 32
"""Directories of objects from which on it pays to start processes."""

_Task = str
"""``streams``, ``images``, or the name of a directory of objects."""


def check_repository(
    repository: Repository,
    *,
    metadata_only: bool = False,
    deep: bool = False,
    workers: int | None = None,
    content_checks: ContentChecks | None = None,
    reporter: Reporter = silent,
) -> FsckReport:
    """Check a repository.

    Args:
        repository: The repository, open.
        metadata_only: Leave the content of objects alone.
        deep: Read everything, including content protected by fs-verity, and streams and images as far
            as they can be decoded, the texts of links, leftovers of killed processes.
        workers: Processes to use besides this one; None is one for each processor.
        content_checks: How to look at the content of streams, by content type.
        reporter: Told how many directories of objects, and categories of names, have been checked.

    Returns:
        The report; it holds all that was found.

    Raises:
        CheckFailedError: A directory cannot be read, so nothing is known about what is in it.
    """
    tally = Tally()
    has_metadata = _check_metadata(repository, tally)
    has_bad_metadata = bool(tally.findings)
    tasks = ([] if metadata_only else _list_fan_out(repository)) + list(_CATEGORIES)
    settings = _Settings(deep, content_checks)
    results = _run(repository, tasks, settings, workers, reporter)
    for task in tasks:
        tally.add(results[task])
    if tally.damaged:
        forget_verified(repository.dirfd)
    elif tally.marks and not tally.findings:
        repository.verified.add_new(tally.marks)
        repository.sync()
        repository.save_marks(())
    if deep:
        for path in find_leftovers(repository.dirfd):
            # Of a repository that is being written to, some are in use; a finding all the same.
            tally.find(f"leftover-temporary: {path}")
    return FsckReport(has_metadata, has_bad_metadata, tally)


def _check_metadata(repository: Repository, tally: Tally) -> bool:
    """Check meta.json again; return whether it could be read."""
    try:
        metadata = read_metadata(repository.dirfd)
    except (CfsError, OSError) as error:
        tally.find(f"metadata-parse-failed: meta.json: {describe(error)}")
        return False
    if metadata is None:
        tally.find("metadata-parse-failed: meta.json: No such file or directory (os error 2)")
        return False
    try:
        metadata.config.check_supported(repository.algorithm)
    except AlgorithmMismatchError:
        found, opened = metadata.config.algorithm.label, repository.algorithm.hash_name
        tally.find(f"metadata-algorithm-mismatch: meta.json: expected {found}, repository opened as {opened}")
    except CfsError as error:
        tally.find(f"metadata-unsupported: meta.json: {error}")
    return True


def _list_fan_out(repository: Repository) -> list[_Task]:
    """Return the directories of objects that there are, sorted."""
    try:
        objects = os.open("objects", DIRECTORY_FLAGS, dir_fd=repository.dirfd)
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"checking objects: opening objects directory: {error.strerror}"
        raise make_check_failure(message, error) from error
    try:
        names = set(os.listdir(objects))
    finally:
        os.close(objects)
    return [fan_out for fan_out in FAN_OUT if fan_out in names]


class _Settings(NamedTuple):
    is_deep: bool
    content_checks: ContentChecks | None


def _run(
    repository: Repository, tasks: list[_Task], settings: _Settings, workers: int | None, report: Reporter
) -> dict[_Task, Tally]:
    report(Started(FSCK_ID, len(tasks), Unit.ITEMS))
    results: dict[_Task, Tally] = {}
    for task, tally in _iter_results(repository, tasks, settings, workers):
        results[task] = tally
        report(Advanced(FSCK_ID, len(results), len(tasks)))
    report(Done(FSCK_ID, len(results)))
    return results


def _iter_results(
    repository: Repository, tasks: list[_Task], settings: _Settings, workers: int | None
) -> Iterator[tuple[_Task, Tally]]:
    def make_handler() -> Callable[[_Task], tuple[_Task, Tally]]:
        return _Checker(repository, settings)

    if len(tasks) < _WORTH_WORKERS or workers == 0:
        yield from map(make_handler(), tasks)
        return
    from cfsctl.workers import WorkerPool  # small repositories are checked without

    # Streams and images first: each of them is long, and the directories fill the gaps.
    with WorkerPool(make_handler, workers) as pool:
        yield from pool.map_unordered(reversed(tasks))


class _Checker:
    """Does one part of the check; lives in a worker."""

    def __init__(self, repository: Repository, settings: _Settings) -> None:
        self._repository = repository
        self._is_deep, self._content_checks = settings
        self._objects = ObjectChecker(
            repository.dirfd, repository.algorithm, is_secure=repository.is_secure, is_deep=self._is_deep
        )

    def __call__(self, task: _Task) -> tuple[_Task, Tally]:
        repository, is_deep = self._repository, self._is_deep
        if task == "streams":
            links = LinkChecker(repository, repository.streams.links, is_deep=is_deep)
            inspector = StreamInspector(repository, is_deep=is_deep, content_checks=self._content_checks)
            tally = links.check(inspector)
            tally.marks.update(repository.verified.drain_new())
            return task, tally
        if task == "images":
            links = LinkChecker(repository, repository.images.links, is_deep=is_deep)
            return task, links.check(ImageInspector(repository, is_deep=is_deep))
        return task, self._objects.check(task)
