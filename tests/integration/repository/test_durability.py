"""What is on the disk when: order and number of syncs, and a power failure at every call.

The kernel may write a name before the content behind it. So at the n-th call everything stops, and one of
two things happens, each the worst of its kind:

- Each object that got its name since the last barrier loses its content, as on a file system that had the
  directory on the disk and the data not. Names of images and streams stay.
- Each directory that was not synced loses its new entries, objects as well as names of images and streams.
  Only refs stay, which lead to those.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import threading
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.ostree.exchange.copy import copy_commit
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.repository import Durability, Repository, repository
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.copying import copy_image
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.objects.verified import VERIFIED_NAME
from cfsctl.repository.repair.repair import repair_repository
from cfsctl.repository.repair.sources import RepositorySource
from cfsctl.scan import build_images, scan_directory
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import make_image, make_repository, object_file, view, write_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STOPPED = 9
NOT_REACHED = 7
CHANGES = ("write", "link", "symlink", "rename", "unlink", "mkdir", "fsync")


def open_(path: Path, durability: Durability) -> Repository:
    return Repository.open(str(path), durability=durability)


def prepare(path: Path) -> None:
    """Make what the operations work on: a repository, a tree, and other repositories."""
    with make_repository(path / "r") as store:
        file = store.objects.ensure_bytes(b"file" * 50).object_id
        store.images.write(make_image([file], b"old"), "im")
        write_stream(store, "garbage", [store.objects.ensure_bytes(b"leaf" * 50).object_id])
    (path / "tree").mkdir()
    for number in range(4):
        (path / "tree" / f"f{number}").write_bytes(b"%d" % number * 100)
    with make_repository(path / "other") as other:
        image_file = other.objects.ensure_bytes(b"copied" * 50).object_id
        other.images.write(make_image([image_file], b"copied"), "copied")
        pull(other, remote(), "main", PullOptions(workers=0))


def remote() -> FakeOstreeRepository:
    fake = FakeOstreeRepository()
    fake.commit({"usr": {f"f{number}": b"file %d " % number * 40 for number in range(4)}}, "main")
    return fake


def create(path: Path, durability: Durability) -> None:
    with open_(path / "r", durability) as store:
        tree = scan_directory(str(path / "tree"), algorithm=store.algorithm, store=store.objects, workers=0)
        build_images(store, tree, "im")


def pull_commit(path: Path, durability: Durability) -> None:
    with open_(path / "r", durability) as store:
        pull(store, remote(), "main", PullOptions(workers=0))


def import_image(path: Path, durability: Durability) -> None:
    with open_(path / "r", durability) as store:
        store.images.import_image([make_image([], b"imported")], "im")


def copy(path: Path, durability: Durability) -> None:
    with open_(path / "r", durability) as store, Repository.open(str(path / "other")) as other:
        image_id = other.images.find("copied")
        assert image_id is not None
        copy_image(other, store, image_id, "im")
        for ref in other.streams.list_refs("ostree"):
            commit = bytes.fromhex((ref.entry or "").rpartition("-")[2])
            copy_commit(other, store, commit, "main")  # type: ignore[arg-type]  # 32 bytes


def collect(path: Path, durability: Durability) -> None:
    with open_(path / "r", durability) as store:
        assert collect_garbage(store).is_complete


def repair(path: Path, durability: Durability) -> None:
    with open_(path / "r", durability) as store:
        source = RepositorySource(str(path / "other"), store.objects)
        repair_repository(store, [source], workers=0)
        source.close()


OPERATIONS: dict[str, Callable[[Path, Durability], None]] = {
    "create-image": create,
    "pull": pull_commit,
    "import-image": import_image,
    "copy": copy,
    "gc": collect,
    "fsck --repair": repair,
}


class Loss(Enum):
    """What a power failure takes."""

    CONTENT = "content"
    ENTRIES = "entries"


class Machine:
    """Stops at the n-th change; knows what had not reached the disk by then.

    Attributes:
        left: Changes up to the end.
        loss: What is lost when it stops.
        calls: How often each function was called.
        unsynced: Objects that were named since the last barrier and whose content was not synced.
        entries: Names outside `refs` that were made since the last barrier in directories that were not
            synced, with the targets of the links that had these names before.
    """

    def __init__(self, nth: int, loss: Loss) -> None:
        self.left = nth
        self.loss = loss
        self.calls: Counter[str] = Counter()
        self.unsynced: set[str] = set()
        self.entries: dict[str, str | None] = {}
        self._turn = threading.Lock()
        self._synced: set[int] = set()
        for name in CHANGES:
            setattr(os, name, self._wrap(name, getattr(os, name)))
        repository.syncfs = self._wrap("syncfs", repository.syncfs)  # type: ignore[attr-defined,assignment]  # private

    def _wrap(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            self.calls[name] += 1
            # Threads take turns, so that none goes on while another one has stopped the machine.
            with self._turn:
                self.left -= 1
                if self.left == 0:
                    self.stop()
                if name != "syncfs":
                    return self._change(name, function, arguments, options)
                # What another thread names during a barrier is not behind it.
                named_before, entries_before = set(self.unsynced), list(self.entries)
            result = function(*arguments, **options)
            with self._turn:
                self.unsynced -= named_before
                for entry in entries_before:
                    self.entries.pop(entry, None)
            return result

        return counted

    def _change(
        self,
        name: str,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        options: dict[str, object],
    ) -> object:
        path = _named_path(name, arguments, options)
        replaced = _link_target(path) if path else None
        result = function(*arguments, **options)
        if name == "fsync":
            self._note_sync(arguments[0])
        elif path:
            self._note_name(path, replaced)
        return result

    def _note_sync(self, descriptor: object) -> None:
        assert isinstance(descriptor, int)
        status = os.fstat(descriptor)
        self._synced.add(status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            directory = os.readlink(f"/proc/self/fd/{descriptor}")
            self.entries = {
                entry: old for entry, old in self.entries.items() if os.path.dirname(entry) != directory
            }

    def _note_name(self, path: str, replaced: str | None) -> None:
        status = os.lstat(path)
        if "/objects/" in path and status.st_ino not in self._synced:
            self.unsynced.add(path)
        if "/refs/" not in path and (stat.S_ISLNK(status.st_mode) or "/objects/" in path):
            self.entries.setdefault(path, replaced)

    def stop(self, code: int = STOPPED) -> None:
        if self.loss is Loss.CONTENT:
            for path in self.unsynced:
                with contextlib.suppress(FileNotFoundError):  # the name of a file that has another one since
                    _REAL_TRUNCATE(path, 0)
        else:
            for path, old in self.entries.items():
                with contextlib.suppress(FileNotFoundError):
                    _REAL_UNLINK(path)
                    if old is not None:
                        _REAL_SYMLINK(old, path)
        os._exit(code)


_REAL_TRUNCATE, _REAL_UNLINK, _REAL_SYMLINK = os.truncate, os.unlink, os.symlink


def _named_path(name: str, arguments: tuple[object, ...], options: dict[str, object]) -> str | None:
    """Return the path of the name that a call makes, None for other calls."""
    if name not in {"link", "rename", "symlink"}:
        return None
    where = options.get("dir_fd" if name == "symlink" else "dst_dir_fd")
    assert where is not None
    return os.path.join(os.readlink(f"/proc/self/fd/{where}"), str(arguments[1]))


def _link_target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def run_until(operation: Callable[[], None], nth: int, loss: Loss = Loss.CONTENT) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            machine = Machine(nth, loss)
            operation()
            machine.stop(NOT_REACHED)  # the power fails right after the end
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        yield Path(name)


def state(path: Path) -> dict[str, str]:
    """Return names and objects after a collection, which may not find anything that is broken."""
    with Repository.open(str(path)) as store:
        result = collect_garbage(store)
        assert result.is_complete, result.problems
        assert check_repository(store, deep=True).findings == []
    ignored = (".cfsctl", ".symlink-")
    return {name: text for name, text in view(path).items() if text and not name.startswith(ignored)}


SLOW = {"pull", "copy"}
CASES = [
    pytest.param(
        name,
        durability,
        loss,
        id=f"{name}-{durability.value}-{loss.value}",
        # With every object synced, less can be lost.
        marks=[pytest.mark.deep] if name in SLOW and durability is Durability.PER_OBJECT else [],
    )
    for name in OPERATIONS
    for durability in (Durability.BARRIER, Durability.PER_OBJECT)
    for loss in Loss
]


@pytest.mark.parametrize(("name", "durability", "loss"), CASES)
def test_power_failure_at_every_call(place: Path, name: str, durability: Durability, loss: Loss) -> None:
    """No name leads to content that was lost, and doing it again leads to where it would have led."""
    base, work = place / "base", place / "work"
    base.mkdir()
    prepare(base)
    if name == "fsck --repair":
        damage(base)
    shutil.copytree(base, work, symlinks=True)
    OPERATIONS[name](work, durability)
    expected = state(work / "r")
    for nth in range(1, 400):
        shutil.rmtree(work)
        shutil.copytree(base, work, symlinks=True)
        code = run_until(lambda: OPERATIONS[name](work, durability), nth, loss)
        assert code in {STOPPED, NOT_REACHED}
        if name != "fsck --repair":
            check_names(work / "r")
        if code == NOT_REACHED:
            assert state(work / "r") == expected
            break
        OPERATIONS[name](work, durability)
        assert state(work / "r") == expected
    else:
        pytest.fail("the operation did not end")
    assert nth > 3


def test_the_failure_would_show(place: Path) -> None:
    """Without a barrier it does: some name then leads to content that was lost."""
    base, work = place / "base", place / "work"
    base.mkdir()
    prepare(base)
    shutil.copytree(base, work, symlinks=True)

    def survives(nth: int) -> bool:
        shutil.rmtree(work)
        shutil.copytree(base, work, symlinks=True)
        assert run_until(lambda: create(work, Durability.NONE), nth) in {STOPPED, NOT_REACHED}
        with Repository.open(str(work / "r")) as store:
            return collect_garbage(store, dry_run=True).is_complete

    assert not all(survives(nth) for nth in range(1, 30))


def damage(path: Path) -> None:
    with Repository.open(str(path / "other")) as other, Repository.open(str(path / "r")) as store:
        image_id = other.images.find("copied")
        assert image_id is not None
        copy_image(other, store, image_id, "im")
        object_file(store, image_id).write_bytes(b"damaged")
        object_file(store, other.images.objects("copied")[0]).unlink()


def check_names(path: Path) -> None:
    """Check that what images and streams name is there and sound; loose objects may be anything."""
    with Repository.open(str(path)) as store:
        store.objects.verifier = None
        for finding in check_repository(store, deep=True).findings:
            assert finding.startswith(("fsck: object-digest-mismatch", "fsck: leftover-temporary")), finding
        result = collect_garbage(store, dry_run=True)
        assert result.is_complete, result.problems
        broken = [f for f in check_repository(store).findings if "object-digest-mismatch" in f]
        assert result.objects_removed >= len(broken)
        collect_garbage(store)
        assert check_repository(store, deep=True).findings == []


# How often


def counting(calls: Counter[str], name: str, real: Callable[..., object]) -> Callable[..., object]:
    def counted(*arguments: object, **options: object) -> object:
        calls[name] += 1
        return real(*arguments, **options)

    return counted


def count(operation: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    calls: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        for owner, name in ((os, "fsync"), (repository, "syncfs"), (os, "link")):
            patch.setattr(owner, name, counting(calls, name, getattr(owner, name)))
        operation()
    return calls


@pytest.mark.parametrize("name", ["create-image", "pull", "import-image"])
def test_number_of_syncs(place: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    prepare(place)
    # Whether objects are old enough for the list of verified ones depends on how slow the machine is.
    monkeypatch.setattr("cfsctl.repository.objects.verified.VerifiedObjects.save", lambda _: None)
    counts = {}
    for durability in Durability:
        work = place / durability.value
        shutil.copytree(place / "r", work / "r", symlinks=True)
        shutil.copytree(place / "tree", work / "tree")
        counts[durability] = count(lambda: OPERATIONS[name](work, durability), monkeypatch)  # noqa: B023 - run now
        assert (work / "r" / VERIFIED_NAME).exists() is False
    barrier, per_object, none = (
        counts[durability] for durability in (Durability.BARRIER, Durability.PER_OBJECT, Durability.NONE)
    )
    assert none["fsync"] == none["syncfs"] == 0
    assert barrier["syncfs"] == per_object["syncfs"] <= 2
    new_objects = barrier["link"]
    assert per_object["fsync"] == barrier["fsync"] + new_objects
    assert barrier["fsync"] <= 5


def test_collection_syncs_whatever_was_asked_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that a power failure brings back must not lead to an object that is gone."""
    prepare(place)
    calls = count(lambda: collect(place, Durability.NONE), monkeypatch)
    assert calls["fsync"] >= 1
