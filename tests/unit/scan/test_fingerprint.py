"""Fingerprints of scans."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.scan import scan_directory, walker
from cfsctl.scan.fingerprint import Fingerprint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a tree of a few directories, with files of two sizes."""
    for name in ("a", "a/b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "small").write_bytes(b"small")
        (tmp_path / name / "large").write_bytes(name.encode() * 1000)
        (tmp_path / name / "second name").hardlink_to(tmp_path / name / "large")
    return tmp_path


def _scan(tree: Path) -> bytes:
    fingerprint = Fingerprint()
    scan_directory(str(tree), algorithm=Algorithm.SHA256, workers=0, fingerprint=fingerprint)
    return fingerprint.digest()


def test_it_does_not_depend_on_who_listed_what_when(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All in one task; one directory in each task; files that are read in tasks of their own."""
    expected = _scan(tree)
    monkeypatch.setattr("cfsctl.scan.scanner._FIRST_ENTRIES", 1)
    monkeypatch.setattr("cfsctl.scan.scanner._VISIT_ENTRIES", 1)
    assert _scan(tree) == expected
    monkeypatch.setattr(walker, "_LEAVE_BYTES", 100)
    assert _scan(tree) == expected


@pytest.mark.parametrize("leave_bytes", [100, 1 << 20])
def test_it_covers_the_content_of_files(
    tree: Path, monkeypatch: pytest.MonkeyPatch, leave_bytes: int
) -> None:
    monkeypatch.setattr(walker, "_LEAVE_BYTES", leave_bytes)
    found = {_scan(tree)}
    for path in ("a/large", "a/b/small"):
        (tree / path).write_bytes(b"!" * (tree / path).stat().st_size)
        found.add(_scan(tree))
    assert len(found) == 3


def test_it_covers_where_a_directory_is(tree: Path) -> None:
    before = _scan(tree)
    times = {path: path.stat() for path in (tree, tree / "a", tree / "c")}
    (tree / "a" / "b").rename(tree / "c" / "b")
    for path, status in times.items():
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert _scan(tree) != before
