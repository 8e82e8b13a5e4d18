"""Repositories in a directory, as a source."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import ExitCode, ObjectMissingError, RefNotFoundError
from cfsctl.ostree.key_file import parse_key_file
from cfsctl.ostree.objects import MAX_METADATA_SIZE, ObjectKind, OstreeObjectError, loose_path
from cfsctl.ostree.source import InvalidRefError
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.sources.local_repository import NotAnOstreeRepositoryError, UnsupportedModeError
from tests.fakes.ostree_repository import FakeOstreeRepository, Tree

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.digest import Checksum

CONTENT = os.urandom(600_000)
TREE: Tree = {"a": b"alpha", "large": CONTENT, "link": "a", "d": {"b": b"beta"}}


class CollectingSink:
    """Keeps what it is given."""

    def __init__(self, checksum: Checksum) -> None:
        self.checksum = checksum
        self.chunks: list[bytes] = []
        self.is_aborted = False

    def begin_plain(self, header: bytes, /) -> None:
        self.header = header

    def share(self, _fd: int, _size_bytes: int, /) -> bool:
        return False

    def write(self, chunk: bytes, /) -> None:
        self.chunks.append(chunk)

    def finish(self) -> CollectingSink:
        return self

    def abort(self) -> None:
        self.is_aborted = True


@pytest.fixture
def fake() -> FakeOstreeRepository:
    repository = FakeOstreeRepository()
    repository.commit(TREE, "main")
    repository.commit(TREE, "os/amd64/stable", timestamp_s=1)
    return repository


@pytest.fixture
def path(fake: FakeOstreeRepository, tmp_path: Path) -> Path:
    fake.write(tmp_path / "repo")
    return tmp_path / "repo"


def test_every_object_is_handed_out_as_it_is(fake: FakeOstreeRepository, path: Path) -> None:
    source = LocalSource(str(path))
    wanted = [key for key in fake.objects if key[1].is_metadata]
    delivered = {}
    source.fetch_metadata(
        lambda: wanted.pop() if wanted else None,
        lambda checksum, kind, data: delivered.update({(checksum, kind): data}),
    )
    files = [checksum for checksum, kind in fake.objects if kind is ObjectKind.FILE]
    for sink in source.fetch_files(files, CollectingSink):
        delivered[sink.checksum, ObjectKind.FILE] = b"".join(sink.chunks)
        assert max(map(len, sink.chunks)) <= 1 << 17
        assert len(sink.chunks) == 1 or len(CONTENT) in range(len(delivered[sink.checksum, ObjectKind.FILE]))
    assert delivered == fake.objects


def test_closing_keeps_it_usable(fake: FakeOstreeRepository, path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    source = LocalSource(str(path))
    file = fake.add_file(b"alpha")
    for _ in range(2):
        assert len(list(source.fetch_files([file], CollectingSink))) == 1
        source.close()
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "name",
    ["main", "os/amd64/stable", "heads/main", "origin/main", "origin:main", "remotes/origin/main", "alias"],
)
def test_refs_in_all_their_places(fake: FakeOstreeRepository, path: Path, name: str) -> None:
    remote = path / "refs" / "remotes" / "origin" / "main"
    remote.parent.mkdir()
    remote.write_text(fake.refs["main"].hex())
    (path / "refs" / "heads" / "alias").symlink_to("../remotes/origin/main")
    expected = fake.refs.get(name, fake.refs["main"])
    assert LocalSource(str(path)).resolve_ref(name) == expected


@pytest.mark.parametrize("name", ["nope", "os", "os/amd64", "heads", "main/x", "a:b", "remotes/none/main"])
def test_a_ref_that_is_not_there(path: Path, name: str) -> None:
    with pytest.raises(RefNotFoundError, match=f"^ref '{name}' not found in {path}$") as caught:
        LocalSource(str(path)).resolve_ref(name)
    assert caught.value.exit_code is ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../heads/main", "a//b", "/main", "main/", "a\nb", "heads/../main"]
)
def test_what_cannot_be_a_ref(path: Path, name: str) -> None:
    with pytest.raises(InvalidRefError):
        LocalSource(str(path)).resolve_ref(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "ab" * 31,
        "AB" * 32,
        "ab" * 32 + "\n" + "ab" * 32,
        "ab" * 32 + " x",
        "g" * 64,
        " " + "ab" * 32,
    ],
)
def test_a_ref_that_holds_no_checksum(path: Path, text: str) -> None:
    (path / "refs" / "heads" / "main").write_text(text)
    with pytest.raises(
        InvalidRefError, match=r"ref 'main' of .*expected 64 lower-case hexadecimal digits, found '"
    ):
        LocalSource(str(path)).resolve_ref("main")


def test_a_ref_file_is_small(path: Path) -> None:
    ref = path / "refs" / "heads" / "main"
    ref.write_text("ab" * 32 + "\n" + " " * 300_000)
    with pytest.raises(InvalidRefError, match="refs/heads/main: expected at most 256 bytes, found more"):
        LocalSource(str(path)).resolve_ref("main")


def test_a_ref_never_leads_out_of_refs(fake: FakeOstreeRepository, path: Path) -> None:
    outside = path / "config-of-somebody"
    outside.write_text(fake.refs["main"].hex())
    (path / "refs" / "heads" / "out").symlink_to("../../config-of-somebody")
    (path / "refs" / "heads" / "absolute").symlink_to(outside)
    os.mkfifo(path / "refs" / "heads" / "fifo")
    source = LocalSource(str(path))
    for name in ("out", "absolute"):
        with pytest.raises(InvalidRefError, match="Invalid cross-device link"):
            source.resolve_ref(name)
    with pytest.raises(RefNotFoundError):
        source.resolve_ref("fifo")


@pytest.mark.parametrize("kind", [ObjectKind.COMMIT, ObjectKind.FILE])
def test_a_missing_object_is_named(fake: FakeOstreeRepository, path: Path, kind: ObjectKind) -> None:
    checksum = fake.refs["main"] if kind is ObjectKind.COMMIT else fake.add_file(b"alpha")
    (path / loose_path(checksum, kind)).unlink()
    source = LocalSource(str(path))
    message = f"^{kind.label} object {checksum.hex()} is missing from {path}$"
    with pytest.raises(ObjectMissingError, match=message) as caught:
        fetch(source, checksum, kind)
    assert caught.value.hint is None
    (path / "state" / f"{checksum.hex()}.commitpartial").touch()
    with pytest.raises(ObjectMissingError, match=message) as caught:
        fetch(source, checksum, kind)
    assert caught.value.hint is not None
    assert "partial" in caught.value.hint


def fetch(source: LocalSource, checksum: Checksum, kind: ObjectKind) -> None:
    if kind is ObjectKind.FILE:
        list(source.fetch_files([checksum], CollectingSink))
    else:
        wanted = [(checksum, kind)]
        source.fetch_metadata(lambda: wanted.pop() if wanted else None, lambda *_: None)


@pytest.mark.parametrize("what", ["link", "fifo", "directory", "linked directory"])
@pytest.mark.parametrize("kind", [ObjectKind.COMMIT, ObjectKind.FILE])
def test_only_regular_files_are_objects(
    fake: FakeOstreeRepository, path: Path, kind: ObjectKind, what: str
) -> None:
    checksum = fake.refs["main"] if kind is ObjectKind.COMMIT else fake.add_file(b"alpha")
    file = path / loose_path(checksum, kind)
    if what == "linked directory":
        file.parent.rename(path / "elsewhere")
        file.parent.symlink_to("../elsewhere")
    else:
        file.rename(path / "elsewhere")
        match what:
            case "link":
                file.symlink_to("../../elsewhere")
            case "fifo":
                os.mkfifo(file)
            case _:
                file.mkdir()
    with pytest.raises(OSError, match=checksum.hex()[2:]) as caught:
        fetch(LocalSource(str(path)), checksum, kind)
    assert str(caught.value.filename) == str(file)


def test_metadata_has_a_size_limit(fake: FakeOstreeRepository, path: Path) -> None:
    checksum = fake.refs["main"]
    os.truncate(path / loose_path(checksum, ObjectKind.COMMIT), MAX_METADATA_SIZE + 1)
    with pytest.raises(
        OstreeObjectError, match=f"commit object {checksum.hex()}: expected at most {MAX_METADATA_SIZE}"
    ):
        fetch(LocalSource(str(path)), checksum, ObjectKind.COMMIT)


def test_a_sink_that_refuses_is_aborted(fake: FakeOstreeRepository, path: Path) -> None:
    sinks = []

    class Refusing(CollectingSink):
        def write(self, chunk: bytes, /) -> None:
            raise OSError(len(chunk), "no")

    def make(checksum: Checksum) -> Refusing:
        sinks.append(Refusing(checksum))
        return sinks[-1]

    with pytest.raises(OSError, match="no"):
        list(LocalSource(str(path)).fetch_files([fake.add_file(b"alpha")], make))
    assert [sink.is_aborted for sink in sinks] == [True]


@pytest.mark.parametrize("mode", ["", "archive-z3", "Bare"])
def test_unknown_modes_are_refused_by_name(path: Path, mode: str) -> None:
    (path / "config").write_text(f"[core]\nrepo_version=1\nmode={mode}\n")
    with pytest.raises(UnsupportedModeError, match=f"^Unsupported repo mode {mode}: ") as caught:
        LocalSource(str(path))
    assert caught.value.mode == mode


def test_the_older_name_of_the_mode(fake: FakeOstreeRepository, path: Path) -> None:
    (path / "config").write_text('# made long ago\n[core]\nmode = archive\n[remote "x"]\nmode=bare\n')
    assert LocalSource(str(path)).resolve_ref("main") == fake.refs["main"]


BROKEN_CONFIGS = {
    "[core]\nrepo_version=1\n": "No mode in \\[core\\] section in config",
    "mode=archive\n": "No \\[core\\] section in config",
    "[core]\nmode=\xff": "Can't read config file",
    "#" * (1 << 20) + "\n": "Can't read config file",
}


@pytest.mark.parametrize("text", list(BROKEN_CONFIGS), ids=range(4))
def test_a_configuration_that_says_nothing(path: Path, text: str) -> None:
    (path / "config").write_bytes(text.encode("latin-1"))
    with pytest.raises(NotAnOstreeRepositoryError, match=BROKEN_CONFIGS[text]) as caught:
        LocalSource(str(path))
    assert caught.value.exit_code is ExitCode.NO_REPOSITORY


@pytest.mark.parametrize("missing", ["", "config", "objects"])
def test_what_is_no_repository(path: Path, missing: str) -> None:
    (path / missing).rename(path.parent / "gone")
    messages = {"": "repository at ", "config": "repo config file", "objects": "repository objects directory"}
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotAnOstreeRepositoryError, match=f"^Cannot open ostree {messages[missing]}"):
        LocalSource(str(path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_key_files() -> None:
    text = "before=1\n[a]\nk=v\nk = v=2 \n#k=3\nnonsense\n[b c]\n  x=y\n[a]\nz=\n"
    assert parse_key_file(text) == {"a": {"k": "v=2", "z": ""}, "b c": {"x": "y"}}
