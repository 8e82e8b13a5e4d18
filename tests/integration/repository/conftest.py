"""Nothing of the machine that runs the tests has a say in what they find."""

from __future__ import annotations

import pytest

from cfsctl.repository.gc import collect, live_mounts


@pytest.fixture(autouse=True)
def _nothing_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide mounts: one that somebody else makes in the meantime may need any image that cannot be read.

    Tests in `tests/privileged` look at real ones.
    """
    for module in (collect, live_mounts):
        monkeypatch.setattr(module, "find_live_mounts", lambda *_: live_mounts.Look([], []))
