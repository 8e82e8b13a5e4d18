"""The two forms of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.digest import ObjectID
from cfsctl.repository.check.report import FsckReport, Tally

if TYPE_CHECKING:
    import pytest


def make(*, has_metadata: bool = True, has_bad_metadata: bool = False) -> FsckReport:
    tally = Tally()
    part = Tally()
    for kind, number in (("objects", 7), ("streams", 2), ("images", 3)):
        tally.count(kind, number - 1)
        part.count(kind)
    tally.add(part)
    return FsckReport(has_metadata, has_bad_metadata, tally)


def test_clean() -> None:
    report = make()
    assert report.is_ok
    assert report.lines() == [
        "meta.json: ok",
        "objects: 7/7 ok",
        "streams: 2/2 ok",
        "images: 3/3 ok",
        "status: ok",
    ]
    assert list(report.as_dict().items()) == [
        ("ok", True),
        ("has_metadata", True),
        ("objects_checked", 7),
        ("objects_corrupted", 0),
        ("streams_checked", 2),
        ("streams_corrupted", 0),
        ("images_checked", 3),
        ("images_corrupted", 0),
        ("broken_links", 0),
        ("missing_objects", 0),
        ("errors", []),
    ]


def test_findings() -> None:
    report = make()
    other = Tally(broken_links=2, missing_objects=1)
    other.find("object-digest-mismatch: objects/xx/y: measured z", corrupts="objects")
    other.find("missing-object-ref: streams/s: z")
    report.tally.add(other)
    assert report.lines() == [
        "meta.json: ok",
        "objects: 6/7 ok",
        "streams: 2/2 ok",
        "images: 3/3 ok",
        "broken symlinks: 2",
        "missing objects: 1",
        "status: 2 error(s)",
        "  - fsck: object-digest-mismatch: objects/xx/y: measured z",
        "  - fsck: missing-object-ref: streams/s: z",
    ]
    document = report.as_dict()
    assert (document["ok"], document["objects_corrupted"], document["broken_links"]) == (False, 1, 2)
    assert document["errors"] == report.findings


def test_metadata() -> None:
    assert make(has_metadata=False).lines()[0] == "meta.json: absent"
    assert make(has_metadata=False, has_bad_metadata=True).lines()[0] == "meta.json: error"
    assert make(has_bad_metadata=True).lines()[0] == "meta.json: error"


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
