"""Records of what refs need, in memory and in a temporary file."""

from __future__ import annotations

import hashlib
import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import ObjectID
from cfsctl.repository.gc import needs
from cfsctl.repository.gc.needs import PART, Needs

if TYPE_CHECKING:
    from pathlib import Path


def make_ids(count: int) -> list[ObjectID]:
    return [ObjectID(hashlib.sha512(b"%d" % number).digest()) for number in range(count)]


@pytest.mark.parametrize("most", [0, 1000, 1 << 30])
def test_records_come_back_by_directory(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "_MOST_IN_MEMORY", most)
    ids = make_ids(600)
    given = {number: ids[number * 50 : number * 50 + 100] for number in range(11)}
    with Needs() as records:
        for number, object_ids in given.items():
            records.add(number, iter(object_ids))
        found = [(first, *record) for first in range(256) for record in records.records(first)]
    wanted = [(one[0], one[PART], number) for number, object_ids in given.items() for one in object_ids]
    assert sorted(found) == sorted(wanted)


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(needs, "_MOST_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Needs() as records:
        records.add(1, make_ids(10))
        file = records._file
        assert file is not None
        assert os.fstat(file.fileno()).st_nlink == 0
    assert file.closed
    assert list(tmp_path.iterdir()) == []
