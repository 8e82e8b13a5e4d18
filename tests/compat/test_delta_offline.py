"""Deltas that `ostree` made, of every kind it makes, applied without a repository behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import CfsError
from cfsctl.ostree.delta.format import delta_directory, parse_delta_name
from cfsctl.ostree.delta.store import DeltaFile
from cfsctl.ostree.delta.superblock import parse_superblock
from cfsctl.ostree.exchange.apply_delta import apply_delta
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.sources.local import LocalSource
from tests.support.deltas import TwoCommits, generate, make_two_commits
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.digest import ObjectID
    from cfsctl.ostree.delta.superblock import Superblock

pytestmark = pytest.mark.compat

KINDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "no-bsdiff": ("--disable-bsdiff",),
    "many-parts": ("--max-chunk-size=1", "--min-fallback-size=0"),
    "big-endian": ("--set-endianness=B",),
    "inline": ("--inline",),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> TwoCommits:
    require_ostree()
    return make_two_commits(tmp_path_factory.mktemp("ostree"))


@pytest.fixture(scope="module")
def expected(repository: TwoCommits, tmp_path_factory: pytest.TempPathFactory) -> tuple[ObjectID, ObjectID]:
    """Splitstream and image that a pull of the newer commit gives."""
    source = LocalSource(str(repository.path))
    with make_repository(tmp_path_factory.mktemp("expected") / "store") as store:
        pull(store, source, repository.first, PullOptions(workers=0))
        result = pull(store, source, repository.second, PullOptions(workers=0))
    return result.stream_id, result.image_id


def superblock_of(path: Path) -> Superblock:
    store = DeltaFile(str(path))
    held = store.open_superblock()
    try:
        return parse_superblock(held.view())
    finally:
        held.close()
        store.release()


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("scratch", [False, True], ids=["between", "scratch"])
def test_a_delta_in_a_file(
    repository: TwoCommits,
    expected: tuple[ObjectID, ObjectID],
    tmp_path: Path,
    kind: str,
    scratch: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    file = tmp_path / "delta"
    generate(repository, *KINDS[kind], f"--filename={file}", scratch=scratch)
    superblock = superblock_of(file)
    assert superblock.to_checksum.hex() == repository.second
    for part, size in zip(superblock.parts, sizes_of(superblock, tmp_path), strict=True):
        assert part.size_bytes == size
    with make_repository(tmp_path / "store") as store:
        if not scratch:
            pull(store, LocalSource(str(repository.path)), repository.first, PullOptions(workers=0))
        result = apply_delta(store, str(file))
    assert (result.stream_id, result.image_id) == expected
    assert result.delta_parts == len(superblock.parts)
    if kind == "many-parts" and scratch:
        assert result.delta_parts > 2


def sizes_of(superblock: Superblock, directory: Path) -> list[int]:
    """Return the real sizes of all parts."""
    return [
        superblock.inline[number].size
        if number in superblock.inline
        else (directory / str(number)).stat().st_size
        for number in range(len(superblock.parts))
    ]


def test_a_delta_in_a_directory(
    repository: TwoCommits, expected: tuple[ObjectID, ObjectID], tmp_path: Path
) -> None:
    generate(repository)
    name = parse_delta_name(f"{repository.first}-{repository.second}")
    assert name is not None
    directory = repository.path / delta_directory(*name)
    with make_repository(tmp_path / "store") as store:
        pull(store, LocalSource(str(repository.path)), repository.first, PullOptions(workers=0))
        result = apply_delta(store, str(directory))
    assert (result.stream_id, result.image_id) == expected


def test_fallback_objects_are_asked_for_by_name(repository: TwoCommits, tmp_path: Path) -> None:
    file = tmp_path / "delta"
    generate(repository, "--min-fallback-size=1", "--inline", f"--filename={file}", scratch=True)
    assert superblock_of(file).fallbacks
    with make_repository(tmp_path / "store") as store:
        with pytest.raises(CfsError, match=r"file object .* is missing from delta") as caught:
            apply_delta(store, str(file))
        assert caught.value.hint is not None
        assert "pull the commit instead" in caught.value.hint
        # What the delta made is not fetched again.
        result = pull(store, LocalSource(str(repository.path)), repository.second, PullOptions(workers=0))
    assert result.metadata_fetched == 0
    assert result.files_fetched == len(superblock_of(file).fallbacks)


def test_ostree_says_the_same_of_its_superblock(repository: TwoCommits, tmp_path: Path) -> None:
    file = tmp_path / "delta"
    generate(repository, "--inline", f"--filename={file}")
    shown = run_ostree(repository.path, "static-delta", "show", str(file))
    superblock = superblock_of(file)
    assert f"From: {repository.first}" in shown
    assert f"To: {repository.second}" in shown
    assert f"Number of parts: {len(superblock.parts)}" in shown
    assert f"Number of fallback entries: {len(superblock.fallbacks)}" in shown
