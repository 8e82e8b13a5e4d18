"""Collections with more objects than are kept in memory as they are; the limits are made small for that."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.repository.gc import live, sweep
from cfsctl.repository.gc.collect import collect_garbage, explain_object
from cfsctl.repository.gc.results import DeleteLimit, GcResult, TooMuchGarbageError
from tests.support.repositories import make_image, make_repository, object_file, view, write_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.repository import Repository


@pytest.fixture(autouse=True, params=[0, 5], ids=lambda most: f"{most} in memory")
def small_limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_MOST_EXACT", request.param)
    monkeypatch.setattr(sweep, "_MOST_KNOWN", request.param)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r") as repository:
        yield repository


def put(repository: Repository, *numbers: int) -> list[ObjectID]:
    return [repository.objects.ensure_bytes(b"%d" % number * 50).object_id for number in numbers]


def fill(repository: Repository) -> tuple[list[ObjectID], list[ObjectID]]:
    """Return what an image, streams and a stream in a stream need, and garbage."""
    used, garbage = put(repository, *range(100, 160)), put(repository, *range(200, 280))
    repository.images.write(make_image(used[:20]), "image")
    inner = write_stream(repository, "inner", used[20:40])
    write_stream(repository, "outer", used[40:], {"inner": inner}, "outer")
    return used, garbage


def test_garbage_goes_and_the_rest_stays(repository: Repository) -> None:
    used, garbage = fill(repository)
    before = view(Path(repository.path))
    dry = collect_garbage(repository, dry_run=True)
    assert view(Path(repository.path)) == before
    result = collect_garbage(repository)
    assert (dry.objects_removed, dry.bytes_removed) == (80, 80 * 150)
    assert result == dry._replace(is_dry_run=False)
    assert not repository.objects.find_missing(used)
    assert set(repository.objects.find_missing(garbage)) == set(garbage)
    assert collect_garbage(repository) == GcResult(is_dry_run=False, objects_kept=result.objects_kept)


def test_names_of_what_goes_go_too(repository: Repository) -> None:
    used, _ = fill(repository)
    repository.streams.remove_ref("outer")
    result = collect_garbage(repository)
    assert (result.streams_pruned, result.images_pruned) == (2, 0)
    assert set(repository.objects.find_missing(used)) == set(used[20:])


def test_young_garbage_stays(repository: Repository) -> None:
    _, garbage = fill(repository)
    young = write_stream(repository, "young", [])
    old_s = time.time() - 10_000
    for object_id in garbage:
        os.utime(object_file(repository, object_id), (old_s, old_s))
    # The change time of all is now, so all count as young.
    result = collect_garbage(repository, grace_s=1000)
    assert (result.objects_removed, result.objects_young) == (0, 80)
    assert repository.streams.find("young") == young
    assert explain_object(repository, garbage[0], grace_s=1000).is_kept
    assert not explain_object(repository, garbage[0]).is_kept
    assert collect_garbage(repository).objects_removed == 81


def test_a_lost_ref_keeps_all_streams(repository: Repository) -> None:
    used, _ = fill(repository)
    for name in ("inner", "outer"):
        (Path(repository.path) / "streams" / name).unlink()
    result = collect_garbage(repository)
    assert result.objects_removed == 80
    assert sum("a lost ref may mean this stream" in problem for problem in result.problems) >= 1
    assert not repository.objects.find_missing(used)


def test_a_limit_is_checked_before_anything_goes(repository: Repository) -> None:
    fill(repository)
    before = view(Path(repository.path))
    with pytest.raises(TooMuchGarbageError, match=r"^80 of \d+ objects are garbage"):
        collect_garbage(repository, limit=DeleteLimit(79, is_percentage=False))
    assert view(Path(repository.path)) == before
