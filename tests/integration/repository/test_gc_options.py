"""What `cfsctl gc` can be told: a grace period, a limit, and to explain itself."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.app import main
from cfsctl.digest import Algorithm, ObjectID, object_path, qualified
from cfsctl.errors import ExitCode, ObjectMissingError
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc.collect import collect_garbage, explain_object
from cfsctl.repository.gc.results import DeleteLimit, TooMuchGarbageError
from tests.support.repositories import make_image, make_repository, object_file, view, write_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.repository import Repository

HOUR = 3600.0


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", Algorithm.SHA256) as repository:
        yield repository


def put(repository: Repository, text: str) -> ObjectID:
    return repository.objects.ensure_bytes(text.encode() * 100).object_id


def step(object_id: ObjectID) -> str:
    return f"objects/{object_path(object_id)}"


# --grace


class Clock:
    """Moves on without anybody waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        now = time.time
        monkeypatch.setattr("cfsctl.repository.gc.collect.time.time", lambda: now() + self._ahead)

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_young_garbage_stays_until_it_is_old(repository: Repository, clock: Clock) -> None:
    loose = put(repository, "loose")
    for dry_run in (True, False):
        result = collect_garbage(repository, grace_s=HOUR, dry_run=dry_run)
        assert (result.objects_removed, result.objects_young, result.objects_kept) == (0, 1, 1)
    assert explain_object(repository, loose, grace_s=HOUR).is_kept
    assert not explain_object(repository, loose).is_kept
    clock.advance(HOUR - 60)
    assert collect_garbage(repository, grace_s=HOUR).objects_young == 1
    clock.advance(120)
    assert collect_garbage(repository, grace_s=HOUR).objects_removed == 1


def test_an_old_mtime_makes_no_object_old(repository: Repository) -> None:
    """A copy of a repository keeps mtimes; what counts is when the object came here."""
    os.utime(object_file(repository, put(repository, "loose")), (0, 0))
    assert collect_garbage(repository, grace_s=HOUR).objects_young == 1


def wait_for_tick(repository: Repository, after: float) -> float:
    """Return a time that is later than `after` for the clock that stamps files."""
    probe = Path(repository.path) / "probe"
    while True:
        probe.touch()
        now = probe.stat().st_ctime
        probe.unlink()
        if now > after:
            return now


def test_young_images_and_streams_keep_what_they_need(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that stays although nothing names it must not lose the older files in it."""
    old = [put(repository, "file"), put(repository, "leaf"), put(repository, "other")]
    latest = max(object_file(repository, object_id).stat().st_ctime for object_id in old)
    cutoff = wait_for_tick(repository, latest)
    wait_for_tick(repository, cutoff)
    image = repository.images.write(make_image([old[0]])).object_id
    stream = write_stream(repository, "s", [old[1]])
    monkeypatch.setattr("cfsctl.repository.gc.collect.time.time", lambda: cutoff + HOUR)
    result = collect_garbage(repository, grace_s=HOUR)
    assert result.objects_removed == 1
    assert [repository.objects.contains(object_id) for object_id in (*old, image, stream)] == [
        True,
        True,
        False,
        True,
        True,
    ]
    assert check_repository(repository, deep=True).findings == []
    assert explain_object(repository, old[0], grace_s=HOUR).steps == (
        "younger than the grace period",
        f"images/{image.hex()}",
        step(old[0]),
    )
    assert collect_garbage(repository).objects_removed == 4


# --max-delete


@pytest.mark.parametrize(
    ("limit", "is_allowed"),
    [
        (DeleteLimit(2, is_percentage=False), False),
        (DeleteLimit(3, is_percentage=False), True),
        (DeleteLimit(59.9, is_percentage=True), False),
        (DeleteLimit(60, is_percentage=True), True),
        (DeleteLimit(0, is_percentage=False), False),
        (DeleteLimit(0, is_percentage=True), False),
    ],
)
def test_no_more_than_expected(repository: Repository, limit: DeleteLimit, *, is_allowed: bool) -> None:
    repository.images.write(make_image([put(repository, "file")]), "im")
    write_stream(repository, "dead", [put(repository, "one"), put(repository, "two")])
    before = view(Path(repository.path))
    if is_allowed:
        assert collect_garbage(repository, limit=limit).objects_removed == 3
        return
    for dry_run in (True, False):
        with pytest.raises(TooMuchGarbageError, match="3 of 5 objects are garbage") as caught:
            collect_garbage(repository, limit=limit, dry_run=dry_run)
        assert caught.value.exit_code == ExitCode.POLICY
    assert view(Path(repository.path)) == before


def test_a_limit_of_nothing_allows_nothing(repository: Repository) -> None:
    assert collect_garbage(repository, limit=DeleteLimit(0, is_percentage=True)).objects_removed == 0


# --why


def test_chains(repository: Repository) -> None:
    file, leaf, root = put(repository, "file"), put(repository, "leaf"), put(repository, "root")
    image = repository.images.write(make_image([file]), "a/b").object_id
    inner = write_stream(repository, "inner", [leaf])
    outer = write_stream(repository, "outer", [], {"in": inner, "im": image}, ref="x/y")
    loose = repository.images.write(make_image([root], b"loose")).object_id
    entry = f"images/{image.hex()}"
    expected = {
        image: ("images/refs/a/b", entry, step(image)),
        file: ("images/refs/a/b", entry, step(file)),
        outer: ("streams/refs/x/y", "streams/outer", step(outer)),
        inner: ("streams/refs/x/y", "streams/outer", "named reference 'in'", "streams/inner", step(inner)),
        leaf: ("streams/refs/x/y", "streams/outer", "named reference 'in'", "streams/inner", step(leaf)),
    }
    for object_id, steps in expected.items():
        assert explain_object(repository, object_id).steps == steps
    for object_id in (loose, root):
        assert not explain_object(repository, object_id).is_kept
    assert explain_object(repository, root, extra_roots=[loose.hex()]).steps == (
        f"root {loose.hex()}",
        f"images/{loose.hex()}",
        step(root),
    )
    repository.images.remove_ref("a/b")
    assert explain_object(repository, image).steps == (
        "streams/refs/x/y",
        "streams/outer",
        "named reference 'im'",
        step(image),
    )


def test_why_agrees_with_the_collection(repository: Repository) -> None:
    objects = [put(repository, f"object {number}") for number in range(12)]
    image = repository.images.write(make_image(objects[:4]), "im").object_id
    inner = write_stream(repository, "inner", objects[3:7])
    outer = write_stream(repository, "outer", objects[8:9], {"in": inner}, ref="r")
    everything = [*objects, image, inner, outer, put(repository, "loose")]
    kept = {object_id for object_id in everything if explain_object(repository, object_id).is_kept}
    collect_garbage(repository)
    assert kept == {object_id for object_id in everything if repository.objects.contains(object_id)}


def test_why_where_something_cannot_be_read(repository: Repository) -> None:
    loose = put(repository, "loose")
    stream = write_stream(repository, "s", [], ref="r")
    object_file(repository, stream).write_bytes(b"")
    answer = explain_object(repository, loose)
    assert (answer.steps, answer.is_kept) == ((), True)
    assert "streams/s (kept by streams/refs/r) cannot be read" in answer.doubt


def test_why_of_nothing(repository: Repository) -> None:
    with pytest.raises(ObjectMissingError):
        explain_object(repository, ObjectID(bytes(32)))


# The command


def run(repository: Repository, *arguments: str) -> int:
    repository.lock.release()
    return main(["--repo", repository.path, "gc", *arguments])


def test_command(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    file, loose = put(repository, "file"), put(repository, "loose")
    image = repository.images.write(make_image([file]), "im").object_id
    for name in (file.hex(), qualified(file), f"objects/{object_path(file)}"):
        assert run(repository, "--why", name) == 0
        assert capsys.readouterr().out == f"images/refs/im\n-> images/{image.hex()}\n-> {step(file)}\n"
    assert run(repository, "--why", loose.hex()) == 1
    assert capsys.readouterr().out == "nothing keeps it\n"
    assert run(repository, "--why", loose.hex(), "--json", "--grace", "1h") == 0
    assert json.loads(capsys.readouterr().out)["chain"][0] == "younger than the grace period"
    assert run(repository, "--json", "--grace", "2d", "--max-delete", "1") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "schema_version": 1,
        "dry_run": False,
        "complete": True,
        "objects_removed": 0,
        "bytes_removed": 0,
        "objects_kept": 3,
        "objects_young": 1,
        "images_pruned": 0,
        "streams_pruned": 0,
        "temporaries_removed": 0,
        "mounts": [],
        "problems": [],
    }
    assert run(repository, "--max-delete", "50%") == 0
    assert capsys.readouterr().out == "Objects: 1 removed (500 bytes)\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-delete", "-1"],
        ["--max-delete", "101%"],
        ["--max-delete", "x"],
        ["--max-delete", "1.5"],
        ["--max-delete", "nan%"],
        ["--grace", "-1s"],
        ["--grace", "1y"],
        ["--grace", ""],
        ["--grace", "nan"],
        ["--grace", "inf"],
    ],
)
def test_usage(repository: Repository, arguments: list[str]) -> None:
    assert run(repository, *arguments) == ExitCode.USAGE
