"""Settings for all tests."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from cfsctl import logs
from tests.support import disk, warm_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer

    from tests.support.schedule import LongestFirst

# A busy machine is no reason to fail: no test here is about time. Nor is luck: every run draws the same
# examples, and `make test-deep` looks for new ones.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("cfsctl", settings.get_profile("random"), derandomize=True)
settings.load_profile("cfsctl")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LongestFirst | None:
    """Have the files that take longest tested first."""
    from tests.support.schedule import LongestFirst  # the workers need none

    return LongestFirst(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start the programs that tests run quickly, and away from the caches of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        disk.skip_waiting()
        with warm_start.serving():
            yield


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Let no test inherit what a command in this process set up for its messages."""
    root = logging.getLogger(logs.ROOT)
    handlers, level, propagates = list(root.handlers), root.level, root.propagate
    logs._prepare.clear()
    if (errors := sys.modules.get("cfsctl.cli.errors")) is not None:
        errors.STYLE.reset()  # which a command with --json has changed
    yield
    logs._prepare.clear()
    root.handlers[:] = handlers
    root.setLevel(level)
    root.propagate = propagates


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Have the programs that tests run end on an interrupt, also where the tests run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
