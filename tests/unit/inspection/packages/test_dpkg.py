"""Status files of dpkg."""

from __future__ import annotations

import random

import pytest

from cfsctl.inspection.packages.dpkg import parse_status
from cfsctl.inspection.packages.package import Package, PackageDatabaseError

STATUS = b"""Package: bash
Essential: yes
Status: install ok installed
Installed-Size: 7164
Architecture: amd64
Version: 5.2.15-2+b7
Conffiles:
 /etc/bash.bashrc 89269e1298235f1b12b4c16e4065ad0d
 Version: 0
Description: GNU Bourne Again SHell
 Bash is an sh-compatible command language interpreter.

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

package: small
STATUS: hold ok installed
Version:\t1:2-3
\t
Package: no-version
Status: install ok installed

Package: half
Status: install ok half-installed
Version: 1
"""


def test_installed_packages() -> None:
    assert parse_status(STATUS) == [
        Package("bash", "amd64", "5.2.15-2+b7", 7164 << 10),
        Package("small", "", "1:2-3", None),
    ]


def test_without_a_status() -> None:
    assert parse_status(b"Package: base-files\nVersion: 12\nArchitecture: amd64\n") == [
        Package("base-files", "amd64", "12", None)
    ]


@pytest.mark.parametrize(
    "data", [b"", b"\n\n\n", b":", b"Package", b"Package:\nVersion:\n", b"\0" * 1000, b" \n" * 1000]
)
def test_nothing(data: bytes) -> None:
    assert parse_status(data) == []


def test_odd_sizes() -> None:
    for size in (b"-1", b"1e5", b"9" * 30, b"\xd9\xa1", b""):
        found = parse_status(b"Package: a\nVersion: 1\nInstalled-Size: " + size)
        assert found[0].size_bytes is None


def test_too_much() -> None:
    with pytest.raises(PackageDatabaseError, match="at most 1024 bytes"):
        parse_status(b"Package: " + b"x" * 1025 + b"\nVersion: 1\n")
    with pytest.raises(PackageDatabaseError, match="at most 100000 packages"):
        parse_status(b"Package: a\nVersion: 1\n\n" * 100_001)


def test_any_bytes_raise_nothing_else() -> None:
    chance = random.Random(17)
    for _ in range(300):
        damaged = bytearray(STATUS)
        for _ in range(chance.randrange(1, 30)):
            damaged[chance.randrange(len(damaged))] = chance.choice(b"\n :\0\xff\tPackage")
        assert all(isinstance(one, Package) for one in parse_status(bytes(damaged)))
