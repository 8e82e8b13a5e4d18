"""Commits made of images: what is mounted is what the commit has, and nothing that either needs is lost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.read.tree import read_image
from cfsctl.erofs.write.image import build_image
from cfsctl.inspection.diff import Attribute, iter_differences
from cfsctl.kinds.checks import content_checks
from cfsctl.ostree.exchange.commit import CommitText, commit_image_tree
from cfsctl.ostree.exchange.copy import copy_commit
from cfsctl.ostree.exchange.repair import CommitImageSource
from cfsctl.ostree.pull.pull import estimate_pull, pull
from cfsctl.ostree.sources.stored_commit import StoredCommitSource
from cfsctl.ostree.store.images import commit_tree
from cfsctl.ostree.store.refs import open_commit, stream_name
from cfsctl.ostree.tree.from_tree import AS_IT_IS, TreeOptions
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc.collect import collect_garbage, explain_object
from cfsctl.repository.gc.stats import measure_repository
from cfsctl.repository.repair.repair import repair_repository
from cfsctl.tree.model import CharDevice, Directory, ExternalFile, Fifo, FileSystem, InlineFile, Socket
from tests.support.repositories import flip_bit, make_repository, object_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cfsctl.digest import Checksum
    from cfsctl.progress import Event
    from cfsctl.repository import Repository
    from cfsctl.tree.model import Leaf

SMALL = (1, 64, 65, 100, 128)
"""Sizes of files that some limit has inline: 64 in images and of SHA-256, 128 in commits of SHA-512."""

LARGE = (129, 5000)
TEXT = CommitText("subject", timestamp_s=7)


@pytest.fixture(params=Algorithm, ids=str)
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", request.param) as opened:
        yield opened


def content_of(size: int) -> bytes:
    return os.fsencode(f"{size}:").ljust(size, b"x")[:size]


def store_image(repository: Repository, extra: Mapping[bytes, Directory | Leaf] | None = None) -> ObjectID:
    """Store an image that has every file as an object, as images of other programs may."""
    root = Directory(0o755, mtime_s=9)
    for size in (*SMALL, *LARGE):
        stored = repository.objects.ensure_bytes(content_of(size))
        root.entries[b"f%d" % size] = ExternalFile(stored.object_id, size, 0o644, mtime_s=8)
    root.entries.update(extra or {})
    return repository.images.write(bytes(build_image(FileSystem(root), FormatVersion.V1))).object_id


def commit(
    repository: Repository,
    extra: Mapping[bytes, Directory | Leaf] | None = None,
    options: TreeOptions = AS_IT_IS,
) -> Checksum:
    return commit_image_tree(repository, store_image(repository, extra).hex(), TEXT, "tag", options).commit


def small_objects(repository: Repository) -> list[ObjectID]:
    return [repository.objects.ensure_bytes(content_of(size)).object_id for size in SMALL]


def check(repository: Repository) -> None:
    report = check_repository(repository, deep=True, content_checks=content_checks(repository))
    assert report.findings == []


def is_here(repository: Repository, checksum: Checksum) -> bool:
    origin = StoredCommitSource("itself", open_commit(repository, checksum), repository.objects)
    return estimate_pull(repository, origin, checksum.hex()).is_here


def pull_again(repository: Repository, checksum: Checksum) -> list[Event]:
    """Pull a commit from where it is; nothing can be fetched that is not there."""
    events: list[Event] = []
    origin = StoredCommitSource("itself", open_commit(repository, checksum), repository.objects)
    pull(repository, origin, checksum.hex(), reporter=events.append)
    return events


def test_nothing_of_the_image_is_collected(repository: Repository) -> None:
    checksum = commit(repository)
    assert collect_garbage(repository, dry_run=True).objects_removed == 0
    assert collect_garbage(repository).objects_removed == 0
    check(repository)
    stream = open_commit(repository, checksum)
    assert stream.image is not None
    for object_id in repository.images.objects(stream.image.hex()):
        why = explain_object(repository, object_id)
        assert why.steps[0] == "streams/refs/ostree/tag"
    [needed] = measure_repository(repository).refs
    assert needed.missing == 0
    assert needed.exclusive_objects == needed.objects == len(SMALL) + len(LARGE) + 2


def test_the_stream_lists_all_that_the_image_needs(repository: Repository) -> None:
    """The original keeps what the stream lists, and of the image that it names only the image itself."""
    stream = open_commit(repository, commit(repository))
    assert stream.image is not None
    assert set(repository.images.objects(stream.image.hex())) == set(stream.object_refs)


@pytest.mark.parametrize("options", [AS_IT_IS, TreeOptions(uid=5)])
def test_copy_brings_all(repository: Repository, tmp_path: Path, options: TreeOptions) -> None:
    checksum = commit(repository, options=options)
    with make_repository(tmp_path / "other", repository.algorithm) as other:
        copied = copy_commit(repository, other, checksum, "tag")
        assert copied.image_id == open_commit(repository, checksum).image
        assert collect_garbage(other).objects_removed == 0
        check(other)


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_small_objects_come_back_from_the_stream(repository: Repository, damage: str) -> None:
    checksum = commit(repository)
    lost = small_objects(repository)
    if repository.algorithm is Algorithm.SHA256:
        lost = lost[: SMALL.index(65)]
    for object_id in lost:
        file = object_file(repository, object_id)
        file.unlink() if damage == "missing" else flip_bit(file, 0)
    report = repair_repository(repository, [CommitImageSource(repository)])
    assert report.restored.keys() == set(lost)
    assert report.after.is_ok
    check(repository)
    assert is_here(repository, checksum)


def test_pull_restores_small_objects(repository: Repository) -> None:
    checksum = commit(repository)
    before = repository.streams.find(stream_name(checksum))
    lost = small_objects(repository)[:2]
    for object_id in lost:
        object_file(repository, object_id).unlink()
    assert is_here(repository, checksum)
    assert not repository.objects.contains(lost[0])  # a forecast changes nothing
    pull_again(repository, checksum)
    check(repository)
    assert repository.streams.find(stream_name(checksum)) == before


def test_large_object_of_the_image_is_not_taken_as_here(repository: Repository) -> None:
    checksum = commit(repository)
    lost = repository.objects.ensure_bytes(content_of(5000)).object_id
    object_file(repository, lost).unlink()
    assert not is_here(repository, checksum)


LEFT_OUT: dict[str, dict[bytes, Directory | Leaf]] = {
    "fifo": {b"fifo": Fifo(0o644)},
    "socket": {b"socket": Socket(0o644)},
    "device": {b"null": CharDevice(0x103, 0o666)},
    "whiteout": {b"gone": CharDevice(0, 0)},
    "empty attribute": {b"f": InlineFile(b"x", 0o644, xattrs={b"user.a": b"", b"user.b": b"1"})},
    "empty attribute of a directory": {b"d": Directory(0o755, xattrs={b"user.a": b""})},
}


@pytest.mark.parametrize("extra", LEFT_OUT.values(), ids=LEFT_OUT)
def test_image_is_that_of_the_commit(repository: Repository, extra: Mapping[bytes, Directory | Leaf]) -> None:
    checksum = commit(repository, extra)
    stream = open_commit(repository, checksum)
    assert stream.image is not None
    with repository.images.map(stream.image.hex()) as data:
        mounted = read_image(data, repository.algorithm)
    assert list(iter_differences(commit_tree(repository, checksum), mounted)) == []


LABELS = [b"system_u:object_r:usr_t:s0", b"system_u:object_r:usr_t:s0\0"]


@pytest.mark.parametrize("label", LABELS)
def test_image_that_the_commit_says_all_of_stays(repository: Repository, label: bytes) -> None:
    """Also with a label: with or without the NUL behind it, it is the same."""
    extra: dict[bytes, Directory | Leaf] = {
        b"f": InlineFile(b"x", 0o644, xattrs={b"security.selinux": label})
    }
    image_id = store_image(repository, extra)
    checksum = commit_image_tree(repository, image_id.hex(), TEXT).commit
    assert open_commit(repository, checksum).image == image_id
    with repository.images.map(image_id.hex()) as data:
        mounted = read_image(data, repository.algorithm)
    tree = commit_tree(repository, checksum)
    assert list(iter_differences(tree, mounted)) != []  # the image has times
    assert list(iter_differences(tree, mounted, ignored={Attribute.MTIME, Attribute.STORAGE})) == []
