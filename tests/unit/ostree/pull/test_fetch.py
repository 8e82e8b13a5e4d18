"""Workers that fetch content: whether there are any, and when they begin."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from cfsctl.digest import Algorithm, Checksum
from cfsctl.ostree.pull.fetch import FileWorkers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cfsctl.ostree.source import ObjectSource
    from cfsctl.repository.objects.store import ObjectStore


class FakeSource:
    """Says of each file which process has asked for it."""

    def fetch_files(self, checksums: Sequence[Checksum], _: object) -> Iterator[tuple[Checksum, bytes, None]]:
        for checksum in checksums:
            yield checksum, str(os.getpid()).encode(), None

    def close(self) -> None:
        """Nothing is open."""


def make_workers(find_size: Callable[[Sequence[Checksum]], int] | None) -> FileWorkers:
    source = cast("ObjectSource", FakeSource())
    store = cast("ObjectStore", SimpleNamespace(algorithm=Algorithm.SHA256))
    return FileWorkers(source, store, 2, lambda _: None, lambda _: None, find_size)


def run(workers: FileWorkers, count: int) -> set[int]:
    """Fetch so many files and return which processes did it."""
    names = [Checksum(number.to_bytes(32, "big")) for number in range(count)]
    workers.add(names)
    files = [file for batch in workers.poll(0) for file in batch.files]
    workers.begin()
    while not workers.is_idle:
        files += [file for batch in workers.poll() for file in batch.files]
    assert sorted(file[0] for file in files) == names
    return {int(file[1]) for file in files}


def test_few_small_files_are_imported_without_workers() -> None:
    with make_workers(lambda names: 1000 * len(names)) as workers:
        assert run(workers, 64) == {os.getpid()}


@pytest.mark.alone  # a process with threads, such as a worker of xdist, starts no workers
@pytest.mark.parametrize(("count", "size"), [(65, 1), (1, 1 << 30)], ids=["many", "large"])
def test_much_is_imported_by_workers(count: int, size: int) -> None:
    with make_workers(lambda names: size * len(names)) as workers:
        assert os.getpid() not in run(workers, count)


@pytest.mark.alone  # as above
def test_workers_are_there_from_the_beginning_where_a_source_has_connections() -> None:
    with make_workers(None) as workers:
        assert os.getpid() not in run(workers, 1)


def test_without_any_file_there_is_nothing_to_wait_for() -> None:
    with make_workers(len) as workers:
        assert run(workers, 0) == set()
        assert workers.rescue(1) == []


def test_what_was_put_off_is_given_up_after_an_error() -> None:
    with make_workers(len) as workers:
        workers.add([Checksum(bytes(32))])
        assert workers.rescue(1) == []
        assert workers.is_idle
