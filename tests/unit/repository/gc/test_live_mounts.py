"""Looking at what is mounted more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from cfsctl.repository.gc import live_mounts

if TYPE_CHECKING:
    from cfsctl.repository.objects.store import ObjectStore


@pytest.mark.parametrize(
    ("looks", "gaps"),
    [
        ([{"mnt:[1]": 7}, {"mnt:[2]": 7}, {"mnt:[3]": 7}, {"mnt:[4]": 7}], []),
        ([{"mnt:[1]": 7}, {}, {"mnt:[1]": 7}, {"mnt:[1]": 7}], []),
        (
            [{"mnt:[1]": 7}, {"mnt:[1]": 7}, {"mnt:[1]": 8, "mnt:[2]": 9}, {"mnt:[1]": 8}],
            ["mount namespace without processes that process 8 has open"],
        ),
    ],
    ids=["always another", "for a moment", "lasting"],
)
def test_a_namespace_that_is_kept_counts_only_if_it_stays(
    looks: list[dict[str, int]], gaps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that look at mounts have the namespaces of processes open that end at that moment."""
    rounds = iter([live_mounts._Round({}, [], namespaces) for namespaces in looks])
    monkeypatch.setattr(live_mounts, "_look_around", lambda *_: next(rounds))
    monkeypatch.setattr(live_mounts, "_PAUSES_S", (0, 0, 0))
    monkeypatch.setattr(live_mounts, "find_fuse_mounts", lambda _: [])
    look = live_mounts.find_live_mounts(cast("ObjectStore", None), ())
    assert look == live_mounts.Look([], gaps)
