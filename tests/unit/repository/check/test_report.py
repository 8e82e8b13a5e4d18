"""Reports of a check of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.digest import ObjectID
from cfsctl.repository.check.report import FsckReport, Tally

if TYPE_CHECKING:
    import pytest


def test_very_many_findings_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfsctl.repository.check.report.MAX_FINDINGS", 3)
    total = Tally()
    for part in range(2):
        tally = Tally()
        for number in range(4):
            tally.miss(ObjectID(bytes((part, number)) * 16), f"missing {part}.{number}")
        total.add(tally)
    report = FsckReport(has_metadata=True, has_bad_metadata=False, tally=total)
    assert report.findings == [
        "fsck: missing 0.0",
        "fsck: missing 0.1",
        "fsck: missing 0.2",
        "fsck: 5 more are not listed",
    ]
    assert "status: 8 error(s)" in report.lines()
    assert len(total.missing) == total.missing_objects == 8
    assert not report.is_ok
