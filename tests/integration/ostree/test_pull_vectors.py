"""Commits of a real repository: images, trees and streams are those of the original."""

from __future__ import annotations

import csv
import gzip
import hashlib
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.dumpfile import iter_dump
from cfsctl.erofs.format import FormatVersion
from cfsctl.ostree.pull.pull import pull
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.store.images import commit_image, commit_tree
from cfsctl.ostree.store.refs import stream_name
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.repository import Repository
from cfsctl.repository.gc.collect import collect_garbage
from tests.integration.ostree.conftest import VECTORS
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from pathlib import Path

COMMITS = ("plain-1", "plain-2", "xattr-1", "empty-1")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


IMAGES = {
    (row["name"], row["algorithm"], row["erofs"]): row for row in rows(VECTORS / "ostree/images/images.tsv")
}
CONTENTS = {(row["name"], row["algorithm"]): row for row in rows(VECTORS / "splitstream/content.tsv")}


def test_all_commits_are_there() -> None:
    assert len(IMAGES) == 16
    assert len(CONTENTS) == 8


@pytest.mark.parametrize("version", [FormatVersion.V1, FormatVersion.V2])
@pytest.mark.parametrize("algorithm", Algorithm)
def test_everything_of_a_commit_is_as_the_original_makes_it(
    fixture_path: Path, tmp_path: Path, algorithm: Algorithm, version: FormatVersion
) -> None:
    source = LocalSource(str(fixture_path / "repo"))
    with make_repository(tmp_path / "store", algorithm, version) as repository:
        for name in COMMITS:
            row = IMAGES[name, algorithm.hash_name, str(version.value)]
            result = pull(repository, source, row["commit"])
            assert result.image_id.hex() == row["image"]
            assert result.tag is None
            assert repository.images.find(row["image"]) == result.image_id
            assert commit_image(repository, result.commit) == result.image_id
            upstream = commit_image(repository, result.commit, xattr_names=XattrNames.UPSTREAM)
            assert upstream.hex() == row["image_upstream"]

            dump = b"".join(iter_dump(commit_tree(repository, result.commit)))
            stored = VECTORS / f"ostree/images/{name}-{algorithm.hash_name}.dump.gz"
            assert dump == gzip.decompress(stored.read_bytes())

            digest = hashlib.sha256()
            repository.streams.cat(stream_name(result.commit), digest.update)
            assert digest.hexdigest() == CONTENTS[name, algorithm.hash_name]["sha256_of_cat"]
    source.close()


def test_a_repository_of_several_formats_gets_all_images_and_keeps_them(
    fixture_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    make_repository(path).close()
    meta = path / "meta.json"
    meta.write_text(meta.read_text().replace('"default": 1', '"default": 1, "extra": [0, 2]'))
    source = LocalSource(str(fixture_path / "repo"))
    with Repository.open(str(path)) as repository:
        assert len(repository.erofs_versions) == 3
        result = pull(repository, source, "fixture/plain/x86_64")
        assert result.image_id.hex() == IMAGES["plain-2", "sha512", "1"]["image"]
        names = sorted(entry.path for entry in repository.images.links.iter_entries())
        assert len(names) == 3
        assert {IMAGES["plain-2", "sha512", version]["image"] for version in "12"} < set(names)
        with repository.streams.open(stream_name(result.commit)) as stream:
            formats = ["composefs.image", "composefs.image.v0", "composefs.image.v2"]
            assert list(stream.named_refs) == [*formats, "ostree.commitmeta"]
            assert {stream.named_refs[name].hex() for name in formats} == set(names)
        collect_garbage(repository)
        assert sorted(entry.path for entry in repository.images.links.iter_entries()) == names
    source.close()
