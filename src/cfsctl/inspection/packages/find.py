"""Find the packages of a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from cfsctl.errors import CfsError
from cfsctl.inspection.contents.place import is_file
from cfsctl.inspection.diff import escape, file_size
from cfsctl.inspection.packages.package import PackageDatabaseError, check_count
from cfsctl.tree.lookup import TreePathError, find_node
from cfsctl.tree.model import Directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.inspection.diff import File
    from cfsctl.inspection.packages.package import Package
    from cfsctl.tree.model import FileSystem

_MAX_BYTES: Final = 192 << 20
"""Of a database that is read, which is in memory twice then; that of a large installation has 100 MB."""

_MAX_FILES: Final = 10_000
_STATUS: Final = (b"/var/lib/dpkg/status", b"/usr/lib/sysimage/dpkg/status", b"/usr/share/dpkg/status")
_STATUS_DIRECTORY: Final = b"/var/lib/dpkg/status.d"
_RPM: Final = (
    b"/usr/lib/sysimage/rpm/rpmdb.sqlite",
    b"/usr/share/rpm/rpmdb.sqlite",
    b"/var/lib/rpm/rpmdb.sqlite",
)
_OLD_RPM: Final = (b"/var/lib/rpm/Packages", b"/usr/share/rpm/Packages", b"/usr/lib/sysimage/rpm/Packages.db")


class Contents(Protocol):
    """Where the contents of files are read, such as `cfsctl.inspection.contents.reading.ContentReader`."""

    def iter_content(self, path: bytes, file: File) -> Iterator[bytes]:
        """Yield the content of a file in pieces, verified.

        Args:
            path: The path of the file, without links.
            file: The file.

        Raises:
            CfsError, OSError: It is not at hand, or damaged.
        """


class Packages(NamedTuple):
    """The packages of a tree.

    Attributes:
        databases: Paths of what was read.
        installed: Packages by name and architecture, the versions of one sorted.
        problems: What could not be read, a sentence each.
    """

    databases: tuple[bytes, ...]
    installed: dict[tuple[str, str], tuple[Package, ...]]
    problems: tuple[str, ...]


def find_packages(filesystem: FileSystem, reader: Contents) -> Packages:
    """Return the packages that the databases in a tree have; none is an error."""
    finder = _Finder(filesystem, reader)
    finder.run()
    installed: dict[tuple[str, str], list[Package]] = {}
    for package in finder.packages:
        installed.setdefault((package.name, package.architecture), []).append(package)
    by_name = {key: tuple(sorted(installed[key])) for key in sorted(installed)}
    return Packages(tuple(finder.databases), by_name, tuple(finder.problems))


class _Finder:
    def __init__(self, filesystem: FileSystem, reader: Contents) -> None:
        self._filesystem = filesystem
        self._reader = reader
        self.packages: list[Package] = []
        self.databases: list[bytes] = []
        self.problems: list[str] = []

    def run(self) -> None:
        from cfsctl.inspection.packages.dpkg import parse_status  # only where packages matter

        self._read_first(_STATUS, parse_status)
        for path in self._iter_status_files():
            self._read(path, parse_status)
        if any(self._find(path) for path in _RPM):
            self._read_rpm()
        else:
            self.problems += [
                f"{escape(path)}: a form of database that is not read"
                for path in _OLD_RPM
                if self._find(path)
            ]

    def _read_rpm(self) -> None:
        try:
            from cfsctl.inspection.packages.rpm import parse_rpmdb  # loads SQLite
        except ImportError:  # Python can be built without it
            self.problems.append("this Python has no SQLite, which databases of rpm need")
            return
        self._read_first(_RPM, parse_rpmdb)

    def _find(self, path: bytes) -> tuple[File, bytes] | None:
        """Return a file and its path without links, or None."""
        try:
            found = find_node(self._filesystem.root, path, follow_last=True)
        except TreePathError:
            return None
        return (found[0], found[1]) if found is not None and is_file(found[0]) else None

    def _iter_status_files(self) -> Iterator[bytes]:
        try:
            found = find_node(self._filesystem.root, _STATUS_DIRECTORY, follow_last=True)
        except TreePathError:
            return
        if found is not None and isinstance(found[0], Directory):
            for name in sorted(found[0].entries)[:_MAX_FILES]:
                if not name.endswith(b".md5sums"):
                    yield _STATUS_DIRECTORY + b"/" + name

    def _read_first(self, paths: tuple[bytes, ...], parse: Callable[[bytearray], list[Package]]) -> None:
        """Read the first of the places that a database can be at: the others are links or copies."""
        for path in paths:
            if self._find(path) is not None:
                self._read(path, parse)
                return

    def _read(self, path: bytes, parse: Callable[[bytearray], list[Package]]) -> None:
        found = self._find(path)
        if found is None:
            return
        file, real = found
        try:
            if file_size(file) > _MAX_BYTES:
                raise PackageDatabaseError(f"expected at most {_MAX_BYTES} bytes, found {file_size(file)}")
            data = bytearray()
            for piece in self._reader.iter_content(real, file):
                data += piece
            self.packages += parse(data)
            check_count(len(self.packages))
            self.databases.append(path)
        except (CfsError, OSError) as error:
            self.problems.append(f"{escape(path)}: {error}")
