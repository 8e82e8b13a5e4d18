"""The database of RPM in its SQLite form: a table ``Packages`` with a header in each row.

The file comes from a tree and may have been made to do harm. SQLite gets it as memory, never as a file; the
schema is not trusted; only reading the one table is authorized, so no view, function, or attached file of
the schema has any effect; and rows, lengths and work are limited.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from cfsctl.inspection.packages.package import Package, PackageDatabaseError, check_count
from cfsctl.inspection.packages.rpm_header import parse_header

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC: Final = b"SQLite format 3\0"
_MAX_ROW_BYTES: Final = 16 << 20
_STEPS: Final = 100_000
_MAX_STEPS: Final = 2_000
"""Instructions of SQLite's machine, in thousands of hundreds: some seconds at most."""

_ALLOWED: Final = frozenset({("Packages", "blob"), ("Packages", "hnum"), ("Packages", "")})


def parse_rpmdb(data: bytearray) -> list[Package]:
    """Return the packages in a database.

    Args:
        data: The database; changed, so that it is not copied once more than it has to be.

    Raises:
        PackageDatabaseError: It is not a database of RPM, is damaged, or is too much.
    """
    if not data.startswith(_MAGIC):
        raise PackageDatabaseError("rpmdb.sqlite: expected a database of SQLite, found something else")
    packages: list[Package] = []
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            for blob in _iter_blobs(connection, data):
                package = parse_header(blob)
                if package is not None:
                    packages.append(package)
                    check_count(len(packages))
    except (sqlite3.Error, sqlite3.Warning, OverflowError, MemoryError, AttributeError) as error:
        # SQLite can be built without reading databases in memory; the method is not there then.
        raise PackageDatabaseError(f"rpmdb.sqlite: {error}") from error
    return packages


def _iter_blobs(connection: sqlite3.Connection, data: bytearray) -> Iterator[bytes]:
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(_MAX_ROW_BYTES, 1 << 10))
    # Without a write-ahead log, which a database in memory cannot have; rpm leaves it switched on.
    data[18:20] = b"\1\1"
    connection.deserialize(data)
    data.clear()
    left = _MAX_STEPS

    def count() -> int:
        nonlocal left
        left -= 1
        return left < 0

    connection.set_progress_handler(count, _STEPS)
    connection.set_authorizer(_authorize)
    for row in connection.execute("SELECT blob FROM Packages"):
        if not isinstance(row[0], bytes):
            raise PackageDatabaseError("rpmdb.sqlite: expected a header in each row, found another type")
        yield row[0]


def _authorize(
    action: int, table: str | None, column: str | None, _database: str | None, origin: str | None
) -> int:
    """Allow reading the table itself: what a view or trigger does has its name as the origin."""
    is_select = action == sqlite3.SQLITE_SELECT
    is_column = action == sqlite3.SQLITE_READ and (table, column) in _ALLOWED
    return sqlite3.SQLITE_OK if origin is None and (is_select or is_column) else sqlite3.SQLITE_DENY
