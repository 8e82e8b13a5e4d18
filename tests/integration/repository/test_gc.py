"""Garbage collection: what goes, what stays, and what is said about it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID, qualified
from cfsctl.errors import RefNotFoundError
from cfsctl.linux.files import random_name
from cfsctl.repository.gc import image_objects
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.gc.results import GcResult
from cfsctl.repository.names.safe_paths import BlockedNameError
from tests.support.repositories import flip_bit, make_image, make_repository, object_file, view, write_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.repository import Repository


@pytest.fixture(params=list(Algorithm), ids=str)
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", request.param) as repository:
        yield repository


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r"


def put(repository: Repository, text: str, size: int = 100) -> ObjectID:
    return repository.objects.ensure_bytes(text.encode().ljust(size)).object_id


def kept(repository: Repository, *object_ids: ObjectID) -> list[bool]:
    return [repository.objects.contains(object_id) for object_id in object_ids]


def collect(repository: Repository, *roots: str) -> GcResult:
    """Collect for real, after seeing that a dry run says the same and changes nothing."""
    path = Path(repository.path)
    before = view(path)
    dry = collect_garbage(repository, extra_roots=roots, dry_run=True)
    assert view(path) == before
    result = collect_garbage(repository, extra_roots=roots)
    assert (dry.objects_removed, dry.bytes_removed, dry.is_complete) == (
        result.objects_removed,
        result.bytes_removed,
        result.is_complete,
    )
    return result


def test_nothing_there(repository: Repository) -> None:
    assert collect(repository) == GcResult(is_dry_run=False)
    assert collect(repository).lines() == ["Objects: 0 removed (0 bytes)"]
    dry = collect_garbage(repository, dry_run=True)
    assert dry.lines() == ["Dry run (no files deleted):", "Objects: 0 removed (0 bytes)"]


def test_loose_objects_go(repository: Repository) -> None:
    put(repository, "a", 100)
    put(repository, "b", 11)
    result = collect(repository)
    assert (result.objects_removed, result.bytes_removed, result.problems) == (2, 111, ())
    assert collect(repository).objects_removed == 0


def test_image_keeps_its_objects_while_it_has_a_ref(repository: Repository, path: Path) -> None:
    one, two, both = put(repository, "1"), put(repository, "2"), put(repository, "3")
    image = repository.images.write(make_image([one, both]), "a/b").object_id
    other = repository.images.write(make_image([two, both], b"x"), "c").object_id
    assert collect(repository).objects_removed == 0
    repository.images.remove_ref("c")
    result = collect(repository)
    assert kept(repository, one, both, image, two, other) == [True, True, True, False, False]
    assert (result.objects_removed, result.images_pruned, result.streams_pruned) == (2, 1, 0)
    assert result.lines()[1] == "Pruned symlinks: 1 images, 0 streams"
    assert sorted(os.listdir(path / "images")) == sorted([image.hex(), "refs"])
    repository.images.remove_ref("a/b")
    assert collect(repository).objects_removed == 3
    assert not list((path / "objects").glob("*/*"))


def test_streams_keep_what_they_name(repository: Repository, path: Path) -> None:
    leaf, config_blob, image_file = (
        put(repository, "leaf"),
        put(repository, "config"),
        put(repository, "file"),
    )
    image = repository.images.write(make_image([image_file])).object_id
    layer = write_stream(repository, "layer", [leaf])
    config = write_stream(repository, "config", [config_blob], {"layer": layer, "image": image})
    manifest = write_stream(repository, "manifest", [], {"config": config}, ref="oci/tag")
    lost = write_stream(repository, "lost", [put(repository, "lost")])
    result = collect(repository)
    assert kept(repository, leaf, config_blob, image, image_file, layer, config, manifest) == [True] * 7
    assert kept(repository, lost) == [False]
    assert (result.objects_removed, result.images_pruned, result.streams_pruned) == (2, 0, 1)
    assert repository.images.find(image.hex()) == image
    assert [stream.name for stream in repository.streams.list_streams()] == ["config", "layer", "manifest"]
    repository.streams.remove_ref("oci/tag")
    assert collect(repository).streams_pruned == 3
    assert not list((path / "objects").glob("*/*"))


def test_stream_that_is_named_by_id_alone(repository: Repository, path: Path) -> None:
    """The name of the inner stream is gone, but the outer one refers to its object all the same."""
    leaf = put(repository, "leaf")
    inner = write_stream(repository, "inner", [leaf])
    write_stream(repository, "outer", [], {"x": inner}, ref="r")
    (path / "streams" / "inner").unlink()
    assert collect(repository).objects_removed == 0
    assert kept(repository, leaf, inner) == [True, True]


def test_long_chain_of_streams(tmp_path: Path) -> None:
    with make_repository(tmp_path) as repository:
        previous = write_stream(repository, "s0", [put(repository, "end")])
        for number in range(1, 1100):
            previous = write_stream(repository, f"s{number}", [], {"next": previous})
        repository.streams.set_ref("r", "s1099")
        assert collect_garbage(repository).objects_removed == 0


def test_names_of_extra_roots(repository: Repository) -> None:
    file = put(repository, "file")
    image = repository.images.write(make_image([file]), "im").object_id
    stream = write_stream(repository, "stream", [put(repository, "leaf")], ref="x/y")
    loose = repository.images.write(make_image([file], b"loose")).object_id
    loose_stream = write_stream(repository, "loose", [file])
    names = [loose.hex(), qualified(loose), "loose", "im", "refs/im", "x/y", "refs/x/y", image.hex()]
    assert collect(repository, *names).objects_removed == 0
    repository.images.remove_ref("im")
    repository.streams.remove_ref("x/y")
    assert collect(repository, image.hex(), "stream").objects_removed == 2
    assert kept(repository, image, file, stream, loose, loose_stream) == [True, True, True, False, False]


@pytest.mark.parametrize("name", ["nothing", "refs/nothing", "", "..", "../x", "0" * 128, "sha256:00", "a/b"])
def test_extra_root_that_does_not_exist(repository: Repository, name: str) -> None:
    loose = put(repository, "loose")
    for dry_run in (True, False):
        with pytest.raises(RefNotFoundError, match="root not found"):
            collect_garbage(repository, extra_roots=[name], dry_run=dry_run)
    assert kept(repository, loose) == [True]


def test_leftovers_of_killed_processes(repository: Repository, path: Path) -> None:
    put(repository, "loose")
    (path / random_name(".symlink-")).symlink_to("x")
    (path / random_name(".tmp-object-")).touch()
    (path / "objects" / random_name(".tmp-object-")).touch()
    foreign = [path / ".symlink-short", path / random_name(".symlink-"), path / ".cfsctl-scan-cache"]
    for file in foreign:
        file.touch()
    assert collect_garbage(repository, dry_run=True).temporaries_removed == 0
    result = collect_garbage(repository)
    assert (result.temporaries_removed, result.problems) == (3, ())
    assert sorted(name for name in os.listdir(path) if name.startswith(".")) == sorted(
        file.name for file in foreign
    )
    assert not [name for name in os.listdir(path / "objects") if name.startswith(".")]


# What should not be there


def problem(result: GcResult) -> str:
    assert len(result.problems) == 1
    return result.problems[0]


def test_foreign_files_stay(repository: Repository, path: Path) -> None:
    loose = put(repository, "loose")
    name = object_file(repository, loose).name
    directory = path / "objects" / "00"
    directory.mkdir(exist_ok=True)
    (directory / "short").touch()
    (directory / ("A" * len(name))).touch()
    (directory / ("0" * len(name))).mkdir()
    (directory / ("1" * len(name))).symlink_to("/etc/hostname")
    os.mkfifo(directory / ("2" * len(name)))
    (path / "objects" / "01").touch()
    (path / "objects" / "02").symlink_to("00")
    (path / "objects" / "zz").mkdir()
    (path / "objects" / "zz" / name).touch()
    result = collect(repository)
    assert (result.objects_removed, len(result.problems), result.is_complete) == (1, 7, True)
    assert all("left alone" in text for text in result.problems)
    assert len(list(directory.iterdir())) == 5
    assert (path / "objects" / "zz" / name).exists()


@pytest.mark.parametrize("place", ["images/file", "images/dir/", "images/refs/b/file", "images/refs/fifo|"])
def test_entry_that_is_no_link(repository: Repository, path: Path, place: str) -> None:
    loose = put(repository, "loose")
    file = put(repository, "file")
    repository.images.write(make_image([file]), "a")
    target = path / place.rstrip("/|")
    target.parent.mkdir(parents=True, exist_ok=True)
    if place.endswith("/"):
        target.mkdir()
    elif place.endswith("|"):
        os.mkfifo(target)
    else:
        target.touch()
    result = collect(repository)
    assert "left alone" in problem(result)
    assert kept(repository, loose, file) == [False, True]
    assert target.exists()


def test_name_that_climbed_out_of_refs(repository: Repository, path: Path) -> None:
    """What the original makes of ``create-image tree ../evil``, and then never collects again."""
    file, loose = put(repository, "file"), put(repository, "loose")
    image = repository.images.write(make_image([file])).object_id
    (path / "images" / "refs").mkdir()
    (path / "images" / "evil").symlink_to(f"../../{image.hex()}")
    result = collect(repository)
    assert "images/evil" in problem(result)
    assert kept(repository, file, image, loose) == [True, True, False]
    (path / "images" / "evil").unlink()
    assert collect(repository).objects_removed == 2


def test_entry_with_a_path_of_its_own(repository: Repository, path: Path) -> None:
    file = put(repository, "file")
    image = repository.images.write(make_image([file])).object_id
    entry = path / "images" / image.hex()
    entry.unlink()
    entry.symlink_to(object_file(repository, image).resolve())
    result = collect(repository)
    assert "expected a link to an object" in problem(result)
    assert kept(repository, file, image) == [True, True]


def test_lost_image_ref_keeps_the_image(repository: Repository, path: Path) -> None:
    file, loose = put(repository, "file"), put(repository, "loose")
    image = repository.images.write(make_image([file]), "im").object_id
    (path / "images" / image.hex()).unlink()
    result = collect(repository)
    assert "images/refs/im" in problem(result)
    assert kept(repository, file, image, loose) == [True, True, False]
    assert (path / "images" / "refs" / "im").is_symlink()


@pytest.mark.parametrize("text", ["../nope", "..", "../..", "/etc/hostname", ".", "../" + "0" * 128])
def test_ref_that_names_nothing(repository: Repository, path: Path, text: str) -> None:
    file, loose = put(repository, "file"), put(repository, "loose")
    repository.images.write(make_image([file]), "im")
    (path / "images" / "refs" / "dang").symlink_to(text)
    result = collect(repository)
    assert "images/refs/dang" in problem(result)
    assert kept(repository, file, loose) == [True, False]
    assert (path / "images" / "refs" / "dang").is_symlink()


def test_lost_stream_ref_keeps_every_stream(repository: Repository, path: Path) -> None:
    leaf, inner_leaf, loose = put(repository, "leaf"), put(repository, "inner"), put(repository, "loose")
    inner = write_stream(repository, "inner", [inner_leaf])
    outer = write_stream(repository, "outer", [leaf], {"x": inner}, ref="r")
    for name in ("inner", "outer"):
        (path / "streams" / name).unlink()
    result = collect(repository)
    assert any("streams/refs/r" in text for text in result.problems)
    assert any("may mean this stream" in text for text in result.problems)
    assert kept(repository, leaf, inner, inner_leaf, outer, loose) == [True, True, True, True, False]
    repository.streams.remove_ref("r")
    assert collect(repository).objects_removed == 4


def test_ref_of_the_wrong_depth_keeps_its_image_and_goes(repository: Repository, path: Path) -> None:
    file = put(repository, "file")
    image = repository.images.write(make_image([file])).object_id
    (path / "images" / "refs").mkdir()
    (path / "images" / "refs" / "flat").symlink_to(image.hex())
    result = collect(repository)
    assert (result.objects_removed, result.images_pruned) == (0, 1)
    assert not (path / "images" / "refs" / "flat").is_symlink()
    assert kept(repository, file, image) == [True, True]


def test_ref_that_leads_there_on_another_way_stays(repository: Repository, path: Path) -> None:
    file = put(repository, "file")
    image = repository.images.write(make_image([file])).object_id
    (path / "images" / "refs").mkdir()
    (path / "images" / "refs" / "long").symlink_to(f"../../images/{image.hex()}")
    result = collect(repository)
    assert (result.objects_removed, result.images_pruned, result.problems) == (0, 0, ())
    assert (path / "images" / "refs" / "long").is_symlink()


def test_dangling_entry_that_nobody_uses_goes(repository: Repository, path: Path) -> None:
    gone = "0" * (2 * repository.algorithm.digest_size - 2)
    for category in ("images", "streams"):
        (path / category).mkdir()
        (path / category / "gone").symlink_to(f"../objects/00/{gone}")
    dry = collect_garbage(repository, dry_run=True)
    assert (dry.images_pruned, dry.streams_pruned) == (1, 1)
    result = collect_garbage(repository)
    assert (result.images_pruned, result.streams_pruned, result.problems) == (1, 1, ())
    assert not os.listdir(path / "images")


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "fifo"])
@pytest.mark.parametrize("kind", ["image", "stream"])
def test_unreadable_root_keeps_everything(repository: Repository, path: Path, kind: str, damage: str) -> None:
    file, loose = put(repository, "file"), put(repository, "loose")
    if kind == "image":
        root = repository.images.write(make_image([file]), "im").object_id
    else:
        root = write_stream(repository, "stream", [file], ref="r")
    target = object_file(repository, root)
    match damage:
        case "missing":
            target.unlink()
        case "empty":
            target.write_bytes(b"")
        case "cut":
            os.truncate(target, target.stat().st_size - 1)
        case "flipped":
            flip_bit(target, 0 if kind == "stream" else 1024)
        case _:
            target.unlink()
            os.mkfifo(target)
    before = view(path)
    result = collect(repository)
    assert (result.objects_removed, result.is_complete) == (0, False)
    assert "cannot be read, so every object may be in use" in problem(result)
    assert kept(repository, file, loose) == [True, True]
    assert view(path) == before


def test_unreadable_image_that_nobody_uses_goes(repository: Repository) -> None:
    junk = put(repository, "junk")
    repository.images.link(junk)
    result = collect(repository)
    assert (result.objects_removed, result.images_pruned, result.problems) == (1, 1, ())


def test_image_of_the_other_hash(tmp_path: Path, repository: Repository) -> None:
    other = next(algorithm for algorithm in Algorithm if algorithm is not repository.algorithm)
    with make_repository(tmp_path / "other", other) as elsewhere:
        image = make_image([put(elsewhere, "file")])
    repository.images.import_image([image], "im")
    loose = put(repository, "loose")
    result = collect(repository)
    assert (result.objects_removed, result.is_complete, result.problems) == (1, True, ())
    assert kept(repository, loose) == [False]


@pytest.mark.parametrize("place", ["images", "images/refs", "streams", "streams/refs"])
def test_link_in_the_place_of_a_directory(repository: Repository, path: Path, place: str) -> None:
    outside = path.parent / "outside"
    outside.mkdir()
    (outside / "precious").symlink_to("nowhere")
    loose = put(repository, "loose")
    (path / place).parent.mkdir(exist_ok=True)
    (path / place).symlink_to(outside)
    with pytest.raises(BlockedNameError):
        collect_garbage(repository)
    assert kept(repository, loose) == [True]
    assert (outside / "precious").is_symlink()


def test_objects_that_is_a_link(repository: Repository, path: Path) -> None:
    put(repository, "loose")
    (path / "objects").rename(path.parent / "outside")
    (path / "objects").symlink_to(path.parent / "outside")
    result = collect_garbage(repository)
    assert "expected a directory" in problem(result)
    assert list((path.parent / "outside").glob("*/*"))


def test_large_images_are_read_in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_objects, "_WORTH_WORKERS", 0)
    with make_repository(tmp_path) as repository:
        files = [put(repository, f"file {number}") for number in range(40)]
        for number in range(10):
            repository.images.write(make_image(files[number : number + 20], b"%d" % number), f"i{number}")
        broken = repository.images.write(make_image(files, b"broken"), "broken").object_id
        loose = put(repository, "loose")
        flip_bit(object_file(repository, broken), 1024)
        result = collect(repository)
        assert (result.objects_removed, result.is_complete) == (0, False)
        assert broken.hex() in problem(result)
        repository.images.remove_ref("broken")
        assert collect(repository).objects_removed == 13
        assert kept(repository, *files[:29], files[29], loose) == [True] * 29 + [False, False]
