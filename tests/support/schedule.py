"""The order in which workers of pytest-xdist get files of tests.

Left to itself, `--dist loadfile` hands out the files with the most tests first. Those with few long tests
come last, and one worker ends them while the others have nothing to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pytest
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

LONGEST: Final = (
    "tests/guest/test_verity.py",
    "tests/integration/repository/test_crash.py",
    "tests/integration/cli/test_exit_codes.py",
    "tests/guest/test_boot.py",
    "tests/integration/repository/test_durability.py",
    "tests/integration/cli/test_interrupts.py",
    "tests/integration/http/test_pull_hostile.py",
    "tests/compat/test_state_machine.py",
    "tests/integration/cli/test_environments.py",
    "tests/integration/test_recorded_cases.py",
    "tests/integration/cli/test_man_examples.py",
    "tests/integration/test_documents.py",
    "tests/integration/oci/test_prepare_boot.py",
    "tests/integration/cli/test_arguments.py",
    "tests/integration/cli/test_short_ids.py",
    "tests/integration/cli/test_refs.py",
    "tests/integration/oci/test_commands.py",
    "tests/integration/oci/test_push.py",
    "tests/integration/varlink/test_service.py",
    "tests/guest/test_boot_fat.py",
    "tests/integration/pipelines/test_pipelines.py",
)
"""Files that take long, those that take longest first. The others follow, those with the most tests first."""

_PLACES: Final = {path: place for place, path in enumerate(LONGEST)}


class LongestFirst(LoadFileScheduling):
    """Hands out the files that take longest first."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        """Know of no tests yet."""
        super().__init__(config, log)
        self._numbers: dict[str, int] = {}

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Give the next file to a worker."""
        if not self._numbers:
            # All workers have collected the same, which was checked.
            self._numbers = {name: number for number, name in enumerate(self.registered_collections[node])}
        path = choose_next(self.workqueue)
        tests = self.assigned_work[node][path] = self.workqueue.pop(path)
        node.send_runtest_some([self._numbers[name] for name, is_done in tests.items() if not is_done])


def choose_next(waiting: Mapping[str, Collection[str]]) -> str:
    """Return the file that is to be tested next.

    Args:
        waiting: The tests of each file that no worker has yet.
    """
    return min(waiting, key=lambda path: (_PLACES.get(path, len(_PLACES)), -len(waiting[path])))
