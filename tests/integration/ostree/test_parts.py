"""Pulls of a part of a commit, of several refs, and of everything that a repository lists."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from cfsctl.cli.app import cfsctl
from cfsctl.errors import ExitCode, ObjectMissingError
from cfsctl.ostree.exchange.export import export_commit
from cfsctl.ostree.objects import ObjectKind
from cfsctl.ostree.pull.pull import PullOptions, PullResult, pull
from cfsctl.ostree.store.binding import DowngradeError
from cfsctl.ostree.store.images import commit_tree
from cfsctl.ostree.store.partial_commits import PartialCommitError, find_partial, open_source
from cfsctl.ostree.store.partial_tags import (
    PARTS,
    drop_superseded,
    find_part_tag,
    list_parts,
    partial_name,
    tag_commit,
    untag,
)
from cfsctl.ostree.store.refs import CommitNotFoundError, find_tag
from cfsctl.ostree.tree.subpaths import (
    MAX_COMPONENTS,
    InvalidSubpathError,
    SubpathFilter,
    SubpathNotFoundError,
    parse_subpaths,
)
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.tree.model import Directory
from tests.fakes.ostree_repository import FakeOstreeRepository, Tree
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.repository import Repository

SHARED: Tree = {"one": b"1" * 500, "two": b"2" * 500, "deep": {"three": b"3" * 500, "four": b"4"}}
TREE: Tree = {
    "a": SHARED,
    "b": SHARED,
    "locale": {"de": {"x": b"de" * 300}, "en": {"x": b"en" * 300}, "link": "de"},
    "top": b"t" * 700,
}


@pytest.fixture
def fake() -> FakeOstreeRepository:
    fake = FakeOstreeRepository()
    fake.commit(TREE, "main")
    return fake


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "store") as repository:
        yield repository


def pull_part(
    repository: Repository, fake: FakeOstreeRepository, *paths: str, ref: str = "main"
) -> PullResult:
    fake.asked.clear()
    return pull(repository, fake, ref, PullOptions(workers=0, subpaths=paths))


def paths_of(directory: Directory, prefix: str = "/") -> set[str]:
    found = set()
    for name, node in directory.entries.items():
        path = prefix + name.decode()
        found.add(path)
        if isinstance(node, Directory):
            found |= paths_of(node, path + "/")
    return found


def present(repository: Repository, name: str = "main") -> set[str]:
    return paths_of(commit_to_filesystem(open_source(repository, name)).root)


ALL_OF_A = {"/a", "/a/one", "/a/two", "/a/deep", "/a/deep/three", "/a/deep/four"}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/locale/de"], {"/locale", "/locale/de", "/locale/de/x"}),
        (["locale/de/", "/locale/link"], {"/locale", "/locale/de", "/locale/de/x", "/locale/link"}),
        (["/top"], {"/top"}),
        (["/locale/de", "/locale"], {"/locale", "/locale/link", "/locale/de", "/locale/de/x"}
         | {"/locale/en", "/locale/en/x"}),
    ],
    ids=["directory", "directory and link", "file", "directory in a directory"],
)  # fmt: skip
def test_a_part_is_what_was_asked_for(
    repository: Repository, fake: FakeOstreeRepository, paths: list[str], expected: set[str]
) -> None:
    result = pull_part(repository, fake, *paths)
    assert result.is_partial
    assert present(repository) == expected
    assert max(fake.asked.values()) == 1
    files = {path for path in expected if "x" in path or path in {"/top", "/locale/link"}}
    assert result.files_fetched == len(files)
    assert find_tag(repository, "main") is None
    assert find_part_tag(repository, "main") == result.commit
    assert repository.images.find(result.image_id.hex()) == result.image_id


@pytest.mark.parametrize("order", [["/a/one", "/b/deep/four"], ["/b/deep/four", "/a/one"]])
def test_a_dirtree_at_two_places_of_which_different_parts_are_wanted(
    repository: Repository, fake: FakeOstreeRepository, order: list[str]
) -> None:
    result = pull_part(repository, fake, *order)
    assert result.files_fetched == 2
    # Objects have no place, so what was pulled for one of the paths is there at the other one as well.
    assert present(repository) == {
        f"/{top}{path}" for top in "ab" for path in ("", "/one", "/deep", "/deep/four")
    }


def test_parts_add_up_and_a_whole_pull_ends_them(repository: Repository, fake: FakeOstreeRepository) -> None:
    first = pull_part(repository, fake, "/a")
    second = pull_part(repository, fake, "/locale/en")
    assert second.files_fetched == 1
    assert present(repository) >= ALL_OF_A | {"/locale/en/x"}
    again = pull_part(repository, fake, "/a/deep")
    assert not fake.asked
    assert present(repository) >= ALL_OF_A | {"/locale/en/x"}
    assert (again.stream_id, again.image_id) == (second.stream_id, second.image_id)
    fake.asked.clear()
    whole = pull(repository, fake, "main", PullOptions(workers=0))
    assert sum(kind is ObjectKind.FILE for _, kind in fake.asked) == 3
    assert not whole.is_partial
    assert find_tag(repository, "main") == whole.commit == first.commit
    assert not list_parts(repository)
    assert find_partial(repository, whole.commit) is None
    assert len(paths_of(commit_tree(repository, whole.commit).root)) == 19
    collect_garbage(repository)
    assert check_repository(repository).is_ok


def test_the_whole_is_the_same_as_if_it_had_come_at_once(
    tmp_path: Path, repository: Repository, fake: FakeOstreeRepository
) -> None:
    pull_part(repository, fake, "/locale")
    whole = pull(repository, fake, "main", PullOptions(workers=0))
    with make_repository(tmp_path / "other") as other:
        direct = pull(other, fake, "main", PullOptions(workers=0))
    assert (whole.stream_id, whole.image_id) == (direct.stream_id, direct.image_id)
    part = pull_part(repository, fake, "/locale")
    assert not part.is_partial
    assert not fake.asked


def test_a_part_survives_collection_and_a_failed_pull(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    part = pull_part(repository, fake, "/locale")
    before = present(repository)
    assert collect_garbage(repository).objects_removed == 0
    top = fake.add_file(b"t" * 700)
    saved = fake.objects.pop((top, ObjectKind.FILE))
    with pytest.raises(ObjectMissingError):
        pull(repository, fake, "main", PullOptions(workers=0))
    collect_garbage(repository)
    assert present(repository) >= before
    assert repository.images.find(part.image_id.hex())
    fake.objects[top, ObjectKind.FILE] = saved
    fake.asked.clear()
    pull(repository, fake, "main", PullOptions(workers=0))
    assert (top, ObjectKind.FILE) in fake.asked
    assert (fake.add_file(b"de" * 300), ObjectKind.FILE) not in fake.asked


def test_a_part_by_commit_id_is_kept_as_well(repository: Repository, fake: FakeOstreeRepository) -> None:
    commit = fake.refs["main"]
    pull_part(repository, fake, "/top", ref=commit.hex())
    collect_garbage(repository)
    assert present(repository, commit.hex()[:10]) == {"/top"}


def test_a_part_of_a_newer_commit_takes_the_tag_over(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    old = pull(repository, fake, "main", PullOptions(workers=0))
    new = fake.commit({**TREE, "new": b"n" * 900}, "main", timestamp_s=1_700_000_000)
    result = pull_part(repository, fake, "/new")
    assert result.commit == new
    assert result.files_fetched == 1
    assert (find_tag(repository, "main"), find_part_tag(repository, "main")) == (None, new)
    fake.refs["main"] = old.commit
    with pytest.raises(DowngradeError):
        pull_part(repository, fake, "/top")


@pytest.mark.parametrize("path", ["/nope", "/locale/nope", "/top/below", "/a/deep/nope"])
def test_a_path_that_is_not_there(repository: Repository, fake: FakeOstreeRepository, path: str) -> None:
    with pytest.raises(
        SubpathNotFoundError, match=r"^commit [0-9a-f]{64}: '(nope|top)': expected "
    ) as caught:
        pull_part(repository, fake, path)
    assert caught.value.exit_code is ExitCode.NOT_FOUND
    assert not list_parts(repository)


@pytest.mark.parametrize("path", ["", "/a//b", "../a", "a/./b", "x/" * (MAX_COMPONENTS + 1)])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(InvalidSubpathError):
        parse_subpaths([path])


def test_paths_that_mean_everything() -> None:
    assert parse_subpaths([]) is None
    assert parse_subpaths(["/"]) is None
    assert parse_subpaths(["/a", "/", "/b/c"]) is None
    assert parse_subpaths(["a/b", "a"]) == SubpathFilter({b"a": SubpathFilter(None)})


def run(repository: Repository, *arguments: str, status: int = 0) -> tuple[str, str]:
    outcome = CliRunner().invoke(cfsctl, ["--repo", repository.path, *arguments], standalone_mode=False)
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert (outcome.return_value or 0) == status, outcome.output
    return outcome.stdout, outcome.stderr


def test_every_command_says_that_a_commit_is_partial(
    repository: Repository, fake: FakeOstreeRepository, tmp_path: Path
) -> None:
    repository.close()  # The command `gc` waits for every other user.
    fake.write(tmp_path / "source")
    commit = fake.refs["main"].hex()
    out, _ = run(
        repository, "ostree", "pull-local", str(tmp_path / "source"), "main", "--subpath=/top", "--subpath=/a"
    )
    assert out.endswith("partial only some paths of the commit are here\n")
    said = f"cfsctl: commit {commit} is partial: only some of its paths were pulled\n"
    dump, told = run(repository, "ostree", "dump", "main")
    assert told == said
    assert "/top " in dump
    assert "/locale" not in dump
    assert run(repository, "ostree", "inspect", "main")[1] == said
    image, told = run(repository, "ostree", "compute-id", "main")
    assert told == said
    assert (tmp_path / "store" / "images" / image.strip()).exists()
    for command in (["fsck"], ["gc"]):
        assert f"partial commit: {commit} (main)\n" in run(repository, *command)[0]
        assert json.loads(run(repository, *command, "--json")[0])["partial_commits"] == [
            {"name": "main", "commit": commit}
        ]
    assert "main (partial)" in run(repository, "ostree", "images")[0]
    for refused in (["export", "main", str(tmp_path / "source")], ["tag", "main", "other"], ["log", "main"]):
        with pytest.raises(PartialCommitError, match=f"commit {commit} is partial"):
            run(repository, "ostree", *refused)
    run(repository, "ostree", "untag", "main")
    assert run(repository, "gc")[0].startswith("Objects: 6 removed")
    assert "partial" not in run(repository, "fsck")[0]


@pytest.mark.compat
@pytest.mark.parametrize("paths", [["/locale/de"], ["/a", "/locale/en"], ["/top", "/b/deep"]])
def test_the_client_fetches_the_same_objects(
    tmp_path: Path, repository: Repository, fake: FakeOstreeRepository, paths: list[str]
) -> None:
    require_ostree()
    source, theirs = tmp_path / "source", tmp_path / "theirs"
    fake.write(source)
    run_ostree(theirs, "init", "--mode=archive")
    run_ostree(theirs, "remote", "add", "--no-gpg-verify", "origin", f"file://{source}")
    run_ostree(theirs, "pull", "origin", "main", *(f"--subpath={path}" for path in paths if path != "/top"))
    result = pull_part(repository, fake, *(path for path in paths if path != "/top"))
    stream = find_partial(repository, result.commit)
    assert stream is not None
    names = {
        path.parent.name + path.stem for path in theirs.glob("objects/*/*") if path.suffix != ".commitmeta"
    }
    assert names == {checksum.hex() for checksum in stream}


def test_several_refs_share_what_they_have_in_common(
    tmp_path: Path, repository: Repository, fake: FakeOstreeRepository
) -> None:
    fake.commit({**TREE, "more": b"m" * 800}, "other", timestamp_s=5)
    fake.write(tmp_path / "source")
    out, _ = run(repository, "ostree", "pull-local", str(tmp_path / "source"), "main", "other")
    blocks = out.split("\n\n")
    assert [block.splitlines()[0].split()[1] for block in blocks] == [
        fake.refs[ref].hex() for ref in ("main", "other")
    ]
    assert blocks[1].splitlines()[-1] == "objects 2 metadata + 1 files fetched"
    export_target = tmp_path / "out"
    FakeOstreeRepository().write(export_target)
    export_commit(repository, fake.refs["other"], str(export_target), "other")


def test_a_mirror_has_every_ref(tmp_path: Path, repository: Repository, fake: FakeOstreeRepository) -> None:
    fake.commit({"x": b"y"}, "deep/er/ref")
    fake.write(tmp_path / "source")
    run(repository, "ostree", "pull-local", str(tmp_path / "source"), "--mirror")
    assert {ref: find_tag(repository, ref) for ref in fake.refs} == fake.refs


@pytest.mark.parametrize("arguments", [[], ["main", "--mirror"]])
def test_refs_or_a_mirror(repository: Repository, arguments: list[str], tmp_path: Path) -> None:
    FakeOstreeRepository().write(tmp_path / "source")
    outcome = CliRunner().invoke(
        cfsctl, ["--repo", repository.path, "ostree", "pull-local", str(tmp_path / "source"), *arguments]
    )
    assert outcome.exit_code == ExitCode.USAGE


def complete_beside(repository: Repository, fake: FakeOstreeRepository, ref: str = "main") -> None:
    """Pull a commit whole as the original does, which leaves the record of the part as it is."""
    part = find_part_tag(repository, "main")
    assert part is not None
    record = repository.streams.find(partial_name(part))
    assert record is not None
    pull(repository, fake, ref, PullOptions(workers=0))
    repository.streams.link(partial_name(part), record, PARTS.ref("main"))


@pytest.mark.parametrize("newer", [False, True])
def test_part_that_another_program_completed(
    repository: Repository, fake: FakeOstreeRepository, *, newer: bool
) -> None:
    """The same commit, or another one under the same tag."""
    pull_part(repository, fake, "/a")
    if newer:
        fake.commit({"new": b"n" * 300}, "main", timestamp_s=1_700_000_000)
    complete_beside(repository, fake)
    assert list_parts(repository) == []
    assert not open_source(repository, "main").is_partial
    collect_garbage(repository, prepare=drop_superseded)
    assert PARTS.list(repository.streams) == []
    assert len(repository.streams.list_streams()) == 1
    assert check_repository(repository, deep=True).findings == []


def test_pull_of_what_is_here_forgets_the_part(repository: Repository, fake: FakeOstreeRepository) -> None:
    pull_part(repository, fake, "/a")
    complete_beside(repository, fake)
    pull(repository, fake, "main", PullOptions(workers=0))
    assert PARTS.list(repository.streams) == []


def test_untag_removes_both(repository: Repository, fake: FakeOstreeRepository) -> None:
    pull_part(repository, fake, "/a")
    complete_beside(repository, fake)
    untag(repository, "main")
    assert repository.streams.list_refs() == []
    with pytest.raises(CommitNotFoundError):
        untag(repository, "main")


def test_tag_takes_the_place_of_a_part(repository: Repository, fake: FakeOstreeRepository) -> None:
    whole = fake.commit({"other": b"o" * 300}, "other")
    pull(repository, fake, "other", PullOptions(workers=0))
    pull_part(repository, fake, "/a")
    tag_commit(repository, "other", "main")
    assert PARTS.list(repository.streams) == []
    assert find_tag(repository, "main") == whole


def test_part_that_is_all_there_is_stays(repository: Repository, fake: FakeOstreeRepository) -> None:
    pull_part(repository, fake, "/a")
    collect_garbage(repository, prepare=drop_superseded)
    assert present(repository) >= ALL_OF_A
    untag(repository, "main")
    assert repository.streams.list_refs() == []
