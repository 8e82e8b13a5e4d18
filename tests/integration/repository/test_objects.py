"""The object store on a real file system."""

from __future__ import annotations

import errno
import logging
import os
import random
import resource
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID, object_path
from cfsctl.errors import DigestMismatchError
from cfsctl.fsverity.kernel import VerityBusyError, VerityMissingError, VerityUnsupportedError, enable
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.linux import files
from cfsctl.linux.files import AnonymousFile
from cfsctl.repository.objects import fan_out
from cfsctl.repository.objects import reader as object_reader
from cfsctl.repository.objects import store as objects_module
from cfsctl.repository.objects.reader import StoredObjectMissingError
from cfsctl.repository.objects.store import ObjectDamagedError, ObjectStore
from cfsctl.workers import WorkerPool

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator
    from pathlib import Path

DATA = b"content of an object" * 100


@pytest.fixture(params=list(Algorithm), ids=str)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    dirfd = os.open(tmp_path, os.O_RDONLY)
    store = ObjectStore(dirfd, request.param)
    yield store
    store.close()
    os.close(dirfd)


def path_of(tmp_path: Path, object_id: ObjectID) -> Path:
    return tmp_path / "objects" / object_path(object_id)


def files_below(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if not found.is_dir())


def test_bytes_are_stored_once(store: ObjectStore, tmp_path: Path) -> None:
    first = store.ensure_bytes(DATA)
    assert first == (compute_digest(DATA, store.algorithm), len(DATA), True, "")
    path = path_of(tmp_path, first.object_id)
    before = path.stat()
    assert store.ensure_bytes(bytearray(DATA)) == first._replace(is_new=False)
    assert store.ensure_bytes(memoryview(DATA)) == first._replace(is_new=False)
    assert path.stat().st_ino == before.st_ino
    assert path.read_bytes() == DATA
    assert files_below(tmp_path / "objects") == [object_path(first.object_id)]


def test_known_objects_among_many_new_ones(store: ObjectStore, tmp_path: Path) -> None:
    """After many new objects none is looked for any more; one that is there must be found all the same."""
    known = store.ensure_bytes(DATA).object_id
    inode = path_of(tmp_path, known).stat().st_ino
    for number in range(40):
        assert store.ensure_bytes(b"%d" % number * 100).is_new
    assert store.ensure_bytes(DATA) == (known, len(DATA), False, "")
    assert path_of(tmp_path, known).stat().st_ino == inode
    for number in range(40):
        assert store.ensure_bytes(b"%d" % number * 100).is_new is False
    assert len(files_below(tmp_path)) == 41


def test_damage_among_many_new_objects(
    store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = store.ensure_bytes(DATA).object_id
    path_of(tmp_path, known).write_bytes(b"")
    for number in range(40):
        store.ensure_bytes(b"%d" % number * 100)
    stored = store.ensure_bytes(DATA)
    assert stored.is_new
    assert "found 0" in stored.damage
    assert "has been replaced" in caplog.text
    assert path_of(tmp_path, known).read_bytes() == DATA


def test_modes_do_not_depend_on_the_writer(store: ObjectStore, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        made = [store.ensure_bytes(b"%d" % number * 100).object_id for number in range(3)]
        os.umask(0o077)
        store.close()
        made += [store.ensure_bytes(b"x%d" % number * 100).object_id for number in range(3)]
    finally:
        os.umask(before)
    paths = [path_of(tmp_path, object_id) for object_id in made]
    assert {oct(path.stat().st_mode & 0o7777) for path in paths} == {"0o644"}
    path = paths[0]
    modes = [oct(found.stat().st_mode & 0o7777) for found in (path.parent, path.parent.parent)]
    assert modes == ["0o755", "0o755"]


def test_pieces_make_the_same_object(store: ObjectStore, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(300_001)
    with store.create() as writer:
        for start in range(0, len(data), 70_001):
            writer.write(memoryview(data)[start : start + 70_001])
        assert writer.size == len(data)
        assert os.pread(writer.fd, 10, 0) == data[:10]
        stored = writer.commit()
    assert stored == (compute_digest(data, store.algorithm), len(data), True, "")
    assert store.ensure_bytes(data).is_new is False
    assert path_of(tmp_path, stored.object_id).read_bytes() == data


def test_file_system_without_unnamed_files(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_open_unnamed", lambda _dirfd, _mode: None)
    writer = store.create()
    writer.write(DATA + b"x")
    assert [name[:12] for name in os.listdir(tmp_path / "objects")] == [".tmp-object-"]
    other = store.ensure_bytes(DATA)
    stored = [writer.commit().object_id, other.object_id]
    assert store.ensure_bytes(DATA) == other._replace(is_new=False)
    store.create().abort()
    assert files_below(tmp_path / "objects") == sorted(map(object_path, stored))


def test_empty_object(store: ObjectStore) -> None:
    with store.create() as writer:
        stored = writer.commit()
    assert stored == (compute_digest(b"", store.algorithm), 0, True, "")
    assert store.ensure_bytes(b"").is_new is False


@pytest.mark.parametrize("ending", ["abort", "leave", "fail"])
def test_what_is_not_committed_leaves_nothing(store: ObjectStore, tmp_path: Path, ending: str) -> None:
    def write() -> None:
        with store.create() as writer:
            writer.write(DATA)
            if ending == "abort":
                writer.abort()
                writer.abort()
            if ending == "fail":
                raise InterruptedError

    if ending == "fail":
        with pytest.raises(InterruptedError):
            write()
    else:
        write()
    assert files_below(tmp_path) == []


def test_reading(store: ObjectStore) -> None:
    object_id = store.ensure_bytes(DATA).object_id
    assert store.read(object_id) == DATA
    assert store.contains(object_id)
    assert store.contains(object_id, len(DATA))
    assert not store.contains(object_id, len(DATA) + 1)
    status = store.stat(object_id)
    assert status is not None
    assert status.st_size == len(DATA)


def test_missing_object(store: ObjectStore) -> None:
    object_id = compute_digest(b"never stored", store.algorithm)
    assert not store.contains(object_id)
    with pytest.raises(StoredObjectMissingError, match=object_id.hex()) as caught:
        store.open(object_id)
    assert caught.value.errno == errno.ENOENT
    store.ensure_bytes(DATA)
    assert not store.contains(object_id)
    with pytest.raises(FileNotFoundError):
        store.open(object_id)


def test_missing_among_many(store: ObjectStore) -> None:
    stored = [store.ensure_bytes(b"%d" % number).object_id for number in range(300)]
    missing = [compute_digest(b"x%d" % number, store.algorithm) for number in range(300)]
    mixed = stored + missing + missing[:10]
    random.Random(2).shuffle(mixed)
    assert store.find_missing(mixed) == sorted(missing)
    assert store.find_missing([]) == []


def test_a_few_of_many_are_found_without_reading_all_names(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked for many times must not cost as much as all that is stored each time."""
    stored = [store.ensure_bytes(b"%d" % number).object_id for number in range(20)]
    missing = [compute_digest(b"x%d" % number, store.algorithm) for number in range(20)]

    def names(_self: fan_out.FanOut, prefix: str) -> list[str]:
        raise AssertionError(f"reads all names of {prefix}")

    monkeypatch.setattr(fan_out, "_NAMES_OF_A_LOOK", 0)  # as if many names were in the way
    monkeypatch.setattr(fan_out, "_BYTES_OF_A_NAME", 1)
    monkeypatch.setattr(fan_out.FanOut, "names", names)
    assert store.find_missing(stored + missing) == sorted(missing)


def test_names_that_lead_nowhere_are_no_missing_files(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of looking agree about what is not a file."""
    object_id = store.ensure_bytes(DATA).object_id
    place = tmp_path / "objects" / object_path(object_id)
    place.unlink()
    place.symlink_to("nowhere")
    assert store.find_missing([object_id]) == []
    monkeypatch.setattr(fan_out, "_NAMES_OF_A_LOOK", 0)
    monkeypatch.setattr(fan_out, "_BYTES_OF_A_NAME", 1)
    assert store.find_missing([object_id]) == []


def spoil(path: Path, damage: str) -> None:
    """Put something else in the place of an object."""
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(DATA[:-1])
        case "too long":
            path.write_bytes(DATA + b"x")
        case "fifo":
            path.unlink()
            os.mkfifo(path)
        case "link":
            path.unlink()
            path.symlink_to("/etc/hostname")
        case "dangling link":
            path.unlink()
            path.symlink_to("nowhere")
        case _:
            raise ValueError(damage)


@pytest.mark.parametrize("damage", ["empty", "truncated", "too long", "fifo", "link", "dangling link"])
@pytest.mark.parametrize("way", ["bytes", "pieces"])
def test_damage_is_replaced_and_reported(
    store: ObjectStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    way: str,
    damage: str,
) -> None:
    object_id = store.ensure_bytes(DATA).object_id
    path = path_of(tmp_path, object_id)
    spoil(path, damage)
    with caplog.at_level(logging.WARNING):
        if way == "bytes":
            stored = store.ensure_bytes(DATA)
        else:
            with store.create() as writer:
                writer.write(DATA)
                stored = writer.commit()
    assert stored.is_new
    assert stored.damage
    assert object_id.hex() in caplog.text
    assert not path.is_symlink()
    assert path.read_bytes() == DATA
    assert files_below(tmp_path) == [f"objects/{object_path(object_id)}"]
    assert store.ensure_bytes(DATA) == (object_id, len(DATA), False, "")


def test_directory_in_the_way(store: ObjectStore, tmp_path: Path) -> None:
    object_id = compute_digest(DATA, store.algorithm)
    path_of(tmp_path, object_id).mkdir(parents=True)
    with pytest.raises(ObjectDamagedError, match="found a directory"):
        store.ensure_bytes(DATA)
    for reading in (store.open, store.open_listed):
        with pytest.raises(ObjectDamagedError, match="directory"):
            reading(object_id)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_opening_what_is_no_file(store: ObjectStore, tmp_path: Path, kind: str) -> None:
    object_id = store.ensure_bytes(DATA).object_id
    fd, size = store.open_listed(object_id)
    os.close(fd)
    assert size == len(DATA)
    spoil(path_of(tmp_path, object_id), kind)
    # The second one as if it had become so since it was looked at.
    for reading in (store.open, store.open_listed):
        with pytest.raises(ObjectDamagedError):
            reading(object_id)
    assert not store.contains(object_id)


def test_verifier_finds_what_has_the_right_size(store: ObjectStore, tmp_path: Path) -> None:
    object_id = store.ensure_bytes(DATA).object_id
    path = path_of(tmp_path, object_id)
    altered = b"X" + DATA[1:]
    path.write_bytes(altered)
    assert store.ensure_bytes(DATA).is_new is False
    asked: list[ObjectID] = []

    class Doubter:
        def needs_reading(self, object_id: ObjectID, status: os.stat_result, /) -> bool:
            asked.append(object_id)
            return status.st_size == len(DATA)

        def find_sizes(self, found: Iterable[tuple[ObjectID, os.stat_result | None]], /) -> array[int]:
            raise NotImplementedError

        def confirm(self, object_id: ObjectID, status: os.stat_result, /) -> None:
            assert status.st_size == len(DATA)
            confirmed.append(object_id)

        def drain_new(self) -> array[int]:
            raise NotImplementedError

        def add_new(self, news: Iterable[int], /) -> None:
            raise NotImplementedError

    confirmed: list[ObjectID] = []
    store.verifier = Doubter()
    stored = store.ensure_bytes(DATA)
    assert stored.is_new
    assert compute_digest(altered, store.algorithm).hex() in stored.damage
    assert path.read_bytes() == DATA
    assert store.ensure_bytes(DATA).is_new is False
    assert asked == [object_id, object_id]
    assert confirmed == [object_id]


def test_fan_out_that_is_a_link(store: ObjectStore, tmp_path: Path) -> None:
    object_id = compute_digest(DATA, store.algorithm)
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / object_id.hex()[:2]).symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        store.ensure_bytes(DATA)
    assert list(outside.iterdir()) == []


def test_objects_that_is_a_link(store: ObjectStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "objects").symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        store.ensure_bytes(DATA)
    assert list(outside.iterdir()) == []


def test_few_descriptors(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    dirfd = os.open(tmp_path, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * before + 20, limits[1]))
    try:
        store = ObjectStore(dirfd, Algorithm.SHA256)
        stored = [store.ensure_bytes(b"%d" % number).object_id for number in range(300)]
        assert store.find_missing(stored) == []
        assert all(store.contains(object_id) for object_id in stored)
        store.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    os.close(dirfd)
    assert len(os.listdir("/proc/self/fd")) == before


def test_objects_right_in_a_directory(tmp_path: Path) -> None:
    dirfd = os.open(tmp_path, os.O_RDONLY)
    store = ObjectStore(dirfd, Algorithm.SHA256, directory=".")
    object_id = store.ensure_bytes(DATA).object_id
    assert files_below(tmp_path) == [object_path(object_id)]
    assert store.ensure_bytes(DATA).is_new is False
    store.close()
    os.close(dirfd)


class _Handler:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def __call__(self, number: int) -> tuple[ObjectID, bool]:
        stored = self._store.ensure_bytes(b"%d" % (number % 50) * 40)
        return stored.object_id, stored.is_new


def test_workers_share_a_store(store: ObjectStore) -> None:
    store.ensure_bytes(b"made before the fork")
    with WorkerPool(lambda: _Handler(store), 2) as pool:
        results = list(pool.map_unordered(range(400)))
    new = [object_id for object_id, is_new in results if is_new]
    assert len(new) == len(set(new)) == 50
    assert store.find_missing(object_id for object_id, _ in results) == []


def test_writing_asks_once(tmp_path: Path) -> None:
    dirfd = os.open(tmp_path, os.O_RDONLY)
    asked: list[int] = []
    store = ObjectStore(dirfd, Algorithm.SHA256, check_writable=lambda: asked.append(1))
    assert not store.contains(ObjectID(bytes(32)))
    assert asked == []
    store.ensure_bytes(DATA)
    store.ensure_bytes(DATA + b"x")
    store.create().abort()
    assert asked == [1]
    store.close()
    os.close(dirfd)


def test_refusal_to_write_leaves_nothing(tmp_path: Path) -> None:
    def refuse() -> None:
        raise PermissionError

    dirfd = os.open(tmp_path, os.O_RDONLY)
    store = ObjectStore(dirfd, Algorithm.SHA256, check_writable=refuse)
    for _ in range(2):
        with pytest.raises(PermissionError):
            store.ensure_bytes(DATA)
    assert list(tmp_path.iterdir()) == []
    os.close(dirfd)


class Kernel:
    """A file system with fs-verity, as far as the store can see: remembers digests by inode."""

    def __init__(self) -> None:
        self.digests: dict[int, ObjectID] = {}
        self.busy = 0
        self.enabled = 0

    def enable(self, fd: int, algorithm: Algorithm) -> None:
        if self.busy:
            self.busy -= 1
            raise VerityBusyError(errno.ETXTBSY, "busy")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"")
        self.enabled += 1
        size = os.fstat(fd).st_size
        self.digests[os.fstat(fd).st_ino] = compute_digest(os.pread(fd, size, 0), algorithm)

    def measure(self, fd: int, _algorithm: Algorithm) -> ObjectID:
        try:
            return self.digests[os.fstat(fd).st_ino]
        except KeyError:
            raise VerityMissingError(errno.ENODATA, "fs-verity is not enabled on file") from None


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(objects_module, "enable", kernel.enable)
    monkeypatch.setattr(object_reader, "measure", kernel.measure)
    return kernel


@pytest.fixture(params=[False, True], ids=["insecure", "secure"])
def verity_store(request: pytest.FixtureRequest, tmp_path: Path, kernel: Kernel) -> Iterator[ObjectStore]:
    assert kernel.enabled == 0
    dirfd = os.open(tmp_path, os.O_RDONLY)
    store = ObjectStore(dirfd, Algorithm.SHA256, is_secure=request.param)
    yield store
    store.close()
    os.close(dirfd)


def test_every_object_gets_verity(verity_store: ObjectStore, kernel: Kernel) -> None:
    first = verity_store.ensure_bytes(DATA)
    with verity_store.create() as writer:
        writer.write(DATA + b"x")
        second = writer.commit()
    assert sorted(kernel.digests.values()) == sorted([first.object_id, second.object_id])
    assert verity_store.read(first.object_id) == DATA
    assert verity_store.ensure_bytes(DATA).is_new is False
    assert kernel.enabled == 2


def test_kernel_that_measures_another_digest(
    verity_store: ObjectStore, tmp_path: Path, kernel: Kernel
) -> None:
    object_id = verity_store.ensure_bytes(DATA).object_id
    other = compute_digest(b"other", Algorithm.SHA256)
    kernel.digests[path_of(tmp_path, object_id).stat().st_ino] = other
    with pytest.raises(DigestMismatchError, match=other.hex()):
        verity_store.open(object_id)
    stored = verity_store.ensure_bytes(DATA)
    assert stored.is_new
    assert other.hex() in stored.damage
    assert verity_store.read(object_id) == DATA


def test_file_that_stays_open_for_writing_is_copied(
    verity_store: ObjectStore, tmp_path: Path, kernel: Kernel
) -> None:
    kernel.busy = 2
    stored = verity_store.ensure_bytes(DATA)
    assert path_of(tmp_path, stored.object_id).read_bytes() == DATA
    assert list(kernel.digests.values()) == [stored.object_id]
    kernel.busy = 100
    with pytest.raises(VerityBusyError):
        verity_store.ensure_bytes(DATA + b"x")
    assert len(files_below(tmp_path)) == 1


def test_content_that_changed_while_it_was_written(
    verity_store: ObjectStore, tmp_path: Path, kernel: Kernel
) -> None:
    assert kernel.enabled == 0
    with verity_store.create() as writer:
        writer.write(DATA)
        os.pwrite(writer.fd, b"X", 0)
        with pytest.raises(DigestMismatchError):
            writer.commit()
    assert files_below(tmp_path) == []


def test_secure_store_refuses_objects_without_verity(tmp_path: Path, kernel: Kernel) -> None:
    dirfd = os.open(tmp_path, os.O_RDONLY)
    object_id = ObjectStore(dirfd, Algorithm.SHA256).ensure_bytes(DATA).object_id
    kernel.digests.clear()
    store = ObjectStore(dirfd, Algorithm.SHA256, is_secure=True)
    with pytest.raises(VerityMissingError):
        store.open(object_id)
    stored = store.ensure_bytes(DATA)
    assert stored.is_new
    assert "not enabled" in stored.damage
    assert store.read(object_id) == DATA
    os.close(dirfd)


def test_secure_store_without_verity_stores_nothing(tmp_path: Path) -> None:
    dirfd = os.open(tmp_path, os.O_RDONLY)
    with AnonymousFile(dirfd) as probe:
        probe.make_read_only()
        try:
            enable(probe.fd, Algorithm.SHA256)
        except VerityUnsupportedError:
            pass
        else:
            pytest.skip("this file system has fs-verity")
    store = ObjectStore(dirfd, Algorithm.SHA256, is_secure=True)
    with pytest.raises(VerityUnsupportedError):
        store.ensure_bytes(DATA)
    assert files_below(tmp_path) == []
    os.close(dirfd)
