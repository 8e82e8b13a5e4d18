"""Kill or fail an operation at each of its system calls, then look at what is left, and do it again.

A forked child runs the operation with the calls that change something counted; at the n-th one it dies,
or the call fails. Afterwards the repository must be sound, every name must be the old or the new one, and
repeating the operation must lead to where it would have led.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cfsctl
from cfsctl.compression import Compression
from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import CfsError
from cfsctl.library.pruning import PruneOptions
from cfsctl.linux.capabilities import CAP_DAC_READ_SEARCH, has_capability
from cfsctl.oci.build import BuildOptions, build
from cfsctl.oci.copy import copy_opened
from cfsctl.oci.delta.make import make_delta
from cfsctl.oci.destinations.layout import LayoutDestination
from cfsctl.oci.manifest import Platform
from cfsctl.oci.pull import pull as pull_oci_image
from cfsctl.oci.push import push
from cfsctl.oci.reference import TaggedPath
from cfsctl.oci.sources.containers_storage import ContainersStorageSource
from cfsctl.oci.sources.files import DirectoryFiles
from cfsctl.oci.sources.layout import LayoutSource
from cfsctl.oci.store import partial_blobs
from cfsctl.oci.store.images import open_found, resolve
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.repository import Repository, init_repository, repository
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc import collect as collect_module
from cfsctl.repository.gc import live_mounts
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.history.changes import rename, roll_back
from cfsctl.repository.history.kept import HistoryKey
from cfsctl.repository.history.moves import RefMoves, current_target
from cfsctl.repository.history.retention import RetentionRules
from cfsctl.repository.objects.quarantine import QUARANTINE
from cfsctl.repository.objects.sharing import Sharing
from cfsctl.repository.repair.repair import repair_repository
from cfsctl.repository.repair.sources import RepositorySource
from cfsctl.scan import build_images, scan_directory
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.container_storage import Storage
from tests.support.oci import LAYER, Layout, directory, example_layers, file, make_tar
from tests.support.repositories import flip_bit, make_image, make_repository, object_file, view, write_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.source import BlobReader

CALLS = ("open", "write", "link", "symlink", "rename", "unlink", "rmdir", "mkdir", "fsync")
"""Functions of `os` that change something, or fail when something is exhausted."""

KILLED = 9
FAILED = 8
NOT_REACHED = 7
MIN_CALLS = 4
MAX_CALLS = 200
"""More than any of the operations makes; one that does not end would show here."""

ALIKE = re.compile(r"..|/proc/(?!1/)\d+/.*")
"""Names of files that are opened, one as the other, in a number that does not depend on the operation."""


def make_base(path: Path) -> None:
    """Make a repository with names to replace and with garbage."""
    with make_repository(path) as store:
        file = store.objects.ensure_bytes(b"file" * 50).object_id
        store.images.write(make_image([file], b"old"), "im")
        store.images.write(make_image([file], b"dead"), "dead")
        store.images.remove_ref("dead")
        write_stream(store, "stream", [file], ref="old")
        write_stream(store, "garbage", [store.objects.ensure_bytes(b"leaf" * 50).object_id])


def make_nothing(path: Path) -> None:
    path.mkdir()


def make_old(path: Path) -> None:
    make_base(path)
    (path / "meta.json").unlink()


def initialise(path: Path) -> None:
    init_repository(str(path / "a" / "r"), insecure=True, ensure=True)


def upgrade(path: Path) -> None:
    Repository.open(str(path)).close()


def write_image(path: Path) -> None:
    with Repository.open(str(path)) as store:
        file = store.objects.ensure_bytes(b"new file" * 50).object_id
        store.images.write(make_image([file], b"new"), "im")
        store.images.link(store.objects.ensure_bytes(make_image([], b"x")).object_id, "some/where/else")


def import_image(path: Path) -> None:
    with Repository.open(str(path)) as store:
        store.images.import_image([make_image([], b"imported")], "a/b")


def write_streams(path: Path) -> None:
    with Repository.open(str(path)) as store:
        file = store.objects.ensure_bytes(b"new file" * 50).object_id
        inner = write_stream(store, "inner", [file])
        write_stream(store, "stream", [file], {"inner": inner}, ref="old")


def tag(path: Path) -> None:
    with Repository.open(str(path)) as store:
        store.streams.set_ref("oci/new", "stream")


def collect(path: Path) -> None:
    with Repository.open(str(path)) as store:
        result = collect_garbage(store)
    if not result.is_complete:
        raise InterruptedError(result.problems)


def reset(path: Path) -> None:
    init_repository(str(path), insecure=True, reset_metadata=True, erofs_version=FormatVersion.V2)


def create_image(path: Path) -> None:
    tree = path.parent / "tree"
    tree.mkdir(exist_ok=True)
    for number in range(3):
        (tree / f"f{number}").write_bytes(b"%d" % number * 100)
        os.utime(tree / f"f{number}", (7, 7))
    os.utime(tree, (7, 7))
    with Repository.open(str(path)) as store:
        filesystem = scan_directory(str(tree), algorithm=store.algorithm, store=store.objects, workers=0)
        build_images(store, filesystem, "im")


def pull_commit(path: Path) -> None:
    fake = FakeOstreeRepository()
    fake.commit({"usr": {f"f{number}": b"file %d " % number * 40 for number in range(3)}}, "main")
    with Repository.open(str(path)) as store:
        pull(store, fake, "main", PullOptions(workers=0))


def pull_image(path: Path) -> None:
    layout = path.parent / "layout"
    if not layout.exists():
        Layout(layout).add_image("t", [*example_layers(), make_tar([file("usr/third", b"3" * 900)])])
    source = LayoutSource("oci", DirectoryFiles(str(layout)), TaggedPath(str(layout), "t"))
    with Repository.open(str(path)) as store:
        pull_oci_image(store, source, "old", platform=Platform("linux", "amd64"), workers=0)
    source.close()


def pull_and_keep(path: Path) -> None:
    layout = path.parent / "packed"
    if not layout.exists():
        layers = [make_tar([directory("usr"), file("usr/file", b"3" * 900)])]
        packed = [(gzip.compress(layer, mtime=0), f"{LAYER}+gzip") for layer in layers]
        Layout(layout).add_image("t", layers, packed=packed)
    source = LayoutSource("oci", DirectoryFiles(str(layout)), TaggedPath(str(layout), "t"))
    with Repository.open(str(path)) as store:
        pull_oci_image(
            store, source, "old", platform=Platform("linux", "amd64"), workers=0, keep_compressed=True
        )
    source.close()


def pull_from_storage(path: Path) -> None:
    """By hard links where this user may make them."""
    storage = path.parent / "storage"
    place = f"[overlay@{storage}]localhost/a:b"
    if not storage.exists():
        layer = make_tar([directory("usr"), file("usr/file", b"3" * 900)])
        Storage(storage).add_image(["localhost/a:b"], [layer])
    source = ContainersStorageSource(place, ())
    sharing = Sharing.REQUIRED if has_capability(CAP_DAC_READ_SEARCH) else Sharing.AUTO
    with Repository.open(str(path)) as store:
        pull_oci_image(store, source, "old", workers=0, sharing=sharing)
    source.close()


def copy_image_here(path: Path) -> None:
    """From a repository that is made first; by hard links where this user may make them."""
    other = path.parent / "other"
    if not other.exists():
        make_repository(other).close()
        pull_resumable(other)
    with Repository.open(str(other)) as origin, Repository.open(str(path)) as store:
        image = open_found(origin, resolve(origin, "old"))
        zerocopy = has_capability(CAP_DAC_READ_SEARCH)
        copy_opened(origin, store, image, "old", zerocopy=zerocopy, workers=0)


class ServedLayout(LayoutSource):
    """A layout whose blobs can be opened at any place, as those of a registry."""

    def open_blob_at(self, descriptor: Descriptor, offset: int) -> BlobReader:
        reader = self.open_blob(descriptor)
        while offset:
            offset -= len(reader.read(offset))
        return reader


def pull_resumable(path: Path) -> None:
    layout = path.parent / "served"
    if not layout.exists():
        Layout(layout).add_image("t", [make_tar([directory("usr"), file("usr/file", b"3" * 300_000)])])
    source = ServedLayout("oci", DirectoryFiles(str(layout)), TaggedPath(str(layout), "t"))
    before, partial_blobs.MIN_PARTIAL_BYTES = partial_blobs.MIN_PARTIAL_BYTES, 1000  # type: ignore[misc]
    try:
        with Repository.open(str(path)) as store:
            pull_oci_image(store, source, "old", platform=Platform("linux", "amd64"), workers=0)
    finally:
        partial_blobs.MIN_PARTIAL_BYTES = before  # type: ignore[misc]
        source.close()


OLD_LAYER = make_tar([directory("usr"), file("usr/file", b"3" * 9000), file("usr/small", b"s" * 70)])
NEW_LAYER = make_tar([directory("usr"), file("usr/moved", b"3" * 9000), file("usr/new", b"n" * 90)])


def make_for_delta(path: Path) -> None:
    """Make a repository with the image that a delta starts from, and beside it the delta."""
    make_base(path)
    layout = path.parent / "layout"
    made = Layout(layout)
    made.add_image("from", [OLD_LAYER])
    made.add_image("to", [OLD_LAYER, NEW_LAYER])
    pull_tagged(path, layout, "from")
    make_repository(path.parent / "both").close()
    for tag in ("from", "to"):
        pull_tagged(path.parent / "both", layout, tag)
    write_delta(path.parent / "both", path.parent / "delta")


def pull_tagged(path: Path, layout: Path, tag: str, name: str | None = None) -> None:
    source = LayoutSource("oci", DirectoryFiles(str(layout)), TaggedPath(str(layout), tag))
    with Repository.open(str(path)) as store:
        pull_oci_image(store, source, name or tag, platform=Platform("linux", "amd64"), workers=0)
    source.close()


def write_delta(path: Path, out: Path) -> None:
    target = LayoutDestination(TaggedPath(str(out), "t"))
    with Repository.open(str(path)) as store:
        old, new = (open_found(store, resolve(store, tag)) for tag in ("from", "to"))
        make_delta(store, old, new, target)
    target.close()


def apply_delta(path: Path) -> None:
    pull_tagged(path, path.parent / "delta", "t", "old")


def build_image(path: Path) -> None:
    tree = path.parent / "root"
    (tree / "usr").mkdir(parents=True, exist_ok=True)
    for number in range(3):
        (tree / "usr" / f"f{number}").write_bytes(b"%d" % number * 100)
        os.utime(tree / "usr" / f"f{number}", (7, 7))
    os.utime(tree / "usr", (7, 7))
    os.utime(tree, (7, 7))
    with Repository.open(str(path)) as store:
        scanned = scan_directory(str(tree), algorithm=store.algorithm, store=store.objects, workers=0)
        build(store, scanned, "old", BuildOptions(compression=Compression.NONE))


def make_tagged(path: Path) -> None:
    make_base(path)
    with Repository.open(str(path)) as store:
        store.streams.set_ref("oci/tag", "stream")


def make_history(path: Path) -> None:
    """Make a repository with tags and refs that have histories, and two series that can be pruned."""
    make_tagged(path)
    with opened(path) as library:
        library.tag_image("im", "series/1")
        library.tag_image("im", "series/2")
        move_names(path)


def opened(path: Path) -> cfsctl.Repository:
    return cfsctl.Repository.open(path)


def move_names(path: Path) -> None:
    """Take a ref of an image, and a tag, from what they name, which is kept."""
    with Repository.open(str(path)) as store:
        moves = RefMoves(store, keep=2)
        with moves.in_place():
            store.images.write(make_image([], b"newer"), "im")
            write_stream(store, "another", [])
            store.streams.set_ref("oci/tag", "another")


def roll_names_back(path: Path) -> None:
    with Repository.open(str(path)) as store:
        file = store.objects.ensure_bytes(b"file" * 50).object_id
        old = store.objects.ensure_bytes(make_image([file], b"old")).object_id
        roll_back(store, HistoryKey("images", "im"), old.hex())


def rename_name(path: Path) -> None:
    with Repository.open(str(path)) as store:
        if current_target(store, HistoryKey("images", "im")) is not None:
            rename(store, HistoryKey("images", "im"), HistoryKey("images", "renamed"))


def prune_names(path: Path) -> None:
    options = PruneOptions(rules=RetentionRules(last=1), patterns=("series/*", "im"), boot_directories=())
    with opened(path) as library:
        library.prune(options)


OPERATIONS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "init": (make_nothing, initialise),
    "upgrade": (make_old, upgrade),
    "write image": (make_base, write_image),
    "create image": (make_base, create_image),
    "pull": (make_base, pull_commit),
    "pull image": (make_base, pull_image),
    "pull image and keep blobs": (make_base, pull_and_keep),
    "pull image from containers-storage": (make_base, pull_from_storage),
    "pull image and resume": (make_base, pull_resumable),
    "copy image": (make_base, copy_image_here),
    "build image": (make_base, build_image),
    "apply delta": (make_for_delta, apply_delta),
    "import image": (make_base, import_image),
    "write streams": (make_base, write_streams),
    "tag": (make_base, tag),
    "move names": (make_tagged, move_names),
    "roll back": (make_history, roll_names_back),
    "rename": (make_history, rename_name),
    "prune": (make_history, prune_names),
    "collect": (make_base, collect),
    "reset": (make_base, reset),
}


FAULTS: dict[str, int | None] = {
    "killed": None,
    "disk full": errno.ENOSPC,
    "disk broken": errno.EIO,
    "quota used up": errno.EDQUOT,
    "no descriptors": errno.EMFILE,
}
"""What happens at a call: the end of the process, or an error of the system."""


def run_interrupted(operation: Callable[[Path], None], path: Path, nth: int, number: int | None) -> int:
    """Run an operation in a child that dies at the n-th call, or whose n-th call fails with an errno."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            calls = Calls(nth, number)
            operation(path)
            code = NOT_REACHED if calls.left > 0 else 0
        except (OSError, CfsError):
            code = FAILED
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Calls:
    """Counts the calls of this process and interferes with one of them.

    Attributes:
        left: Calls up to that one.
    """

    def __init__(self, nth: int, number: int | None) -> None:
        self.left = nth
        self._pid = os.getpid()
        self._number = number
        for name in CALLS:
            setattr(os, name, self._wrap(getattr(os, name)))
        repository.syncfs = self._wrap(repository.syncfs)  # type: ignore[attr-defined,assignment]  # not exported

    def _wrap(self, function: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            if self._counts(function.__name__, arguments):
                self._count()
            return function(*arguments, **options)

        return counted

    def _counts(self, name: str, arguments: tuple[object, ...]) -> bool:
        if os.getpid() != self._pid:
            return False
        if name != "open":
            return True
        flags = arguments[1]
        assert isinstance(flags, int)
        if self._number is None:
            return bool(flags & (os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY))
        # 256 directories of objects are opened in the same way, as is what the kernel says of each process.
        return not ALIKE.fullmatch(str(arguments[0]))

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            if self._number is None:
                os._exit(KILLED)
            raise OSError(self._number, os.strerror(self._number))


def find_repository(path: Path) -> Path:
    return path / "a" / "r" if (path / "a").exists() else path


def check_sound(path: Path, *, may_have_leftovers: bool) -> None:
    """Check what an interruption left: sound, or not there at all."""
    path = find_repository(path)
    if not (path / "meta.json").exists():
        return
    with Repository.open(str(path)) as store:
        findings = check_repository(store, deep=True).findings
    if may_have_leftovers:
        findings = [finding for finding in findings if "leftover-temporary" not in finding]
    assert findings == []


def names(path: Path) -> dict[str, str]:
    return {name: text for name, text in view(path).items() if text.startswith("->") and "/refs/" in name}


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory in memory where there is one: every barrier of every attempt would go to disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        yield Path(name)


LOOK_AT_MOUNTS = live_mounts.find_live_mounts

SLOW = {
    *("pull image", "write image", "create image"),
    *("pull image and keep blobs", "build image"),
    *("pull image from containers-storage", "pull image and resume", "copy image", "apply delta"),
    *("move names", "roll back", "rename"),
}
"""Operations of which only some faults are tried every time."""

ONLY_KILLED = {"prune"}
"""Operations that open thousands of files, to find mounts, of which none could fail worse than the first."""

CASES = [
    pytest.param(
        name,
        number,
        id=f"{name}-{fault}",
        marks=[pytest.mark.deep] if number and (name in SLOW or fault != "disk full") else [],
    )
    for name in OPERATIONS
    for fault, number in FAULTS.items()
    if number is None or name not in ONLY_KILLED
]


@pytest.fixture
def number(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """Return what happens at a call.

    How many calls it takes to find out what is mounted depends on the machine, and on what other tests mount.
    Nothing in the repository changes in the meantime, so only the want of descriptors is tried there.
    """
    number: int | None = request.param
    if number == errno.EMFILE:
        for module in (collect_module, live_mounts):
            monkeypatch.setattr(module, "find_live_mounts", LOOK_AT_MOUNTS)
    return number


@pytest.mark.parametrize(("name", "number"), CASES, indirect=["number"])
def test_interrupted_anywhere(place: Path, name: str, number: int | None) -> None:
    make, operation = OPERATIONS[name]
    base, finished, path = place / "base", place / "finished", place / "r"
    make(base)
    shutil.copytree(base, finished, symlinks=True)
    operation(finished)
    before, after = names(base), names(finished)
    expected = collected(finished)
    may_have_leftovers = number is None
    for nth in range(1, MAX_CALLS):
        shutil.copytree(base, path, symlinks=True)
        code = run_interrupted(operation, path, nth, number)
        if code == NOT_REACHED:
            break
        assert code in {0, KILLED if number is None else FAILED}
        check_sound(path, may_have_leftovers=may_have_leftovers)
        if make is make_nothing and code == FAILED:
            assert not (path / "a").exists() or (find_repository(path) / "meta.json").exists()
        for ref, text in names(path).items():
            assert text in {before.get(ref), after.get(ref)}
        operation(path)
        check_sound(path, may_have_leftovers=may_have_leftovers)
        assert collected(path) == expected
        shutil.rmtree(path)
    else:
        pytest.fail("the operation did not end")
    assert nth > MIN_CALLS


def push_image(path: Path, out: Path) -> None:
    target = LayoutDestination(TaggedPath(str(out), "t"))
    with Repository.open(str(path)) as store:
        push(store, open_found(store, resolve(store, "to")), target)
    target.close()


@pytest.mark.parametrize(
    ("write", "number"),
    [
        pytest.param(
            write,
            number,
            id=f"{name}-{fault}",
            marks=[pytest.mark.deep] if name == "delta" and fault != "disk full" else [],
        )
        for name, write in {"push": push_image, "delta": write_delta}.items()
        for fault, number in FAULTS.items()
    ],
)
def test_writing_a_layout_interrupted_anywhere(
    place: Path, write: Callable[[Path, Path], None], number: int | None
) -> None:
    """The layout has the image, or the delta, all of it, or not yet; the next time ends it."""
    make_for_delta(place / "r")

    def pull_back(out: Path) -> None:
        shutil.copytree(place / "r", place / "r2", symlinks=True)
        pull_tagged(place / "r2", out, "t")
        shutil.rmtree(place / "r2")

    for nth in range(1, MAX_CALLS):
        out = place / "out"
        code = run_interrupted(lambda path: write(place / "both", path), out, nth, number)
        if code == NOT_REACHED:
            break
        assert code in {0, KILLED if number is None else FAILED}
        if (out / "index.json").exists():
            pull_back(out)
        write(place / "both", out)
        pull_back(out)
        shutil.rmtree(out)
    else:
        pytest.fail("the operation did not end")
    assert nth > MIN_CALLS


def make_damaged(path: Path) -> None:
    make_base(path)
    with Repository.open(str(path)) as store:
        image = store.images.find("im")
        assert image is not None
        (file,) = store.images.objects("im")
        flip_bit(object_file(store, file), 7)
        object_file(store, image).unlink()
    (path / "objects" / file.hex()[:2] / "extra").touch()
    (path / "images" / "refs" / "im").unlink()
    (path / "images" / "refs" / "im").symlink_to(image.hex())


def repair(path: Path) -> None:
    with Repository.open(str(path)) as store:
        source = RepositorySource(str(path.parent / "sound"), store.objects)
        repair_repository(store, [source], workers=0)
        source.close()


@pytest.mark.parametrize("number", FAULTS.values(), ids=FAULTS)
def test_repair_interrupted_anywhere(place: Path, number: int | None) -> None:
    """What is wrong is no more than before, and the next repair ends it."""
    make_base(place / "sound")
    base, path = place / "base", place / "r"
    make_damaged(base)
    shutil.copytree(base, path, symlinks=True)
    repair(path)
    check_sound(path, may_have_leftovers=False)
    expected = names_and_objects(path)
    assert expected == names_and_objects(place / "sound")
    for nth in range(1, MAX_CALLS):
        shutil.rmtree(path)
        shutil.copytree(base, path, symlinks=True)
        code = run_interrupted(repair, path, nth, number)
        if code == NOT_REACHED:
            break
        assert code in {0, KILLED if number is None else FAILED}
        repair(path)
        check_sound(path, may_have_leftovers=number is None)
        assert names_and_objects(path) == expected
    else:
        pytest.fail("the repair did not end")
    assert nth > MIN_CALLS


def names_and_objects(path: Path) -> dict[str, str]:
    """Return what a repository holds, without quarantine and what a killed process left."""
    ignored = (QUARANTINE, ".symlink-", "objects/.tmp")
    return {name: text for name, text in view(path).items() if text and not name.startswith(ignored)}


def collected(path: Path) -> dict[str, str]:
    """Return what a repository holds once the garbage is gone; collects it."""
    path = find_repository(path)
    collect(path)
    return {name: text for name, text in view(path).items() if text and not name.startswith(".cfsctl")}
