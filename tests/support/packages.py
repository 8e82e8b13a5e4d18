"""Databases of packages, as package managers write them."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class RpmPackage(NamedTuple):
    """A package of rpm."""

    name: str
    version: str
    release: str = "1"
    architecture: str = "x86_64"
    size: int = 1000
    epoch: int | None = None


def rpm_header(package: RpmPackage) -> bytes:
    """Return the header that a database has of a package."""
    texts = {1000: package.name, 1001: package.version, 1002: package.release, 1022: package.architecture}
    numbers = {1009: package.size} | ({} if package.epoch is None else {1003: package.epoch})
    index = store = b""
    for tag, text in texts.items():
        index += struct.pack(">IIII", tag, 6, len(store), 1)
        store += text.encode("utf8", "surrogateescape") + b"\0"
    store += bytes(-len(store) % 4)
    for tag, number in numbers.items():
        index += struct.pack(">IIII", tag, 4, len(store), 1)
        store += struct.pack(">I", number)
    return struct.pack(">II", len(index) // 16, len(store)) + index + store


def rpm_database(headers: Iterable[object], schema: Iterable[str] = ()) -> bytes:
    """Return a database with these rows.

    Args:
        headers: The values of rows.
        schema: Statements instead of the one that makes the table; rows are not added then.
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        statements = list(schema)
        if not statements:
            connection.execute(
                "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)"
            )
            connection.executemany("INSERT INTO Packages(blob) VALUES (?)", ((one,) for one in headers))
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        return connection.serialize()
