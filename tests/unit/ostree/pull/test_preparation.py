"""What is made early of a base gives the same tree."""

from __future__ import annotations

from array import array

import pytest

from cfsctl.digest import Algorithm, Checksum, ObjectID
from cfsctl.ostree.objects import format_zlib_header
from cfsctl.ostree.objects.held_objects import NO_OBJECT, Table
from cfsctl.ostree.pull import preparation
from cfsctl.ostree.pull.preparation import Preparation
from cfsctl.ostree.tree.leaves import Leaves
from cfsctl.ostree.tree.xattr_names import XattrNames

SIZE = Algorithm.SHA512.digest_size


class Base:
    """A stored commit of some files, as far as it is asked."""

    def __init__(self, headers: list[bytes]) -> None:
        checksums = [Checksum(bytes([number]) * 32) for number in range(len(headers))]
        padded = [header + bytes(-len(header) % 8) for header in headers]
        starts = [sum(map(len, padded[:number])) // 8 for number in range(len(padded))]
        self.refs = [ObjectID(bytes([number]) * SIZE) for number in range(len(headers))]
        self.table = Table(
            checksums,
            array("I", starts),
            array("I", map(len, headers)),
            array("I", [*range(len(headers) - 1), NO_OBJECT]),
            self.refs,
            memoryview(b"".join(padded)),
        )
        self.data_bytes = len(self.table.data)

    def find(self, checksum: Checksum) -> tuple[bytes, ObjectID | None]:
        raise AssertionError(f"{checksum.hex()}: nothing is looked for one by one")


HEADERS = [
    format_zlib_header(5, 0, 0, 0o100644),
    format_zlib_header(1 << 40, 0, 0, 0o100644),
    format_zlib_header(5, 1, 2, 0o100755, b"", ((b"user.a\0", b"1"),)),
    b"no header at all",
    format_zlib_header((1 << 64) - 1, 0, 0, 0o100644),
    format_zlib_header(3, 0, 0, 0o100644),
]


@pytest.mark.parametrize("names", XattrNames)
def test_leaves_are_those_that_are_made_one_by_one(
    monkeypatch: pytest.MonkeyPatch, names: XattrNames
) -> None:
    monkeypatch.setattr(preparation, "_STEP", 2)
    base, work = Base(HEADERS), Preparation(names)
    work.offer(base, 4000)
    assert work.has_more
    steps = 0
    while work.step():
        steps += 1
    assert (steps, work.has_more) == (3, False)
    expected = Leaves(names)
    for number in (0, 1, 2):
        expected.make(base.table.checksums[number], HEADERS[number], base.refs[number])
    found = work.leaves.known
    assert list(found) == [base.table.checksums[number] for number in (0, 1, 2)], "the others are not valid"
    for checksum, leaf in expected.known.items():
        assert type(found[checksum]) is type(leaf)
        slots = [name for one in type(leaf).__mro__ for name in getattr(one, "__slots__", ())]
        assert [getattr(found[checksum], name) for name in slots] == [getattr(leaf, name) for name in slots]


def test_small_bases_are_not_worth_it() -> None:
    work = Preparation(XattrNames.STRIPPED)
    work.offer(Base(HEADERS), 3999)
    assert (work.has_more, work.step(), work.leaves.known) == (False, False, {})
