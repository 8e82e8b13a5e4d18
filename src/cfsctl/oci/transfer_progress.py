"""Progress of transfers that workers run: counted in shared memory, told by the parent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.progress import Advanced, Done, Started, Unit
from cfsctl.workers.batches import SharedCounters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cfsctl.progress import Reporter


class TransferProgress:
    """Bytes that workers have read of each blob."""

    def __init__(self, tasks: Sequence[tuple[str, int]], report: Reporter) -> None:
        """Tell nothing yet.

        Args:
            tasks: ID and size of each transfer.
            report: Told how far each is.
        """
        self._tasks = tasks
        self._report = report
        self._counters = SharedCounters(len(tasks))
        self._told = [-1] * len(tasks)
        self._is_finished = [False] * len(tasks)

    def counter(self, index: int) -> Callable[[int], None]:
        """Return what notes how many bytes of a blob were read; for workers."""
        return self._counters.writer(index)

    def tell(self) -> None:
        """Report what has changed."""
        for index, (name, size) in enumerate(self._tasks):
            done = self._counters.read(index)
            if done > max(0, self._told[index]) and not self._is_finished[index]:
                self._start(index)
                self._told[index] = done
                self._report(Advanced(name, done, size))

    def _start(self, index: int) -> None:
        """Report that a transfer was begun, unless that was reported; one that waits has no speed."""
        if self._told[index] < 0:
            self._told[index] = 0
            name, size = self._tasks[index]
            self._report(Started(name, size, Unit.BYTES))

    def finish(self, index: int) -> None:
        """Report that a transfer is complete."""
        self._start(index)
        self._is_finished[index] = True
        self._report(Done(*self._tasks[index]))
