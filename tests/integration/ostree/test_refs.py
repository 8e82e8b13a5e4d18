"""Tags, commit IDs and prefixes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import ExitCode
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.store.refs import (
    CommitNotFoundError,
    Tag,
    find_tag,
    iter_commits,
    list_tags,
    open_commit,
    parse_commit_id,
    remove_tag,
    resolve_source,
    set_tag,
    stream_name,
    tag_ref,
)
from cfsctl.repository.names.names import InvalidNameError
from cfsctl.repository.names.short_ids import AmbiguousIdError
from cfsctl.repository.names.tags import escape_tag, unescape_tag
from tests.fakes.ostree_repository import FakeOstreeRepository

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.repository import Repository

ESCAPED = {
    "main": "main",
    "os/amd64/stable": "os%2Famd64%2Fstable",
    "100%": "100%25",
    "a%2Fb": "a%252Fb",
    "%25/%": "%2525%2F%25",
    "é/ß": "é%2Fß",
    "/lead": "%2Flead",
    "a//b": "a%2F%2Fb",
}


@pytest.mark.parametrize("name", list(ESCAPED))
def test_names_are_escaped_and_come_back(name: str) -> None:
    assert escape_tag(name) == ESCAPED[name]
    assert unescape_tag(ESCAPED[name]) == name
    assert tag_ref(name) == f"ostree/{ESCAPED[name]}"


def test_only_what_is_written_is_unescaped() -> None:
    assert unescape_tag("a%2fb%41%") == "a%2fb%41%"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_can_be_no_tag(name: str) -> None:
    with pytest.raises(InvalidNameError, match="cannot be the name of a tag"):
        tag_ref(name)


def test_commit_ids() -> None:
    assert parse_commit_id("AB" * 32) == b"\xab" * 32
    for text in ("ab" * 31, "ab" * 33, "g" * 64, "ab" * 32 + "\n", ""):
        assert parse_commit_id(text) is None


@pytest.fixture
def commits(repository: Repository) -> list[Checksum]:
    """Twenty untagged commits, ascending."""
    fake = FakeOstreeRepository()
    made = [fake.commit({}, timestamp_s=number) for number in range(20)]
    for checksum in made:
        pull(repository, fake, checksum.hex(), PullOptions(workers=0))
    return sorted(made)


def test_tags_come_sorted_by_name(repository: Repository, commits: list[Checksum]) -> None:
    assert list_tags(repository) == []
    assert list(iter_commits(repository)) == commits
    for name in ("z", "a/b", "100%"):
        set_tag(repository, commits[3].hex(), name)
    assert list_tags(repository) == [Tag(name, commits[3]) for name in ("100%", "a/b", "z")]


def test_links_that_name_no_commit_are_no_tags(repository: Repository, commits: list[Checksum]) -> None:
    set_tag(repository, commits[0].hex(), "good")
    directory = Path(repository.path) / "streams/refs/ostree"
    (directory / "other").symlink_to("../../oci-config-sha256:00")
    (directory / "short").symlink_to("../../ostree-commit-abcd")
    (directory / "file").write_text("x")
    assert list_tags(repository) == [Tag("good", commits[0])]


def test_a_tag_moves_and_goes(repository: Repository, commits: list[Checksum]) -> None:
    assert set_tag(repository, commits[0].hex(), "a/b") == commits[0]
    assert set_tag(repository, commits[1].hex()[:8], "a/b") == commits[1]
    assert find_tag(repository, "a/b") == commits[1]
    assert set_tag(repository, "a/b", "copy") == commits[1]
    remove_tag(repository, "a/b")
    assert find_tag(repository, "a/b") is None
    assert find_tag(repository, "copy") == commits[1]


@pytest.mark.parametrize("name", ["nope", "", ".."])
def test_a_tag_that_is_not_there_cannot_be_removed(repository: Repository, name: str) -> None:
    with pytest.raises(CommitNotFoundError, match=f"^Failed to remove tag {name}: ") as caught:
        remove_tag(repository, name)
    assert caught.value.exit_code is ExitCode.NOT_FOUND


def test_a_source_is_a_tag_an_id_or_a_prefix(repository: Repository, commits: list[Checksum]) -> None:
    set_tag(repository, commits[5].hex(), "name")
    assert resolve_source(repository, "name") == commits[5]
    assert resolve_source(repository, commits[6].hex()) == commits[6]
    assert resolve_source(repository, commits[6].hex().upper()) == commits[6]
    assert resolve_source(repository, commits[7].hex()[:10]) == commits[7]


def test_a_tag_wins_over_a_prefix(repository: Repository, commits: list[Checksum]) -> None:
    prefix = commits[7].hex()[:10]
    set_tag(repository, commits[8].hex(), prefix)
    assert resolve_source(repository, prefix) == commits[8]


UNKNOWN = {
    "nope": "'nope' is not a known ostree ref or valid commit ID",
    "": "'' is not a known ostree ref or valid commit ID",
    "..": "'..' is not a known ostree ref or valid commit ID",
    "ab" * 33: f"'{'ab' * 33}' is not a known ostree ref or valid commit ID",
    "0" * 64: f"ostree commit ID not found in repository: {'0' * 64}",
    "000000000000": "ostree commit prefix '000000000000' not found in repository",
}


@pytest.mark.parametrize("source", list(UNKNOWN), ids=range(len(UNKNOWN)))
def test_what_names_no_commit(repository: Repository, commits: list[Checksum], source: str) -> None:
    del commits
    with pytest.raises(CommitNotFoundError) as caught:
        resolve_source(repository, source)
    assert str(caught.value) == UNKNOWN[source]
    assert caught.value.exit_code is ExitCode.NOT_FOUND


def test_a_prefix_of_several_commits(repository: Repository, commits: list[Checksum]) -> None:
    digits = [checksum.hex()[0] for checksum in commits]
    prefix = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(AmbiguousIdError, match=f"^ambiguous commit ID '{prefix}': "):
        resolve_source(repository, prefix)


def test_a_tag_whose_commit_is_gone(repository: Repository, commits: list[Checksum]) -> None:
    set_tag(repository, commits[0].hex(), "name")
    name = stream_name(commits[0])
    (Path(repository.path) / "streams" / name).unlink()
    with pytest.raises(CommitNotFoundError, match=f"^ref 'name' points to missing stream '{name}'$"):
        resolve_source(repository, "name")
    with pytest.raises(CommitNotFoundError, match="ostree commit ID not found in repository"):
        open_commit(repository, commits[0])
    assert list_tags(repository) == [Tag("name", commits[0])]
