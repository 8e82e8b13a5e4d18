"""Tables that lie about a commit are believed nowhere: in a copy, a repair, a pull, a journal, a check."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from cfsctl.cli.app import main
from cfsctl.errors import CfsError, ExitCode, ObjectMissingError
from cfsctl.kinds.checks import content_checks
from cfsctl.kinds.repair import ComposefsRepairSource
from cfsctl.ostree.exchange.copy import copy_commit, copy_part
from cfsctl.ostree.exchange.repair import CommitImageSource
from cfsctl.ostree.objects import format_zlib_header, parse_zlib_file_header
from cfsctl.ostree.pull.journal import PullJournal
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.store.commit_proof import UntrueCommitError, check_stored, is_proven
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.ostree.store.partial_commits import find_partial, open_source
from cfsctl.ostree.store.partial_tags import partial_name
from cfsctl.ostree.store.publish import store_images
from cfsctl.ostree.store.refs import find_tag, open_commit, stream_name
from cfsctl.ostree.store.stream_refs import IMAGE_REF, RECORD_REF
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.ostree.trust.verdict import SignatureError
from cfsctl.ostree.trust.verification_record import read_record
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.objects.verified import VERIFIED_NAME
from cfsctl.repository.repair.repair import repair_repository
from cfsctl.splitstream.format import ContentType
from cfsctl.tree.model import Directory, ExternalFile
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import make_image, make_repository, write_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.repository import Repository
    from tests.fakes.ostree_repository import Tree

    Objects = dict[Checksum, tuple[bytes, ObjectID | None]]

GOOD: Final = b"GOOD" * 300
EVIL: Final = b"EVIL" * 300
TREE: Final[dict[str, Tree]] = {
    "usr": {"tool": GOOD, "other": b"other" * 200, "small": b"small", "link": "tool"}
}


@pytest.fixture
def remote() -> FakeOstreeRepository:
    fake = FakeOstreeRepository()
    fake.commit(TREE, "main")
    return fake


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "here") as repository:
        yield repository


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "there") as repository:
        yield repository


def find_tool(repository: Repository, stream: CommitStream) -> Checksum:
    """Return the checksum of the file whose content is replaced."""
    tool = repository.objects.ensure_bytes(GOOD).object_id
    return next(name for name, (_, object_id) in stream.as_dict().items() if object_id == tool)


# Lies: each takes the objects of a commit and gives them another meaning.


def give_other_content(repository: Repository, objects: Objects, tool: Checksum) -> None:
    objects[tool] = (objects[tool][0], repository.objects.ensure_bytes(EVIL).object_id)


def give_set_uid(_repository: Repository, objects: Objects, tool: Checksum) -> None:
    header = parse_zlib_file_header(objects[tool][0])
    data = format_zlib_header(header.size_bytes, 0, 0, stat.S_IFREG | 0o4755, b"", ())
    objects[tool] = (data, objects[tool][1])


def give_both(repository: Repository, objects: Objects, tool: Checksum) -> None:
    give_other_content(repository, objects, tool)
    give_set_uid(repository, objects, tool)


LIES: Final = {"content": give_other_content, "set-uid": give_set_uid, "both": give_both}


def tell(repository: Repository, checksum: Checksum, lie: Callable[..., None]) -> ObjectID:
    """Write a stream of a commit that lies, with an image that fits; return it without giving it the name."""
    stream = open_commit(repository, checksum)
    objects = stream.as_dict()
    lie(repository, objects, find_tool(repository, stream))
    image = repository.images.write(make_image([repository.objects.ensure_bytes(EVIL).object_id])).object_id
    return write_commit_stream(
        repository.objects, repository.algorithm, checksum, objects, {IMAGE_REF: image}
    )


def poison(repository: Repository, checksum: Checksum, lie: Callable[..., None]) -> None:
    repository.streams.link(stream_name(checksum), tell(repository, checksum, lie))


def tool_of(repository: Repository, source: str = "main") -> tuple[int, bytes]:
    """Return permissions and content of the file, as the commit's table has it."""
    usr = commit_to_filesystem(open_source(repository, source)).root.entries[b"usr"]
    assert isinstance(usr, Directory)
    tool = usr.entries[b"tool"]
    assert isinstance(tool, ExternalFile)
    return tool.mode, repository.objects.read(tool.object_id)


def run(repository: Repository, *arguments: str) -> int:
    """Run a command in this process; return its exit code."""
    try:
        return main(["--repo", repository.path, *arguments])
    except CfsError as error:
        return error.exit_code


def check_good(repository: Repository) -> None:
    assert tool_of(repository) == (0o644, GOOD)
    findings = check_repository(repository, deep=True, content_checks=content_checks(repository)).findings
    assert findings == []
    stream = open_source(repository, "main")
    assert stream.image is not None
    assert repository.objects.ensure_bytes(GOOD).object_id in repository.images.objects(stream.image.hex())


@pytest.mark.parametrize("is_here", [True, False])
def test_a_copy_names_nothing_but_what_was_asked_for(
    remote: FakeOstreeRepository, here: Repository, there: Repository, *, is_here: bool
) -> None:
    """The tag's stream leads to another stream, which has the name of a commit that was pulled before."""
    commit = pull(there, remote, "main", PullOptions(workers=0)).commit
    before = pull(here, remote, "main", PullOptions(workers=0)).stream_id if is_here else None
    lying = tell(there, commit, give_both)
    there.streams.link(stream_name(commit), lying)
    innocent = FakeOstreeRepository()
    innocent.commit({"hello": b"hello" * 100}, "foo")
    pulled = pull(there, innocent, "foo", PullOptions(workers=0))
    refs = {IMAGE_REF: pulled.image_id, "helper": lying}
    objects = open_commit(there, pulled.commit).as_dict()
    there.streams.link(
        stream_name(pulled.commit),
        write_commit_stream(there.objects, there.algorithm, pulled.commit, objects, refs),
    )
    copy_commit(there, here, pulled.commit, "foo")
    assert here.streams.find(stream_name(commit)) == before
    assert find_tag(here, "foo") == pulled.commit
    pull(here, remote, "main", PullOptions(workers=0))
    check_good(here)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("is_here", [True, False])
def test_a_lie_is_not_copied(
    remote: FakeOstreeRepository,
    here: Repository,
    there: Repository,
    lie: Callable[..., None],
    *,
    is_here: bool,
) -> None:
    commit = pull(there, remote, "main", PullOptions(workers=0)).commit
    if is_here:
        pull(here, remote, "main", PullOptions(workers=0))
    poison(there, commit, lie)
    if not is_here:
        with pytest.raises(UntrueCommitError, match="its header and content have the checksum"):
            copy_commit(there, here, commit, "main")
        assert here.streams.list_streams() == []
        assert here.images.links.list_refs() == []
        return
    copy_commit(there, here, commit, "main")  # which is there, and whole
    check_good(here)


def test_an_image_that_is_another_one_is_made_anew(
    remote: FakeOstreeRepository, here: Repository, there: Repository
) -> None:
    commit = pull(there, remote, "main", PullOptions(workers=0)).commit
    poison(there, commit, lambda *_: None)
    copied = copy_commit(there, here, commit, "main")
    assert copied.image_id == pull(here, remote, "main", PullOptions(workers=0)).image_id
    check_good(here)


def test_a_record_of_signatures_is_not_copied(
    remote: FakeOstreeRepository, here: Repository, there: Repository
) -> None:
    commit = pull(there, remote, "main", PullOptions(workers=0)).commit
    stream = open_commit(there, commit)
    record = there.objects.ensure_bytes(b'[{"engine":"gpg","key":"FE","user":"Vendor"}]').object_id
    refs = {IMAGE_REF: stream.image, RECORD_REF: record}
    there.streams.link(
        stream_name(commit),
        write_commit_stream(there.objects, there.algorithm, commit, stream.as_dict(), refs),  # type: ignore[arg-type]  # it has an image
    )
    assert read_record(there, open_commit(there, commit)) != []
    copy_commit(there, here, commit, "main")
    assert read_record(here, open_commit(here, commit)) == []
    check_good(here)


RECORDS: Final = {
    "deep": b"[" * 100_000,
    "object": b"{}",
    "null": b"null",
    "number": b"5",
    "list of lists": b"[[]]",
    "list of numbers": b"[5]",
    "other keys": b'[{"engine":"gpg","key":"x","z":1}]',
    "no key": b'[{"engine":"gpg"}]',
    "other types": b'[{"engine":{},"key":[],"user":{"a":1},"time_s":"x"}]',
    "time that is true": b'[{"engine":"gpg","key":"x","time_s":true}]',
    "large number": b'[{"engine":"gpg","key":"x","time_s":' + b"9" * 5000 + b"}]",
    "half a character": b'[{"engine":"gpg","key":"x","user":"\\ud800"}]',
    "too large": b"[" + b'{"engine":"gpg","key":"x"},' * 40_000 + b"{}]",
    "binary": b"\xff\xfe",
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_that_is_none_is_refused(
    remote: FakeOstreeRepository, here: Repository, record: bytes
) -> None:
    stream = open_commit(here, pull(here, remote, "main", PullOptions(workers=0)).commit)
    stream.record = here.objects.ensure_bytes(record).object_id
    with pytest.raises(SignatureError, match="record of signatures of"):
        read_record(here, stream)


# Parts


def part_of(repository: Repository, remote: FakeOstreeRepository) -> Checksum:
    return pull(repository, remote, "main", PullOptions(workers=0, subpaths=["/usr/tool"])).commit


def poison_part(repository: Repository, commit: Checksum, lie: Callable[..., None]) -> None:
    stream = find_partial(repository, commit)
    assert stream is not None
    objects = stream.as_dict()
    lie(repository, objects, find_tool(repository, stream))
    image = repository.images.write(make_image([repository.objects.ensure_bytes(EVIL).object_id])).object_id
    stream_id = write_commit_stream(
        repository.objects,
        repository.algorithm,
        commit,
        objects,
        {IMAGE_REF: image},
        ContentType.OSTREE_PARTIAL,
    )
    repository.streams.link(partial_name(commit), stream_id)


def test_a_part_is_copied(remote: FakeOstreeRepository, here: Repository, there: Repository) -> None:
    commit = part_of(there, remote)
    copied = copy_part(there, here, commit, "main")
    assert tool_of(here) == (0o644, GOOD)
    stream = open_source(here, "main")
    assert stream.is_partial
    assert stream.image == copied.image_id
    assert is_proven(here, stream)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_part_that_lies_is_not_copied(
    remote: FakeOstreeRepository, here: Repository, there: Repository, lie: Callable[..., None]
) -> None:
    commit = part_of(there, remote)
    poison_part(there, commit, lie)
    with pytest.raises(UntrueCommitError):
        copy_part(there, here, commit, "main")
    assert here.streams.list_streams() == []


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("subpaths", [(), ("/usr/small",)])
def test_a_part_that_lies_is_not_built_on(
    remote: FakeOstreeRepository, here: Repository, lie: Callable[..., None], subpaths: tuple[str, ...]
) -> None:
    commit = part_of(here, remote)
    poison_part(here, commit, lie)
    pull(here, remote, "main", PullOptions(workers=0, subpaths=subpaths))
    stream = open_source(here, "main")
    usr = commit_to_filesystem(stream).root.entries[b"usr"]
    assert isinstance(usr, Directory)
    if not subpaths:
        check_good(here)
    else:
        assert usr.entries.keys() == {b"small"}
    assert stream.image is not None
    assert here.objects.ensure_bytes(EVIL).object_id not in here.images.objects(stream.image.hex())


# What is in the repository itself


@pytest.mark.parametrize("lie", [*LIES.values(), lambda *_: None], ids=[*LIES, "image"])
def test_no_command_says_that_a_lie_is_well(
    remote: FakeOstreeRepository, here: Repository, lie: Callable[..., None]
) -> None:
    commit = pull(here, remote, "main", PullOptions(workers=0)).commit
    assert run(here, "fsck") == 0
    check_stored(here, open_commit(here, commit))
    poison(here, commit, lie)
    assert run(here, "fsck") == ExitCode.CORRUPTION
    with pytest.raises(UntrueCommitError):
        check_stored(here, open_commit(here, commit))
    messages: list[object] = []
    pull(here, remote, "main", PullOptions(workers=0), reporter=messages.append)
    assert any("stored incorrectly" in str(message) for message in messages)
    check_good(here)
    check_stored(here, open_commit(here, commit))
    assert run(here, "fsck") == 0


@pytest.mark.alone
def test_a_check_proves_commits_of_many_files_in_processes_of_its_own(
    remote: FakeOstreeRepository, here: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfsctl.ostree.store.commit_proof._WORTH_WORKERS", 1)
    monkeypatch.setattr("cfsctl.repository.check.fsck._WORTH_WORKERS", 1)
    commit = pull(here, remote, "main", PullOptions(workers=0)).commit
    (Path(here.path) / VERIFIED_NAME).unlink()
    assert run(here, "fsck") == 0
    poison(here, commit, next(iter(LIES.values())))
    assert run(here, "fsck") == ExitCode.CORRUPTION


def test_another_stream_under_the_name_of_a_commit_is_found(here: Repository) -> None:
    for prefix in ("ostree-commit-", "ostree-partial-"):
        write_stream(here, prefix + "00" * 32, [])
    checks = content_checks(here, is_deep=False)
    findings = check_repository(here, content_checks=checks).findings
    assert len([finding for finding in findings if "expected a commit" in finding]) == 2


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_the_next_version_takes_nothing_false_from_the_last_one(
    remote: FakeOstreeRepository, here: Repository, lie: Callable[..., None]
) -> None:
    commit = pull(here, remote, "main", PullOptions(workers=0)).commit
    poison(here, commit, lie)
    remote.commit({**TREE, "new": b"new" * 100}, "main", parent=commit)
    pull(here, remote, "main", PullOptions(workers=0))
    check_good_tool = tool_of(here)
    assert check_good_tool == (0o644, GOOD)
    assert is_proven(here, open_source(here, "main"))


def test_what_a_pull_that_failed_took_from_a_lie_is_not_kept_as_proven(
    remote: FakeOstreeRepository, here: Repository
) -> None:
    first = pull(here, remote, "main", PullOptions(workers=0)).commit
    tool = find_tool(here, open_commit(here, first))
    poison(here, first, give_both)
    second = remote.commit({**TREE, "new": b"new" * 100}, "main", parent=first)
    lost = remote.add_file(b"new" * 100)
    content = next(key for key in remote.objects if key[0] == lost)
    data = remote.objects.pop(content)
    with pytest.raises(ObjectMissingError):
        pull(here, remote, "main", PullOptions(workers=0))
    part = find_partial(here, second)
    assert part is not None
    assert tool not in part.as_dict()
    remote.objects[content] = data
    pull(here, remote, "main", PullOptions(workers=0))
    assert tool_of(here) == (0o644, GOOD)


def test_what_was_proven_is_remembered(remote: FakeOstreeRepository, here: Repository) -> None:
    """A commit that another program has stored is read once, the first time that a pull relies on it."""
    commit = pull(here, remote, "main", PullOptions(workers=0)).commit
    assert is_proven(here, open_commit(here, commit))
    (Path(here.path) / VERIFIED_NAME).unlink()
    with make_again(here) as again:
        assert not is_proven(again, open_commit(again, commit))
        assert pull(again, remote, "main", PullOptions(workers=0)).files_fetched == 0
    with make_again(here) as again:
        assert is_proven(again, open_commit(again, commit))


@pytest.mark.parametrize("is_true", [True, False])
def test_what_a_check_has_proven_is_remembered(
    remote: FakeOstreeRepository, here: Repository, *, is_true: bool
) -> None:
    commit = pull(here, remote, "main", PullOptions(workers=0)).commit
    if not is_true:
        poison(here, commit, next(iter(LIES.values())))
    (Path(here.path) / VERIFIED_NAME).unlink(missing_ok=True)
    assert run(here, "fsck") == (ExitCode.OK if is_true else ExitCode.CORRUPTION)
    with make_again(here) as again:
        assert is_proven(again, open_commit(again, commit)) is is_true


def make_again(repository: Repository) -> Repository:
    return type(repository).open(repository.path)


def test_what_was_proven_here_says_nothing_elsewhere(
    remote: FakeOstreeRepository, here: Repository, tmp_path: Path
) -> None:
    """The list of a repository that was brought along with it, by its attacker."""
    import shutil

    commit = pull(here, remote, "main", PullOptions(workers=0)).commit
    shutil.copytree(here.path, tmp_path / "copy", symlinks=True)
    with type(here).open(str(tmp_path / "copy")) as copied:
        assert not is_proven(copied, open_commit(copied, commit))


# Journals


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_journal_where_others_can_write_is_proven(
    remote: FakeOstreeRepository, here: Repository, there: Repository, mode: int
) -> None:
    """They can give its name to an object of the store, which belongs to this user."""
    commit = pull(there, remote, "main", PullOptions(workers=0)).commit
    stream = open_commit(there, commit)
    objects = stream.as_dict()
    tool = find_tool(there, stream)
    here.objects.ensure_bytes(EVIL)
    give_both(here, objects, tool)
    journal = PullJournal(here, commit)
    journal.extend([(name, *objects[name]) for name in (commit, tool)])
    journal.close()
    os.chmod(here.path, mode)
    pull(here, remote, "main", PullOptions(workers=0))
    check_good(here)


# Repairs


def test_a_repair_restores_nothing_false(
    remote: FakeOstreeRepository, here: Repository, there: Repository
) -> None:
    commit = pull(here, remote, "main", PullOptions(workers=0)).commit
    pull(there, remote, "main", PullOptions(workers=0))
    poison(there, commit, give_both)
    (Path(here.path) / "streams" / stream_name(commit)).unlink()
    source = ComposefsRepairSource(there.path, here.objects)
    report = repair_repository(here, [source], workers=0, content_checks=content_checks(here))
    source.close()
    assert report.streams == {}
    assert not report.after.is_ok
    assert here.streams.find(stream_name(commit)) is None
    pull(here, remote, "main", PullOptions(workers=0))
    check_good(here)


def test_a_repair_brings_a_commit_back(
    remote: FakeOstreeRepository, here: Repository, there: Repository
) -> None:
    commit = pull(here, remote, "main", PullOptions(workers=0)).commit
    pull(there, remote, "main", PullOptions(workers=0))
    poison(here, commit, give_both)
    source = ComposefsRepairSource(there.path, here.objects)
    report = repair_repository(here, [source], workers=0, content_checks=content_checks(here))
    source.close()
    assert report.after.is_ok
    assert list(report.streams) == [stream_name(commit)]
    check_good(here)


def test_a_repair_makes_a_false_image_anew_without_any_source(
    remote: FakeOstreeRepository, here: Repository
) -> None:
    pulled = pull(here, remote, "main", PullOptions(workers=0))
    poison(here, pulled.commit, lambda *_: None)
    report = repair_repository(
        here, [CommitImageSource(here)], workers=0, content_checks=content_checks(here)
    )
    assert report.after.is_ok
    assert open_commit(here, pulled.commit).image == pulled.image_id
    check_good(here)


# Commands


def test_a_commit_has_no_other_way_in(
    remote: FakeOstreeRepository, here: Repository, there: Repository
) -> None:
    """By its content identifier, by a ref that is no tag, under another tag: it is proven by every name."""
    commit = pull(there, remote, "main", PullOptions(workers=0)).commit
    poison(there, commit, give_both)
    there.streams.set_ref("elsewhere/x", stream_name(commit))
    names = (commit.hex(), commit.hex()[:10], stream_name(commit), "refs/ostree/main", "elsewhere/x", "main")
    for name in names:
        for more in ((), ("--as", "new")):
            assert run(there, "copy", *more, name, here.path) == ExitCode.CORRUPTION
            assert here.streams.list_streams() == []


def test_store_images_is_what_a_pull_makes(remote: FakeOstreeRepository, here: Repository) -> None:
    pulled = pull(here, remote, "main", PullOptions(workers=0))
    images = store_images(here, open_commit(here, pulled.commit))
    assert images[here.erofs_versions[0]] == pulled.image_id
