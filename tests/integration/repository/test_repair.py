"""A repair restores what a source has, keeps what it replaces, and changes nothing that is sound."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.app import main
from cfsctl.digest import Algorithm, ObjectID, object_path, qualified
from cfsctl.errors import ExitCode, IntegrityError
from cfsctl.kinds.checks import content_checks
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.store.publish import name_commit, store_images
from cfsctl.ostree.store.refs import open_commit
from cfsctl.ostree.trust.remotes import RemoteNotConfiguredError
from cfsctl.repository import LockedError, Repository
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.objects.quarantine import QUARANTINE
from cfsctl.repository.repair.repair import RepairReport, repair_repository
from cfsctl.repository.repair.sources import RepairSource, RepositorySource, TreeSource
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.nginx import run_nginx
from tests.support.repositories import flip_bit, make_image, make_repository, object_file, view, write_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LARGE = b"large " * 20_000


class Store:
    """A repository with one of everything, and a copy of it from before anything was damaged."""

    def __init__(self, tmp_path: Path, algorithm: Algorithm) -> None:
        self.path = tmp_path / "r"
        self.copy = tmp_path / "copy"
        self.files = tmp_path / "files"
        self.repository = make_repository(self.path, algorithm)
        self.file = self.repository.objects.ensure_bytes(LARGE).object_id
        self.image = self.repository.images.write(make_image([self.file]), "a").object_id
        self.inner = write_stream(self.repository, "inner", [self.file])
        self.stream = write_stream(
            self.repository, "s", [self.file], {"composefs.image": self.image, "inner": self.inner}, "r"
        )
        shutil.copytree(self.path, self.copy, symlinks=True)
        self.before = view(self.path)
        (self.files / "a" / "b").mkdir(parents=True)
        (self.files / "a" / "b" / "large").write_bytes(LARGE)
        (self.files / "a" / "other").write_bytes(b"other")
        (self.files / "loop").symlink_to(".")
        os.mkfifo(self.files / "fifo")

    def path_of(self, object_id: ObjectID) -> Path:
        return object_file(self.repository, object_id)

    def repair(self, *sources: RepairSource) -> RepairReport:
        try:
            return repair_repository(self.repository, sources, workers=0)
        finally:
            for source in sources:
                source.close()

    def source(self, kind: str) -> RepairSource:
        if kind == "repository":
            return RepositorySource(str(self.copy), self.repository.objects)
        return TreeSource(str(self.files))

    def now(self) -> dict[str, str]:
        return {name: text for name, text in view(self.path).items() if not name.startswith(QUARANTINE)}


@pytest.fixture(params=list(Algorithm), ids=str)
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    store = Store(tmp_path, request.param)
    yield store
    store.repository.close()


def remove_all(store: Store) -> None:
    for object_id in (store.file, store.image, store.inner, store.stream):
        store.path_of(object_id).unlink()


def put(make: Callable[[Path], object], path: Path) -> None:
    path.unlink()
    make(path)


# What is done, and the objects that a repair restores.
DAMAGE: dict[str, tuple[Callable[[Store], object], list[str]]] = {
    "flipped byte": (lambda s: flip_bit(s.path_of(s.file), 70_000), ["file"]),
    "truncated": (lambda s: os.truncate(s.path_of(s.file), 4096), ["file"]),
    "zero length": (lambda s: os.truncate(s.path_of(s.file), 0), ["file"]),
    "missing": (lambda s: s.path_of(s.file).unlink(), ["file"]),
    "directory": (lambda s: put(lambda path: path.mkdir(), s.path_of(s.file)), ["file"]),
    "link": (lambda s: put(lambda path: path.symlink_to("/etc/passwd"), s.path_of(s.file)), ["file"]),
    "fifo": (lambda s: put(os.mkfifo, s.path_of(s.file)), ["file"]),
    "flipped byte in an image": (lambda s: flip_bit(s.path_of(s.image), 1100), ["image"]),
    "missing image": (lambda s: s.path_of(s.image).unlink(), ["image"]),
    "flipped byte in a stream": (lambda s: flip_bit(s.path_of(s.stream), 50), ["stream"]),
    "flipped byte in a section": (
        lambda s: flip_bit(s.path_of(s.stream), s.path_of(s.stream).stat().st_size - 3),
        ["stream"],
    ),
    "missing stream": (lambda s: s.path_of(s.stream).unlink(), ["stream"]),
    "everything": (remove_all, ["file", "image", "inner", "stream"]),
    "extra name": (lambda s: (s.path / "objects" / s.file.hex()[:2] / "extra").touch(), []),
    "image under another name": (
        lambda s: relink(s, f"images/{s.image.hex()}", f"../objects/{object_path(s.file)}"),
        [],
    ),
    "image entry that is gone": (lambda s: (s.path / "images" / s.image.hex()).unlink(), []),
    "absolute entry": (lambda s: relink(s, "streams/s", str(s.path_of(s.stream))), []),
    "ref by a detour": (lambda s: relink(s, "images/refs/a", f"../../images/{s.image.hex()}"), []),
    "ref without a climb": (lambda s: relink(s, "streams/refs/r", "s"), []),
}


def relink(store: Store, path: str, text: str) -> None:
    (store.path / path).unlink()
    (store.path / path).symlink_to(text)


@pytest.mark.parametrize("case", DAMAGE)
def test_repair_from_a_repository(store: Store, case: str) -> None:
    spoil, names = DAMAGE[case]
    spoil(store)
    report = store.repair(store.source("repository"))
    assert not report.before.is_ok
    assert report.after.findings == []
    assert set(report.restored) == {getattr(store, name) for name in names}
    assert store.now() == store.before
    for object_id in (store.file, store.image, store.inner, store.stream):
        assert store.path_of(object_id).read_bytes() == object_file_in(store.copy, object_id).read_bytes()
    assert report.lost == []
    assert store.repair(store.source("repository")).restored == {}


def object_file_in(path: Path, object_id: ObjectID) -> Path:
    return path / "objects" / object_path(object_id)


@pytest.mark.parametrize("case", [case for case, (_, names) in DAMAGE.items() if names == ["file"]])
def test_repair_from_a_directory(store: Store, case: str) -> None:
    DAMAGE[case][0](store)
    report = store.repair(store.source("directory"))
    assert report.restored == {store.file: str(store.files)}
    assert report.after.findings == []
    assert store.now() == store.before


def test_what_is_damaged_is_kept(store: Store) -> None:
    flip_bit(store.path_of(store.file), 70_000)
    bad = store.path_of(store.file).read_bytes()
    report = store.repair(store.source("directory"))
    assert report.quarantined == [object_path(store.file)]
    quarantine = store.path / QUARANTINE
    assert stat.S_IMODE(quarantine.stat().st_mode) == 0o700
    assert [file.read_bytes() for file in quarantine.iterdir()] == [bad]
    flip_bit(store.path_of(store.file), 70_000)
    assert store.repair(store.source("directory")).after.is_ok
    digits = store.file.hex()
    assert sorted(os.listdir(quarantine)) == [digits, f"{digits}.1"]
    assert collect_garbage(store.repository).problems == ()
    assert check_repository(store.repository, deep=True).is_ok
    assert len(os.listdir(quarantine)) == 2


def test_without_a_source_the_damaged_object_goes_and_is_reported(store: Store) -> None:
    """So that the next pull fetches it, and nobody reads wrong content meanwhile."""
    flip_bit(store.path_of(store.file), 70_000)
    report = store.repair()
    assert not store.path_of(store.file).exists()
    assert (report.restored, report.lost) == ({}, [store.file])
    assert {finding.split(":")[1] for finding in report.after.findings} == {
        " missing-object-ref",
        " image-missing-object",
    }
    assert store.repair(store.source("directory")).after.is_ok


def test_wrong_content_of_a_source_is_not_taken(store: Store) -> None:
    store.path_of(store.file).unlink()
    flip_bit(object_file_in(store.copy, store.file), 5)
    (store.files / "a" / "b" / "large").write_bytes(LARGE[:-1])
    report = store.repair(store.source("repository"), store.source("directory"))
    assert report.lost == [store.file]
    assert not store.path_of(store.file).exists()


def test_sound_content_under_a_wrong_name_is_its_own_source(store: Store) -> None:
    path = store.path_of(store.file)
    path.rename(path.with_name("moved"))
    report = store.repair()
    assert report.restored == {store.file: QUARANTINE}
    assert report.after.findings == []


def test_a_repository_that_is_sound_is_left_alone(store: Store) -> None:
    assert store.repair(store.source("repository")).lines()[-1] == "status: ok"
    assert view(store.path) == store.before


def test_list_of_verified_objects_is_not_believed(store: Store) -> None:
    """It may say of the damaged object that it was sound in this very state."""
    now = store.repository.verified._now_ns
    store.repository.verified._now_ns = lambda: now() + 10**10
    flip_bit(store.path_of(store.file), 70_000)
    store.repository.save_marks([store.file])
    assert store.repository.objects.is_sound(store.file)
    assert store.repair(store.source("directory")).after.is_ok
    assert store.path_of(store.file).read_bytes() == LARGE


def test_other_hash_as_a_source(store: Store, tmp_path: Path) -> None:
    other = next(algorithm for algorithm in Algorithm if algorithm is not store.repository.algorithm)
    with make_repository(tmp_path / "other", other) as elsewhere:
        elsewhere.objects.ensure_bytes(LARGE)
    store.path_of(store.file).unlink()
    assert run(store, "--repair", "--from", str(tmp_path / "other")) == 0
    assert store.path_of(store.file).read_bytes() == LARGE


# OSTree


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    fake = FakeOstreeRepository()
    fake.commit({"usr": {"large": LARGE, "small": b"small", "mid": b"mid " * 100}}, "main")
    fake.write(tmp_path / "remote")
    return tmp_path / "remote"


def test_repair_from_an_archive_repository(store: Store, remote: Path) -> None:
    commit = pull(store.repository, LocalSource(str(remote)), "main", PullOptions(workers=0)).commit
    victims = open_commit(store.repository, commit).object_refs
    flip_bit(store.path_of(victims[0]), 5)
    store.path_of(victims[1]).unlink()
    assert run(store, "--repair", "--from", str(remote)) == 0
    assert check_repository(store.repository, deep=True).is_ok


def damage(store: Store, remote: Path) -> list[ObjectID]:
    """Pull, damage two contents of the commit, and return their IDs."""
    commit = pull(store.repository, LocalSource(str(remote)), "main", PullOptions(workers=0)).commit
    victims = list(open_commit(store.repository, commit).object_refs)[:2]
    flip_bit(store.path_of(victims[0]), 5)
    store.path_of(victims[1]).unlink()
    return victims


def test_repair_from_a_server(store: Store, remote: Path, tmp_path: Path) -> None:
    """Only what is missing is asked for."""
    victims = damage(store, remote)
    (tmp_path / "nginx").mkdir()
    with run_nginx(remote, tmp_path / "nginx") as nginx:
        assert run(store, "--repair", "--from", nginx.url) == 0
        assert len(nginx.read_requests()) == len(victims)
    assert check_repository(store.repository, deep=True).is_ok


def test_repair_from_a_server_that_lacks_something(store: Store, remote: Path, tmp_path: Path) -> None:
    """What it has is taken, wherever in the order that comes which it lacks, or has in a wrong form."""
    commit = pull(store.repository, LocalSource(str(remote)), "main", PullOptions(workers=0)).commit
    stream = open_commit(store.repository, commit)
    files = {found[1]: file for file in stream if (found := stream.find(file)) and found[1] is not None}
    victims = sorted(files)
    assert len(victims) > 1
    for victim in victims:
        store.path_of(victim).unlink()
    name = files[victims[0]].hex()
    (remote / "objects" / name[:2] / f"{name[2:]}.filez").write_bytes(b"not this")
    (tmp_path / "nginx").mkdir()
    with run_nginx(remote, tmp_path / "nginx") as nginx:
        assert run(store, "--repair", "--from", nginx.url) == ExitCode.CORRUPTION
    assert [store.repository.objects.contains(victim) for victim in victims] == [
        victim != victims[0] for victim in victims
    ]


def test_repair_goes_on_without_a_server(
    store: Store, remote: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(store, remote)
    assert run(store, "--repair", "--from", "http://127.0.0.1:1/x", "--from", str(remote)) == 0
    assert "cfsctl: http://127.0.0.1:1/x/ cannot be used: " in capsys.readouterr().err


def test_content_of_commits_is_checked(store: Store, remote: Path) -> None:
    """A stream that is sound as a stream, and whose table gives a file the content of another."""
    commit = pull(store.repository, LocalSource(str(remote)), "main", PullOptions(workers=0)).commit
    checks = content_checks(store.repository)
    assert check_repository(store.repository, deep=True, content_checks=checks).findings == []
    name = f"ostree-commit-{commit.hex()}"
    swap_contents(store, name, list(open_commit(store.repository, commit).object_refs))
    assert check_repository(store.repository, deep=True).findings == []
    findings = check_repository(store.repository, deep=True, content_checks=checks).findings
    assert len(findings) == 2
    assert all(f"stream-content-invalid: streams/{name}: file object" in finding for finding in findings)
    assert run(store, "--deep") == ExitCode.CORRUPTION


# Streams of commits, and their images


def spoil_stream_object(store: Store, name: str, _refs: list[ObjectID]) -> None:
    stream_id = store.repository.streams.find(name)
    assert stream_id is not None
    flip_bit(store.path_of(stream_id), 100)


def remove_stream_object(store: Store, name: str, _refs: list[ObjectID]) -> None:
    stream_id = store.repository.streams.find(name)
    assert stream_id is not None
    store.path_of(stream_id).unlink()


def remove_entry(store: Store, name: str, _refs: list[ObjectID]) -> None:
    (store.path / "streams" / name).unlink()


def remove_everything(store: Store, name: str, refs: list[ObjectID]) -> None:
    remove_stream_object(store, name, refs)
    for object_id in refs:
        store.path_of(object_id).unlink()


def swap_contents(store: Store, name: str, refs: list[ObjectID]) -> None:
    """Put a stream there that is sound as a stream, and whose table gives a file the content of another."""
    stream_id = store.repository.streams.find(name)
    assert stream_id is not None
    data = bytearray(store.path_of(stream_id).read_bytes())
    one, two = (data.index(bytes(object_id)) for object_id in refs[:2])
    size = len(refs[0])
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]
    store.repository.streams.link(name, store.repository.objects.ensure_bytes(bytes(data)).object_id)


STREAM_DAMAGE = {
    "flipped byte": spoil_stream_object,
    "missing object": remove_stream_object,
    "missing entry": remove_entry,
    "missing with all contents": remove_everything,
    "wrong content under the right name": swap_contents,
}


@pytest.mark.parametrize("damage_stream", STREAM_DAMAGE.values(), ids=STREAM_DAMAGE)
@pytest.mark.parametrize("kind", ["directory", "server", "configured"])
def test_stream_of_a_commit_is_pulled_again(
    store: Store,
    remote: Path,
    tmp_path: Path,
    kind: str,
    damage_stream: Callable[[Store, str, list[ObjectID]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pulled = pull(store.repository, LocalSource(str(remote)), "main", PullOptions(workers=0))
    name = f"ostree-commit-{pulled.commit.hex()}"
    damage_stream(store, name, list(open_commit(store.repository, pulled.commit).object_refs))
    assert run(store, "--deep") == ExitCode.CORRUPTION
    capsys.readouterr()
    (tmp_path / "nginx").mkdir()
    with contextlib.ExitStack() as stack:
        place = [str(remote)]
        if kind != "directory":
            place = [stack.enter_context(run_nginx(remote, tmp_path / "nginx")).url]
        if kind == "configured":
            (tmp_path / "o.conf").write_text(f'[remote "origin"]\nurl={place[0]}\ngpg-verify=false\n')
            place = ["origin", "--remotes", str(tmp_path)]
        assert run(store, "--repair", "--json", "--from", *place) == 0
    document = json.loads(capsys.readouterr().out)
    assert [restored["stream"] for restored in document["streams_restored"]] == [name]
    assert document["lost"] == []
    checks = content_checks(store.repository)
    assert check_repository(store.repository, deep=True, content_checks=checks).findings == []
    assert store.repository.streams.find("ostree/main") == pulled.stream_id


def test_stream_that_no_source_has_stays_lost(
    store: Store, remote: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that answers with 404, one that does not answer, and another repository without the commit."""
    pulled = pull(store.repository, LocalSource(str(remote)), "main", PullOptions(workers=0))
    name = f"ostree-commit-{pulled.commit.hex()}"
    remove_stream_object(store, name, [])
    for place in (remote / "objects").rglob("*.commit"):
        place.unlink()
    (tmp_path / "nginx").mkdir()
    with run_nginx(remote, tmp_path / "nginx") as nginx:
        assert run(store, "--repair", "--from", nginx.url) == ExitCode.CORRUPTION
        said = capsys.readouterr()
        assert f"lost: objects/{object_path(pulled.stream_id)}" in said.out
        assert f"cfsctl: {name} cannot be restored from {nginx.url}/: " in said.err
    assert run(store, "--repair", "--from", "http://127.0.0.1:1/x") == ExitCode.CORRUPTION
    assert run(store, "--repair", "--from", str(store.copy)) == ExitCode.CORRUPTION
    assert run(store, "--repair", "--from", str(store.files)) == ExitCode.CORRUPTION


def test_stream_that_another_repository_has_in_another_form(
    store: Store, remote: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There a record stands beside the commit, so its stream is another object."""
    pulled = pull(store.repository, LocalSource(str(remote)), "main", PullOptions(workers=0))
    name = f"ostree-commit-{pulled.commit.hex()}"
    with make_repository(tmp_path / "other", store.repository.algorithm) as other:
        twin = pull(other, LocalSource(str(remote)), "main", PullOptions(workers=0))
        stream = open_commit(other, twin.commit)
        objects = {checksum: found for checksum in stream if (found := stream.find(checksum))}
        record = other.objects.ensure_bytes(b"record " * 20).object_id
        images = store_images(other, stream)
        name_commit(other, twin.commit, objects, images, record=record)
        assert other.streams.find(name) != pulled.stream_id
        object_file(other, pulled.stream_id).unlink()
    remove_stream_object(store, name, [])
    assert run(store, "--repair", "--from", str(tmp_path / "other")) == 0
    assert f"restored: streams/{name} from {tmp_path / 'other'}\n" in capsys.readouterr().out
    assert check_repository(store.repository, deep=True).findings == []


def test_image_of_a_commit_is_made_again(
    store: Store, remote: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the stream alone, without any source."""
    pulled = pull(store.repository, LocalSource(str(remote)), "main", PullOptions(workers=0))
    before = store.path_of(pulled.image_id).read_bytes()
    flip_bit(store.path_of(pulled.image_id), 1100)
    assert run(store, "--repair") == 0
    path = object_path(pulled.image_id)
    assert f"restored: objects/{path} from the commit that it is of\n" in capsys.readouterr().out
    assert store.path_of(pulled.image_id).read_bytes() == before


def test_remote_that_is_not_configured(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RemoteNotConfiguredError, match="'nowhere' is not configured"):
        run(store, "--repair", "--from", "nowhere", "--remotes", str(tmp_path))


# The command


def run(store: Store, *arguments: str) -> int:
    store.repository.lock.release()
    try:
        return main(["--repo", str(store.path), "fsck", *arguments])
    except IntegrityError as error:
        return error.exit_code


def test_command(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = object_path(store.file)
    store.path_of(store.file).unlink()
    (store.path / "objects" / path[:2] / "extra").touch()
    assert run(store, "--repair") == ExitCode.CORRUPTION
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"quarantined: objects/{path[:2]}/extra",
        f"lost: objects/{path}",
    ]
    assert run(store, "--repair", "--json", "--from", str(store.files)) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert document["errors"] == []
    assert len(document["errors_before"]) == 3
    assert document["restored"] == [{"object": qualified(store.file), "source": str(store.files)}]
    store.path_of(store.file).unlink()
    assert run(store, "--repair", "--json") == ExitCode.CORRUPTION
    assert run(store, "--repair", "--from", str(store.copy)) == 0
    assert f"restored: objects/{path} from {store.copy}\n" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--from", "x"], ["--repair", "--metadata-only"]])
def test_usage(store: Store, arguments: list[str]) -> None:
    assert run(store, *arguments) == ExitCode.USAGE


def test_source_that_is_not_there(store: Store) -> None:
    store.path_of(store.file).unlink()
    with pytest.raises(FileNotFoundError):
        run(store, "--repair", "--from", str(store.path / "nothing"))


def test_repository_that_is_in_use(store: Store) -> None:
    with Repository.open(str(store.path)), pytest.raises(LockedError):
        repair_repository(store.repository, lock_timeout_s=0)
