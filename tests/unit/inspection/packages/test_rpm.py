"""Databases of rpm, those that it writes and those that somebody made to do harm."""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

import pytest

from cfsctl.inspection.packages.package import Package, PackageDatabaseError
from cfsctl.inspection.packages.rpm import parse_rpmdb
from cfsctl.inspection.packages.rpm_header import parse_header
from tests.support.packages import RpmPackage, rpm_database, rpm_header

VECTOR = Path(__file__).parents[3] / "vectors" / "packages" / "rpmdb.sqlite.gz"
ENDLESS = (
    "CREATE VIEW Packages AS WITH RECURSIVE c(blob) AS"
    " (SELECT 1 UNION ALL SELECT blob + 1 FROM c) SELECT blob FROM c"
)
BASH = RpmPackage("bash", "5.2", "1.fc42", size=9000, epoch=1)


def test_database_of_rpm_itself() -> None:
    found = parse_rpmdb(bytearray(gzip.decompress(VECTOR.read_bytes())))
    assert found == [Package("hello-pkg", "x86_64", "1:2.5-3", 12345)]


def test_packages_without_keys() -> None:
    key = RpmPackage("gpg-pubkey", "1234")
    data = rpm_database([rpm_header(BASH), rpm_header(key), rpm_header(RpmPackage("vim", "9"))])
    assert parse_rpmdb(bytearray(data)) == [
        Package("bash", "x86_64", "1:5.2-1.fc42", 9000),
        Package("vim", "x86_64", "9-1", 1000),
    ]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (["CREATE TABLE Other (blob)"], "no such table"),
        (["CREATE VIEW Packages AS SELECT randomblob(100) AS blob"], "prohibited|not authorized"),
        (
            ["CREATE TABLE x (blob)", "CREATE VIEW Packages AS SELECT blob FROM x"],
            "prohibited|not authorized",
        ),
        (
            [
                ENDLESS,
            ],
            "prohibited|not authorized",
        ),
        (["CREATE TABLE Packages (blob)", "INSERT INTO Packages VALUES ('text')"], "another type"),
    ],
    ids=["no table", "function", "other table", "endless", "text"],
)
def test_harmful_schema(schema: list[str], said: str) -> None:
    with pytest.raises(PackageDatabaseError, match=said):
        parse_rpmdb(bytearray(rpm_database([], schema)))


def test_generated_column_calls_nothing() -> None:
    schema = ["CREATE TABLE Packages (hnum, blob BLOB GENERATED ALWAYS AS (zeroblob(10)) VIRTUAL)"]
    with pytest.raises(PackageDatabaseError):
        parse_rpmdb(bytearray(rpm_database([], [*schema, "INSERT INTO Packages(hnum) VALUES (1)"])))


@pytest.mark.parametrize("data", [b"", b"SQLite format 3\0", b"SQLite format 3\0" + bytes(5000), b"\0" * 100])
def test_no_database(data: bytes) -> None:
    with pytest.raises(PackageDatabaseError):
        parse_rpmdb(bytearray(data))


def test_damaged_databases_raise_nothing_else() -> None:
    data = rpm_database([rpm_header(BASH)] * 20)
    chance = random.Random(17)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            found = parse_rpmdb(bytearray(bytes(damaged[: chance.randrange(len(damaged))]) or bytes(damaged)))
        except PackageDatabaseError:
            continue
        assert all(isinstance(one, Package) for one in found)


def test_damaged_headers_raise_nothing_else() -> None:
    header = rpm_header(BASH)
    for position in range(len(header)):
        for value in (0, 1, 0x7F, 0xFF):
            damaged = header[:position] + bytes([value]) + header[position + 1 :]
            try:
                found = parse_header(damaged)
            except PackageDatabaseError:
                continue
            assert found is None or isinstance(found, Package)
    for end in range(len(header)):
        with pytest.raises(PackageDatabaseError):
            parse_header(header[:end])


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (struct.pack(">II", 0xFFFFFFFF, 0), "beyond its end"),
        (struct.pack(">II", 0, 0xFFFFFFFF), "beyond its end"),
        (struct.pack(">II", 0, 0), "a name and a version"),
        (struct.pack(">IIIIII", 1, 0, 1000, 4, 0, 1), "has type 4, expected 6"),
        (struct.pack(">IIIIII", 1, 4, 1000, 6, 0, 1) + b"abcd", "does not end"),
        (struct.pack(">IIIIII", 1, 4, 1000, 6, 0xFFFFFFF0, 1) + b"abc\0", "does not end"),
        (struct.pack(">IIIIII", 1, 4, 1009, 4, 1, 1) + b"abcd", "not within the store"),
    ],
)
def test_harmful_headers(header: bytes, said: str) -> None:
    with pytest.raises(PackageDatabaseError, match=said):
        parse_header(header)


def test_long_name() -> None:
    with pytest.raises(PackageDatabaseError, match="at most 1024 bytes"):
        parse_header(rpm_header(RpmPackage("x" * 2000, "1")))


def test_name_that_is_not_text() -> None:
    found = parse_header(rpm_header(RpmPackage("a\udcff", "1")))
    assert found is not None
    assert found.name == "a\udcff"
