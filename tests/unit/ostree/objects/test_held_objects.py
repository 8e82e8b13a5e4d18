"""Objects of which the large ones are in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Checksum, ObjectID
from cfsctl.ostree.objects.held_objects import GatheredObjects, HeldObjects
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.repository import Repository

NAMES = [Checksum(bytes((number,)) * 32) for number in range(6)]
ID = ObjectID(b"i" * 32)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "store") as repository:
        yield repository


def test_what_does_not_fit_into_memory_is_in_a_file(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfsctl.ostree.objects.held_objects.MAX_HELD_BYTES", 3000)
    held = HeldObjects(repository.objects)
    data = [bytes((number,)) * size for number, size in enumerate((2000, 2000, 10, 900, 5000))]
    for name, content in zip(NAMES, data, strict=False):
        held.add(name, content, ID if content[0] == 1 else None)
    assert dict(held) == {
        name: (content, ID if content[0] == 1 else None) for name, content in zip(NAMES, data, strict=False)
    }
    assert dict(held.iter_ids()) == {name: ID if name == NAMES[1] else None for name in NAMES[:5]}
    assert held.get(NAMES[4]) == (data[4], None)
    assert held.get(NAMES[5]) is None
    assert held.remove(NAMES[1])
    assert not held.remove(NAMES[1])
    assert NAMES[1] not in held
    held.close()
    held.close()
    assert not [path for path in Path(repository.path, "objects").rglob("*") if path.is_file()]


def test_without_a_place_for_a_file_all_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfsctl.ostree.objects.held_objects.MAX_HELD_BYTES", 10)
    held = HeldObjects()
    held.add(NAMES[0], bytes(2000), None)
    assert held[NAMES[0]] == (bytes(2000), None)


def test_only_names() -> None:
    held = HeldObjects(forgets_data=True)
    held.add(NAMES[0], bytes(2000), ID)
    assert dict(held) == {NAMES[0]: (b"", ID)}


def test_gathered_objects_come_from_the_last_place_that_has_them() -> None:
    first = {NAMES[0]: (b"0", None), NAMES[1]: (b"1", None)}
    second = {NAMES[1]: (b"one", ID), NAMES[2]: (b"2", None)}
    gathered = GatheredObjects()
    gathered.take(first, first.get)
    gathered.take(second, second.get)
    assert dict(gathered) == {**first, **second}
    gathered.discard([NAMES[0], NAMES[5]])
    assert list(gathered) == NAMES[1:3]
    with pytest.raises(KeyError):
        _ = gathered[NAMES[0]]
    del second[NAMES[2]]
    with pytest.raises(KeyError):
        _ = gathered[NAMES[2]]
