"""What is different between two trees, in numbers."""

from __future__ import annotations

import pytest

from cfsctl.inspection.diff import iter_differences
from cfsctl.inspection.packages.find import Packages
from cfsctl.inspection.packages.package import Package
from cfsctl.inspection.storage.changes import iter_package_changes, summarize
from cfsctl.inspection.storage.model import ChangedEntry, ChangeKind, ChangeTally, ReportLimits, TreeChanges
from tests.unit.inspection.storage.test_directories import make_tree


def compare(old: dict[bytes, int], new: dict[bytes, int], rows: int = 10) -> TreeChanges:
    return summarize(iter_differences(make_tree(old), make_tree(new)), rows)


def test_the_same() -> None:
    found = compare({b"a/f": 1}, {b"a/f": 1})
    assert found == TreeChanges(tally=ChangeTally(), entries=(), areas=())


def test_numbers_and_largest_entries() -> None:
    old = {b"usr/lib/same": 5, b"usr/lib/x/gone": 40, b"usr/lib/grown": 10, b"etc/f": 3}
    new = {b"usr/lib/same": 5, b"usr/lib/grown": 70, b"var/new": 60, b"etc/f": 3}
    found = compare(old, new)
    assert found.tally == ChangeTally(added=2, removed=2, content=1, added_bytes=130, removed_bytes=50)
    assert found.entries[:3] == (
        ChangedEntry(
            kind=ChangeKind.CHANGED, path=b"/usr/lib/grown", old_bytes=10, new_bytes=70, what="content"
        ),
        ChangedEntry(kind=ChangeKind.ADDED, path=b"/var/new", old_bytes=None, new_bytes=60, what="file"),
        ChangedEntry(
            kind=ChangeKind.REMOVED, path=b"/usr/lib/x/gone", old_bytes=40, new_bytes=None, what="file"
        ),
    )
    assert [(area.path, area.tally.total) for area in found.areas] == [
        (b"/usr/lib", 3),
        (b"/var", 1),
        (b"/", 1),
    ]
    assert found.entries_left_out == 0


def test_rows_that_are_left_out() -> None:
    found = compare({}, {b"f%03d" % number: number + 1 for number in range(200)}, rows=7)
    assert [entry.new_bytes for entry in found.entries] == [200, 199, 198, 197, 196, 195, 194]
    assert found.entries_left_out == 193


def test_attributes_alone_have_no_bytes() -> None:
    old, new = make_tree({b"f": 9}), make_tree({b"f": 9})
    new.root.entries[b"f"].mode = 0o600
    found = summarize(iter_differences(old, new), 5)
    assert found.tally == ChangeTally(metadata=1)
    assert (found.entries[0].what, found.entries[0].weight) == ("mode", 0)


def packages(*found: Package) -> Packages:
    installed: dict[tuple[str, str], tuple[Package, ...]] = {}
    for one in found:
        key = (one.name, one.architecture)
        installed[key] = (*installed.get(key, ()), one)
    return Packages((b"/db",), installed, ())


def test_packages() -> None:
    old = packages(Package("a", "x", "1", 10), Package("b", "x", "1", 10), Package("k", "x", "1", None))
    new = packages(
        Package("a", "x", "2", 25),
        Package("c", "x", "1", None),
        Package("k", "x", "1", 1),
        Package("k", "x", "2", 1),
    )
    found = [
        (one.name, one.kind.value, one.old, one.new, one.size_change)
        for one in iter_package_changes(old, new)
    ]
    assert found == [
        ("a", "changed", "1", "2", 15),
        ("b", "removed", "1", None, -10),
        ("c", "added", None, "1", None),
        ("k", "changed", "1", "1, 2", None),
    ]


def test_packages_that_are_left_out() -> None:
    new = packages(*(Package(f"p{number:03}", "", "1", 1) for number in range(30)))
    found = summarize([], 10, (packages(), new))
    assert (len(found.packages), found.packages_left_out, found.databases) == (10, 20, (b"/db",))


@pytest.mark.parametrize("limits", [{"rows": 0}, {"trees": -1}, {"versions": 0}, {"comparisons": -1}])
def test_limits_that_make_no_sense(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected limits"):
        ReportLimits(**limits)
