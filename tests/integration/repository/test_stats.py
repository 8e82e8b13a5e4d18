"""What `cfsctl stats` says, compared with what a collection does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.app import main
from cfsctl.digest import Algorithm
from cfsctl.repository.gc import live, needs
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.gc.stats import measure_repository
from cfsctl.repository.objects.quarantine import QUARANTINE
from cfsctl.splitstream import SplitstreamWriter
from tests.support.repositories import make_image, make_repository, object_file, write_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import ObjectID
    from cfsctl.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", Algorithm.SHA256) as repository:
        yield repository


def put(repository: Repository, text: str, size: int) -> ObjectID:
    return repository.objects.ensure_bytes(text.encode().ljust(size)).object_id


def test_nothing(repository: Repository) -> None:
    stats = measure_repository(repository)
    assert tuple(stats) == (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, [], [])


def test_numbers(repository: Repository) -> None:
    both, one, two = put(repository, "both", 1000), put(repository, "one", 200), put(repository, "two", 300)
    image = repository.images.write(make_image([both, one]), "a/b").object_id
    inner = write_stream(repository, "inner", [two])
    outer = write_stream(repository, "outer", [both], {"in": inner}, ref="r")
    put(repository, "loose", 77)
    sizes = {
        object_id: object_file(repository, object_id).stat().st_size for object_id in (image, inner, outer)
    }
    stats = measure_repository(repository)
    assert (stats.objects, stats.images, stats.streams) == (7, 1, 2)
    assert stats.bytes == 1577 + sum(sizes.values())
    assert (stats.garbage_objects, stats.garbage_bytes) == (1, 77)
    assert stats.refs == [
        ("images/refs/a/b", f"images/{image.hex()}", 3, 1200 + sizes[image], 2, 200 + sizes[image], 0),
        (
            "streams/refs/r",
            "streams/outer",
            4,
            1300 + sizes[inner] + sizes[outer],
            3,
            300 + sizes[inner] + sizes[outer],
            0,
        ),
    ]


def test_compression(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a stream's own data; what it refers to does not count."""
    file = put(repository, "file", 5000)
    with SplitstreamWriter(repository.objects, repository.algorithm, 1) as writer:
        writer.write_inline(b"the same again and again " * 1000)
        writer.write_external(file, 5000)
        stream_id = writer.finish()
    repository.streams.link("s", stream_id, "r")
    size = object_file(repository, stream_id).stat().st_size
    stats = measure_repository(repository)
    assert (stats.stream_bytes, stats.stream_inline_bytes) == (size, 25_000)
    assert main(["--repo", repository.path, "stats"]) == 0
    assert f"streams: 1 ({size} bytes, 25000 uncompressed: 99 % saved)" in capsys.readouterr().out


def test_exclusive_is_what_is_freed(repository: Repository) -> None:
    files = [put(repository, f"file {number}", 100 + number) for number in range(20)]
    for number in range(4):
        repository.images.write(make_image(files[number * 3 : number * 3 + 8], b"%d" % number), f"i{number}")
    repository.images.links.set_ref("again", next(iter(repository.images.list_refs())).entry or "")
    collect_garbage(repository)
    for ref in ("i3", "i2", "again", "i1", "i0"):
        stats = measure_repository(repository)
        expected = {entry.name: entry for entry in stats.refs}[f"images/refs/{ref}"]
        repository.images.remove_ref(ref)
        freed = collect_garbage(repository)
        assert (freed.objects_removed, freed.bytes_removed) == (
            expected.exclusive_objects,
            expected.exclusive_bytes,
        )
    assert measure_repository(repository).objects == 0


def test_missing_and_unreadable(repository: Repository) -> None:
    file = put(repository, "file", 100)
    repository.images.write(make_image([file]), "im")
    stream = write_stream(repository, "s", [file], ref="r")
    object_file(repository, file).unlink()
    object_file(repository, stream).write_bytes(b"")
    (object_file(repository, stream).parent / "foreign").touch()
    stats = measure_repository(repository)
    assert {ref.name: ref.missing for ref in stats.refs} == {"images/refs/im": 1, "streams/refs/r": 0}
    assert stats.objects == 2
    assert any("streams/s (kept by streams/refs/r) cannot be read" in problem for problem in stats.problems)


def test_command(repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository.images.write(make_image([put(repository, "file", 100)]), "im")
    (tmp_path / "r" / QUARANTINE).mkdir()
    (tmp_path / "r" / QUARANTINE / "bad").touch()
    assert main(["--repo", repository.path, "stats"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == [
        "images:  1",
        "streams: 0 (0 bytes)",
        "garbage: 0 objects (0 bytes)",
        "quarantined: 1",
    ]
    assert "│ images/refs/im ┆ 2" in "\n".join(lines)
    assert main(["--repo", repository.path, "stats", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["objects"] == 2
    assert document["refs"][0]["shared_bytes"] == 0
    assert list(document["refs"][0])[:3] == ["name", "target", "objects"]


def test_numbers_are_the_same_where_little_is_kept_in_memory(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = [put(repository, f"{number}", 100 + number) for number in range(60)]
    repository.images.write(make_image(objects[:40]), "image")
    write_stream(repository, "stream", objects[20:50], ref="stream")
    object_file(repository, objects[45]).unlink()
    expected = measure_repository(repository)
    monkeypatch.setattr(needs, "_MOST_IN_MEMORY", 0)
    monkeypatch.setattr(live, "_MOST_EXACT", 0)
    assert measure_repository(repository) == expected
    assert [(ref.objects, ref.exclusive_objects, ref.missing) for ref in expected.refs] == [
        (41, 21, 0),
        (30, 10, 1),
    ]
    assert expected.garbage_objects == 10
