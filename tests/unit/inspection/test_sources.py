"""What a user names, and the tree behind it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.inspection.diff import iter_differences
from cfsctl.inspection.explain import explain, read_bases
from cfsctl.inspection.sources import (
    SourceError,
    SourceFinder,
    SourceMismatchError,
    StoredImageSource,
    StreamSource,
    check_algorithm,
    common_algorithm,
)
from cfsctl.kinds.kind import Reading
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.ostree.store.refs import set_tag, stream_name
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.repository import NotARepositoryError, Repository, init_repository
from cfsctl.tree.transform import XattrFilter
from tests.support.commits import CommitMaker
from tests.support.erofs_images import stored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHA256, SHA512 = Algorithm.SHA256, Algorithm.SHA512
READING = Reading(
    propagate_usr=True, xattr_filter=XattrFilter.ALLOWLIST_ONLY, xattr_names=XattrNames.STRIPPED
)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    init_repository(str(tmp_path / "repository"), algorithm=SHA256, insecure=True)
    with Repository.open(str(tmp_path / "repository")) as opened:
        yield opened


@pytest.fixture
def finder(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SourceFinder:
    monkeypatch.chdir(tmp_path)
    return SourceFinder(lambda: repository, READING)


def no_repository() -> Repository:
    raise NotARepositoryError("no repository here")


def test_image_file_is_guessed(finder: SourceFinder, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(stored("sha512-v2.img"))
    source = finder.find("file")
    assert source.description == "image file"
    assert source.find_algorithm() is SHA512
    assert build_image(source.read(SHA512), FormatVersion.V2) == stored("sha512-v2.img")


def test_dump_is_guessed(finder: SourceFinder, tmp_path: Path) -> None:
    for name, algorithm in (("sha256.dump", SHA256), ("sha512.dump", SHA512)):
        (tmp_path / name).write_bytes(stored(name))
        source = finder.find(name)
        assert source.description == f"dump {name}"
        assert source.find_algorithm() is algorithm
        image = stored(name.replace(".dump", "-v1.img"))
        assert build_image(source.read(algorithm), FormatVersion.V1) == image


def test_dump_without_digests_takes_any_hash(finder: SourceFinder, tmp_path: Path) -> None:
    (tmp_path / "dump").write_text("/ 0 40755 2 0 0 0 0.0 - - -\n/a 1 100644 1 0 0 0 0.0 - a -\n")
    assert finder.find("dump").find_algorithm() is None


def test_dump_from_a_pipe(finder: SourceFinder) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"/ 0 40755 2 0 0 0 0.0 - - -\n")
    os.close(writing)
    try:
        source = finder.find(f"/dev/fd/{reading}")
        assert source.read(SHA256).root.mode == 0o755
    finally:
        os.close(reading)


def test_directory_is_read_as_create_image_would(finder: SourceFinder, tmp_path: Path) -> None:
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    (tmp_path / "tree" / "usr").chmod(0o700)
    (tmp_path / "tree" / "run" / "stale").mkdir(parents=True)
    source = finder.find("tree")
    tree = source.read(SHA256)
    assert tree.root.mode == 0o700
    assert source.description == "directory tree"
    assert source.notes == []
    assert [name for name, node in tree.root.entries.items() if getattr(node, "entries", None)] == []


def test_directory_without_usr_is_taken_as_it_is(finder: SourceFinder, tmp_path: Path) -> None:
    (tmp_path / "tree" / "run" / "kept").mkdir(parents=True)
    source = finder.find("dir:tree")
    assert b"kept" in getattr(source.read(SHA256).root.entries[b"run"], "entries", {})
    assert source.notes == ["tree has no /usr and is taken as it is"]


def test_image_of_the_repository(finder: SourceFinder, repository: Repository) -> None:
    image = stored("sha256-v1.img")
    object_id = repository.images.write(image, "my/image").object_id
    for name in ("my/image", "refs/my/image", object_id.hex(), f"image:sha256:{object_id.hex()}"):
        source = finder.find(name)
        assert source.find_algorithm() is SHA256
        assert build_image(source.read(SHA256), FormatVersion.V1) == image


def store_commit(repository: Repository, tag: str | None = None) -> str:
    """Store a commit with one labelled file and return its ID."""
    maker = CommitMaker()
    label = ((b"security.selinux\0", b"label\0"),)
    root = maker.dirtree([(b"file", maker.file(b"content", xattrs=label))])
    commit = maker.commit(root)
    object_id = write_commit_stream(repository.objects, repository.algorithm, commit, maker.objects)
    repository.streams.link(stream_name(commit), object_id)
    if tag is not None:
        set_tag(repository, commit.hex(), tag)
    return commit.hex()


def test_commit(finder: SourceFinder, repository: Repository) -> None:
    commit = store_commit(repository, "os/stable")
    for name in ("os/stable", commit, commit[:6], f"commit:{commit[:6]}"):
        source = finder.find(name)
        assert isinstance(source, StreamSource)
        assert source.find_algorithm() is SHA256
        file = source.read(SHA256).root.entries[b"file"]
        assert dict(file.xattrs) == {b"security.selinux": b"label\0"}
        with pytest.raises(SourceMismatchError, match=f"commit {source.name} by sha256"):
            source.read(SHA512)


def test_image_and_commit_of_one_name(finder: SourceFinder, repository: Repository) -> None:
    store_commit(repository, "stable")
    repository.images.write(stored("sha256-v1.img"), "stable")
    with pytest.raises(SourceError, match="there are an image and a commit of that name"):
        finder.find("stable")
    assert isinstance(finder.find("commit:stable"), StreamSource)
    assert isinstance(finder.find("image:stable"), StoredImageSource)


def test_commit_has_a_second_reading(finder: SourceFinder, repository: Repository) -> None:
    source = finder.find(store_commit(repository))
    bases = read_bases(source, SHA256)
    assert [list(base.filesystem.root.entries[b"file"].xattrs) for base in bases] == [
        [b"security.selinux"],
        [b"security.selinux\0"],
    ]
    expected = compute_digest(build_image(bases[1].filesystem, FormatVersion.V2), SHA256)
    found = explain(bases, expected)
    assert found is not None
    assert found.describe() == "EROFS version 2, attribute names with the NUL that the original keeps"


def test_file_wins_over_the_repository(finder: SourceFinder, repository: Repository, tmp_path: Path) -> None:
    repository.images.write(stored("sha256-v1.img"), "both")
    (tmp_path / "both").write_bytes(stored("sha256-v2.img"))
    for name in ("both", "image:both"):
        assert build_image(finder.find(name).read(SHA256), FormatVersion.V2) == stored("sha256-v2.img")
    in_repository = finder.find("image:refs/both").read(SHA256)
    assert build_image(in_repository, FormatVersion.V1) == stored("sha256-v1.img")


@pytest.mark.parametrize("name", ["nothing", "image:nothing", "commit:nothing", "0123abc", "../x"])
def test_nothing_of_that_name(finder: SourceFinder, name: str) -> None:
    with pytest.raises(Exception, match=r"nothing|0123abc|\.\./x") as caught:
        finder.find(name)
    assert getattr(caught.value, "exit_code", None) is not None


def test_no_repository_to_look_in(tmp_path: Path) -> None:
    finder = SourceFinder(no_repository, READING)
    with pytest.raises(SourceError, match="no such file, and no repository to look in"):
        finder.find(str(tmp_path / "nothing"))


@pytest.mark.parametrize("content", [b"", b"text", b"\x9a\x62"])
def test_file_that_is_no_tree(finder: SourceFinder, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SourceError, match="expected a directory, an image or a dump"):
        finder.find("file")


def test_broken_image(finder: SourceFinder, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(stored("sha256-v1.img")[:-4096])
    with pytest.raises(ErofsError, match="superblock says 14 blocks"):
        finder.find("file")


def test_hashes_must_agree(finder: SourceFinder, tmp_path: Path) -> None:
    for name in ("sha256-v1.img", "sha512-v1.img"):
        (tmp_path / name).write_bytes(stored(name))
    (tmp_path / "tree").mkdir()
    one, two, three = (finder.find(name) for name in ("sha256-v1.img", "sha512-v1.img", "tree"))
    assert common_algorithm([one, three], SHA512) is SHA256
    assert common_algorithm([three, three], None) is SHA512
    assert common_algorithm([three], SHA256) is SHA256
    with pytest.raises(SourceMismatchError, match=r"image sha256-v1\.img by sha256, in image sha512"):
        common_algorithm([one, two], None)
    check_algorithm(one, SHA256)
    with pytest.raises(SourceMismatchError, match="by sha512, expected sha256"):
        check_algorithm(two, SHA256)


def test_directory_equals_the_image_made_of_it(finder: SourceFinder, tmp_path: Path) -> None:
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    (tmp_path / "tree" / "usr" / "file").write_bytes(b"x" * 1000)
    image = build_image(finder.find("tree").read(SHA512), FormatVersion.V1)
    (tmp_path / "file").write_bytes(image)
    old, new = (finder.find(name).read(SHA512) for name in ("tree", "file"))
    assert list(iter_differences(old, new)) == []
