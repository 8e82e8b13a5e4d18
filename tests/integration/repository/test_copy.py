"""Images, commits and streams in another repository are what they would be if they had been made there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.app import main
from cfsctl.digest import Algorithm, ObjectID, qualified
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.read.tree import read_image
from cfsctl.erofs.write.image import build_image
from cfsctl.errors import DigestMismatchError, ExitCode, ObjectMissingError
from cfsctl.kinds.checks import content_checks
from cfsctl.ostree.exchange.copy import copy_commit
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.store.refs import CommitNotFoundError, find_tag
from cfsctl.repository import Repository, copying
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.copying import OtherAlgorithmError, copy_image, copy_stream
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.names.images import map_file
from cfsctl.tree.model import Directory, ExternalFile, FileSystem, InlineFile, Symlink
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import flip_bit, make_repository, object_file, write_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import Checksum

FILES = {f"file{number}": f"file {number} ".encode() * (5 + number) for number in range(25)}
SIZES = [0, 1, 63, 64, 65, 127, 128, 129, 4096, 4097, 200_000]

BOTH = [(source, target) for source in Algorithm for target in Algorithm]


@pytest.fixture(params=BOTH, ids=lambda pair: "-".join(map(str, pair)))
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Repository, Repository]]:
    source, target = request.param
    with (
        make_repository(tmp_path / "source", source) as one,
        make_repository(tmp_path / "target", target) as two,
    ):
        yield one, two


def build(repository: Repository, version: FormatVersion, ref: str | None = None) -> ObjectID:
    """Make an image of the same tree with the objects of a repository."""
    root = Directory(0o755, mtime_s=7)
    for name, content in FILES.items():
        stored = repository.objects.ensure_bytes(content)
        root.entries[name.encode()] = ExternalFile(stored.object_id, len(content), 0o644, 3, 4, 5, 6)
    root.entries[b"again"] = root.entries[b"file3"]
    root.entries[b"inline"] = InlineFile(b"inline", 0o600, xattrs={b"user.x": b"y"})
    root.entries[b"link"] = Symlink(b"inline", 0o777)
    return repository.images.write(bytes(build_image(FileSystem(root), version)), ref).object_id


def check(repository: Repository) -> None:
    checks = content_checks(repository)
    assert check_repository(repository, deep=True, content_checks=checks).findings == []


@pytest.mark.parametrize("version", list(FormatVersion))
def test_image(pair: tuple[Repository, Repository], tmp_path: Path, version: FormatVersion) -> None:
    source, target = pair
    image_id = build(source, version, "im")
    result = copy_image(source, target, image_id, "a/b")
    assert target.images.find("a/b") == result.object_id
    assert (result.counts.copied, result.counts.present) == (len(FILES) + 1, 0)
    with make_repository(tmp_path / "direct", target.algorithm) as direct:
        assert build(direct, version) == result.object_id
    check(target)
    assert collect_garbage(target).objects_removed == 0
    again = copy_image(source, target, image_id, "a/b")
    assert (again.object_id, again.counts.copied) == (result.object_id, 0)
    assert again.counts.present == len(FILES) + 1


def test_tree_stays_the_same(tmp_path: Path) -> None:
    """There and back again gives the very same image."""
    with (
        make_repository(tmp_path / "a", Algorithm.SHA256) as one,
        make_repository(tmp_path / "b", Algorithm.SHA512) as two,
        make_repository(tmp_path / "c", Algorithm.SHA256) as three,
    ):
        image_id = build(one, FormatVersion.V2)
        middle = copy_image(one, two, image_id).object_id
        assert copy_image(two, three, middle).object_id == image_id
        with map_file(two.objects.open(middle)) as data:
            root = read_image(data, Algorithm.SHA512).root
        assert root.entries[b"again"] is root.entries[b"file3"]


def test_many_objects_in_workers(
    pair: tuple[Repository, Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_WORTH_WORKERS", 0)
    monkeypatch.setattr(copying, "_BATCH", 3)
    source, target = pair
    result = copy_image(source, target, build(source, FormatVersion.V1), "im")
    assert result.counts.copied == len(FILES) + 1
    check(target)


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_damage_is_not_copied(pair: tuple[Repository, Repository], damage: str) -> None:
    source, target = pair
    image_id = build(source, FormatVersion.V1)
    victim = source.images.objects(image_id.hex())[7]
    if damage == "flipped":
        flip_bit(object_file(source, victim), 9)
    else:
        object_file(source, victim).unlink()
    with pytest.raises((DigestMismatchError, ObjectMissingError)) as caught:
        copy_image(source, target, image_id, "im")
    assert qualified(victim) in str(caught.value)
    assert target.images.find("im") is None
    check(target)


def test_damaged_image_is_not_copied(pair: tuple[Repository, Repository]) -> None:
    source, target = pair
    image_id = build(source, FormatVersion.V1)
    flip_bit(object_file(source, image_id), object_file(source, image_id).stat().st_size - 1)
    with pytest.raises(DigestMismatchError):
        copy_image(source, target, image_id, "im")
    assert target.images.find("im") is None


def commit(repository: Repository, ref: str = "main") -> Checksum:
    fake = FakeOstreeRepository()
    fake.commit({"usr": {f"s{size}": b"x" * size for size in SIZES}, "l": "usr/s0"}, "main")
    return pull(repository, fake, ref, PullOptions(workers=0)).commit


def test_commit(pair: tuple[Repository, Repository], tmp_path: Path) -> None:
    source, target = pair
    checksum = commit(source)
    result = copy_commit(source, target, checksum, "other/name")
    assert find_tag(target, "other/name") == checksum
    with make_repository(tmp_path / "direct", target.algorithm) as direct:
        commit(direct)
        expected = direct.streams.find(f"ostree-commit-{checksum.hex()}")
    assert result.stream_id == expected
    assert result.image_id is not None
    assert target.images.find(result.image_id.hex()) == result.image_id
    assert result.counts.copied > 0
    check(target)
    assert collect_garbage(target).objects_removed == 0
    assert copy_commit(source, target, checksum, "other/name").counts.copied == 0


def test_stream_with_what_it_names(tmp_path: Path) -> None:
    with (
        make_repository(tmp_path / "a", Algorithm.SHA256) as source,
        make_repository(tmp_path / "b", Algorithm.SHA256) as target,
        make_repository(tmp_path / "c", Algorithm.SHA512) as other,
    ):
        image_id = build(source, FormatVersion.V1)
        leaf = source.objects.ensure_bytes(b"leaf" * 50).object_id
        inner = write_stream(source, "inner", [leaf])
        outer = write_stream(source, "outer", [leaf], {"in": inner, "im": image_id}, ref="r")
        write_stream(source, "unrelated", [source.objects.ensure_bytes(b"no" * 50).object_id])
        result = copy_stream(source, target, "outer", "oci/x")
        assert result.object_id == outer
        assert [stream.name for stream in target.streams.list_streams()] == ["outer"]
        assert target.images.find(image_id.hex()) == image_id
        assert target.streams.find("refs/oci/x") == outer
        check(target)
        with pytest.raises(OtherAlgorithmError, match="sha512"):
            copy_stream(source, other, "outer")


# The command


def run(source: Repository, target: Repository, *arguments: str) -> int:
    return main(["--repo", source.path, "copy", *arguments, target.path])


def test_command(pair: tuple[Repository, Repository], capsys: pytest.CaptureFixture[str]) -> None:
    source, target = pair
    image_id = build(source, FormatVersion.V1, "a/b")
    checksum = commit(source)
    assert run(source, target, "a/b") == 0
    new_id = target.images.find("refs/a/b")
    assert new_id is not None
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == [f"image   {new_id.hex()}", "tagged  a/b"]
    assert err == ""
    assert run(source, target, image_id.hex()) == 0
    assert "--as" in capsys.readouterr().err
    assert run(source, target, image_id.hex(), "--as", "c", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tagged"] == "c"
    assert document["objects"]["copied"] == 0
    assert run(source, target, "main") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"commit  {checksum.hex()}"
    assert find_tag(target, "main") == checksum
    assert run(source, target, checksum.hex()[:12], "--as", "again") == 0
    assert find_tag(target, "again") == checksum


def test_stream_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        make_repository(tmp_path / "a") as source,
        make_repository(tmp_path / "b") as target,
    ):
        stream = write_stream(source, "s", [source.objects.ensure_bytes(b"x" * 100).object_id], ref="x/y")
        assert run(source, target, "refs/x/y") == 0
        assert target.streams.find("refs/x/y") == stream
        assert run(source, target, "s") == 0
        assert capsys.readouterr().out.count(f"stream  {stream.hex()}") == 2


def test_names_that_lead_nowhere(pair: tuple[Repository, Repository], tmp_path: Path) -> None:
    source, target = pair
    with pytest.raises(CommitNotFoundError) as caught:
        run(source, target, "nothing")
    assert caught.value.exit_code == ExitCode.NOT_FOUND
    with pytest.raises(Exception, match="opening repository") as missing:
        main(["--repo", source.path, "copy", "nothing", str(tmp_path / "nowhere")])
    assert getattr(missing.value, "exit_code", None) == ExitCode.NO_REPOSITORY
