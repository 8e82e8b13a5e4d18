"""A table of all objects is found through by ID, and does not grow by much more than what it keeps."""

from __future__ import annotations

import hashlib
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from cfsctl.digest import ObjectID
from cfsctl.repository.gc.object_table import ABSENT, Mark, ObjectTable


def object_id(number: int) -> ObjectID:
    return ObjectID(hashlib.sha256(b"%d" % number).digest())


@given(st.dictionaries(st.integers(0, 500), st.integers(0, 1 << 40), max_size=60), st.integers(0, 500))
def test_each_is_found(numbers: dict[int, int], other: int) -> None:
    table = ObjectTable.from_sizes({object_id(number): size for number, size in numbers.items()})
    assert len(table) == len(numbers)
    assert {number: table.size_of(object_id(number)) for number in numbers} == numbers
    assert (table.find(object_id(other)) == ABSENT) == (other not in numbers)


def test_marks_and_refs() -> None:
    table = ObjectTable.from_sizes({object_id(number): 1 for number in range(3)})
    table.mark([object_id(1), object_id(9)], Mark.DEAD)
    table.mark([object_id(1)], Mark.ENTRY)
    assert [table.has(object_id(number), Mark.DEAD) for number in (0, 1, 9)] == [False, True, False]
    assert table.has(object_id(1), Mark.ENTRY)
    table.owners[table.find(object_id(2))] = 7
    table.further[table.find(object_id(2))] = 2
    assert [table.count_refs(object_id(number)) for number in (1, 2, 9)] == [0, 3, 0]
    assert [table.first_ref(object_id(number)) for number in (1, 2, 9)] == [ABSENT, 7, ABSENT]


def test_memory_of_many() -> None:
    count = 256 * 200
    names = [hashlib.sha256(b"%d" % number).hexdigest()[2:] for number in range(count // 256)]
    tracemalloc.start()
    try:
        table = ObjectTable()
        for _ in range(256):
            table.add_directory((name, 1) for name in names)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 48 * count
