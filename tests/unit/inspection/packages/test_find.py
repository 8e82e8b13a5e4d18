"""Where the databases of packages are in a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.inspection.contents.directory import DirectoryContents
from cfsctl.inspection.contents.reading import ContentReader
from cfsctl.inspection.packages.find import Packages, find_packages
from cfsctl.tree.model import Directory, ExternalFile, FileSystem, InlineFile, SparseFile, Symlink
from tests.support.packages import RpmPackage, rpm_database, rpm_header

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.inspection.diff import Entry
    from cfsctl.repository.objects.reader import ObjectReader

STATUS = b"Package: bash\nVersion: 5\nArchitecture: amd64\nStatus: install ok installed\n"
KEY = ("bash", "amd64")


def no_objects() -> ObjectReader:
    pytest.fail("there are no objects")


def tree(**files: Entry) -> FileSystem:
    root = Directory(0o755)
    for path, node in files.items():
        *above, name = path.split("__")
        directory = root
        for one in above:
            found = directory.entries.setdefault(one.encode(), Directory(0o755))
            assert isinstance(found, Directory)
            directory = found
        directory.entries[name.encode()] = node
    return FileSystem(root)


def find(filesystem: FileSystem) -> Packages:
    return find_packages(filesystem, ContentReader(no_objects))


def test_none() -> None:
    assert find(tree()) == Packages((), {}, ())


def test_status_of_dpkg() -> None:
    found = find(tree(var__lib__dpkg__status=InlineFile(STATUS, 0o644)))
    assert found.databases == (b"/var/lib/dpkg/status",)
    assert found.installed[KEY][0].version == "5"


def test_status_directory() -> None:
    node = Directory(0o755)
    node.entries = {b"bash": InlineFile(STATUS, 0o644), b"bash.md5sums": InlineFile(b"x", 0o644)}
    found = find(tree(**{"var__lib__dpkg__status.d": node}))
    assert found.databases == (b"/var/lib/dpkg/status.d/bash",)
    assert KEY in found.installed


def test_links_stay_in_the_tree() -> None:
    data = rpm_database([rpm_header(RpmPackage("bash", "5"))])
    filesystem = tree(
        usr__share__rpm=Symlink(b"../../../../../real", 0o777),
        **{"real__rpmdb.sqlite": InlineFile(data, 0o644)},
    )
    assert list(find(filesystem).installed) == [("bash", "x86_64")]


def test_what_is_not_a_file() -> None:
    looping = tree(var__lib__dpkg__status=Symlink(b"status", 0o777))
    directory = tree(var__lib__dpkg__status=Directory(0o755))
    device = tree(var=InlineFile(b"", 0o644))
    assert [find(one) for one in (looping, directory, device)] == [Packages((), {}, ())] * 3


def test_problems_are_told() -> None:
    huge = find(tree(var__lib__dpkg__status=SparseFile(1 << 40, 0o644)))
    assert "at most 201326592 bytes" in huge.problems[0]
    damaged = find(tree(**{"var__lib__rpm__rpmdb.sqlite": InlineFile(b"x", 0o644)}))
    assert "expected a database of SQLite" in damaged.problems[0]
    old = find(tree(var__lib__rpm__Packages=InlineFile(b"x", 0o644)))
    assert old.problems == ("/var/lib/rpm/Packages: a form of database that is not read",)


def test_directory_on_disk(tmp_path: Path) -> None:
    place = tmp_path / "var" / "lib" / "dpkg"
    place.mkdir(parents=True)
    (place / "status").write_bytes(STATUS)
    digest = compute_digest(STATUS, Algorithm.SHA256)
    filesystem = tree(var__lib__dpkg__status=ExternalFile(digest, len(STATUS), 0o644))
    contents = DirectoryContents(str(tmp_path))
    assert KEY in find_packages(filesystem, contents).installed
    (place / "status").write_bytes(STATUS.replace(b"5", b"6"))
    assert "changed while it was read" in find_packages(filesystem, contents).problems[0]
    (place / "status").unlink()
    (place / "status").symlink_to("/etc/passwd")
    assert find_packages(filesystem, contents).problems
