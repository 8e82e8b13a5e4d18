"""What is refused costs little: all processes of a command are measured together, whatever it was given."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import pytest

from cfsctl.digest import Algorithm, Checksum
from cfsctl.gvariant import Variant, decode, encode
from cfsctl.ostree.delta.format import MAX_DELTA_OBJECTS
from cfsctl.ostree.objects import (
    CHECKSUM_SIZE,
    MAX_METADATA_SIZE,
    ObjectKind,
    format_dirmeta,
    format_dirtree,
)
from cfsctl.ostree.objects._base import join_elements, join_members
from cfsctl.ostree.store.refs import stream_name
from cfsctl.splitstream.format import (
    CHUNK,
    MAX_OBJECT_REFS,
    MAX_STREAM_REFS,
    ContentType,
    format_head,
)
from tests.fakes.ostree_repository import DIRECTORY, FakeOstreeRepository
from tests.support.programs import CFSCTL, cfsctl
from tests.support.repositories import make_repository
from tests.support.web import serve_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.gvariant import Value

MAX_KIB = 300_000_000 >> 10


class Outcome(NamedTuple):
    """Exit status, standard error, and the peak of the memory of all processes of the command in KiB."""

    status: int
    error: str
    peak_kib: int


LAUNCHER = """
import os, subprocess, sys, time

def find_tree(root):
    children, found = {}, [root]
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat") as stream:
                parent = stream.read().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(name))
        except (OSError, ValueError, IndexError):
            pass
    for process in found:
        found += children.get(process, ())
    return found

def measure(process):
    try:
        with open(f"/proc/{process}/smaps_rollup") as stream:
            return next(int(line.split()[1]) for line in stream if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0

process = subprocess.Popen(sys.argv[2:])
together = 0
while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
    together = max(together, sum(map(measure, find_tree(process.pid))))
    time.sleep(0.02)
_, status, usage = os.wait4(process.pid, 0)
with open(sys.argv[1], "w") as stream:
    print(os.waitstatus_to_exitcode(status), max(together, usage.ru_maxrss), file=stream)
"""
"""Runs a program and writes down its exit status and its peak: of the largest process, as the kernel says,
and of all of them together, shared pages counted once, as far as that is seen now and then. The kernel counts
what a process had before it executed the program: one with many tests in memory must not start it."""


def run(*arguments: str | Path, stdin: IO[bytes] | None = None, program: str = "cfsctl") -> Outcome:
    """Run a program to its end and measure it; no time is measured."""
    with tempfile.NamedTemporaryFile() as measured:
        done = subprocess.run(
            [sys.executable, "-c", LAUNCHER, measured.name, CFSCTL.parent / program, *arguments],
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        status, peak_kib = map(int, measured.read().split())
        return Outcome(status, done.stderr, peak_kib)


def check_refused(outcome: Outcome, status: int, message: str) -> None:
    assert outcome.status == status, outcome.error
    assert message in outcome.error
    assert "internal error" not in outcome.error
    assert outcome.peak_kib < MAX_KIB


@pytest.fixture
def store(tmp_path: Path) -> Path:
    cfsctl("init", "--insecure", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def endless() -> Iterator[IO[bytes]]:
    """Standard input that has zeros for ever."""
    with Path("/dev/zero").open("rb") as stream:
        yield stream


@pytest.mark.parametrize(
    "arguments", [("import-image", "x"), ("diff", "dump:-", "dump:-")], ids=lambda value: value[0]
)
def test_zeros_for_ever(store: Path, arguments: tuple[str, ...], endless: IO[bytes]) -> None:
    outcome = run("--repo", store, *arguments, stdin=endless)
    assert outcome.status not in {0, 1}, outcome.error
    assert outcome.peak_kib < MAX_KIB


@pytest.mark.parametrize("program", ["mkcomposefs", "composefs-info"])
def test_zeros_for_ever_in_place_of_a_file(program: str, tmp_path: Path) -> None:
    arguments = {
        "mkcomposefs": ("--from-file", "/dev/zero", str(tmp_path / "image")),
        "composefs-info": ("dump", "/dev/zero"),
    }
    outcome = run(*arguments[program], program=program)
    assert outcome.status == 1
    assert outcome.peak_kib < MAX_KIB


def make_commit(path: Path, files: int, directories: int, name_bytes: int = 6) -> None:
    """Write a repository with a commit of so many directories that all are one."""
    repository = FakeOstreeRepository()
    file = repository.add_file(b"")
    names = [b"%06d" % n + b"n" * (name_bytes - 6) for n in range(files)]
    inner = repository.add_metadata(ObjectKind.DIRTREE, format_dirtree([(name, file) for name in names], []))
    meta = repository.add_metadata(ObjectKind.DIRMETA, format_dirmeta(DIRECTORY))
    outer = [(b"%06d" % n, inner, meta) for n in range(directories)]
    root = repository.add_metadata(ObjectKind.DIRTREE, format_dirtree([], outer))
    repository.commit((root, meta), "x")
    repository.write(path)


def make_dirtree(number: int, size: int, name_bytes: int, file: Checksum | None) -> bytes:
    """Return a dirtree of about so many bytes; its files are all one, or none that exists."""
    count = size // (name_bytes + 1 + CHECKSUM_SIZE + 1 + 4)
    start = number << 32
    names = [b"%d%0*d" % (number, name_bytes - 1, n) for n in range(count)]
    end = bytes((name_bytes + 1,))
    if file is None:
        elements = [
            b"".join((name, b"\0", hashlib.sha256(b"%d" % (start + n)).digest(), end))
            for n, name in enumerate(names)
        ]
    else:
        elements = [b"".join((name, b"\0", file, end)) for name in names]
    return join_members([join_elements(elements), b""])


class Large(NamedTuple):
    """A repository whose metadata are near their ceilings, and what is wrong with it."""

    dirtrees: int
    name_bytes: int
    commit_bytes: int
    has_file: bool
    message: str


LARGE = {
    "many missing files": Large(3, 8, MAX_METADATA_SIZE - 1000, has_file=False, message="is missing from"),
    "long names": Large(3, 200, 0, has_file=False, message="is missing from"),
    "always the same file": Large(5, 200, 0, has_file=True, message="compressed ones"),
}


def write_large(path: Path, large: Large) -> None:
    repository = FakeOstreeRepository()
    file = repository.add_file(b"x") if large.has_file else None
    meta = repository.add_metadata(ObjectKind.DIRMETA, format_dirmeta(DIRECTORY))
    dirs = []
    for number in range(large.dirtrees):
        data = make_dirtree(number, MAX_METADATA_SIZE - 1000, large.name_bytes, file)
        dirs.append((b"%d" % number, repository.add_metadata(ObjectKind.DIRTREE, data), meta))
    root = repository.add_metadata(ObjectKind.DIRTREE, format_dirtree([], dirs))
    metadata = (("x", Variant("ay", bytes(large.commit_bytes))),)
    repository.commit((root, meta), "x", metadata=metadata)
    repository.write(path)


def test_many_names_of_files_that_do_not_exist(store: Path, tmp_path: Path) -> None:
    large = LARGE["many missing files"]._replace(dirtrees=1)
    write_large(tmp_path / "source", large)
    check_refused(run("--repo", store, "ostree", "pull-local", tmp_path / "source", "x"), 16, large.message)


@pytest.mark.deep
@pytest.mark.parametrize("name", LARGE)
def test_metadata_near_their_ceilings(store: Path, tmp_path: Path, name: str) -> None:
    large = LARGE[name]
    write_large(tmp_path / "source", large)
    with serve_directory(tmp_path / "source") as url:
        for verb, source in (("pull-local", str(tmp_path / "source")), ("pull", url)):
            check_refused(run("--repo", store, "ostree", verb, source, "x"), 16, large.message)
            shutil.rmtree(store)
            cfsctl("init", "--insecure", store)


@pytest.mark.parametrize(
    ("files", "directories", "name_bytes", "message"),
    [
        (1000, 5000, 6, "expand to 5005000"),
        (2000, 2150, 255, "bytes of its image"),
        (4000, 4000, 6, "entries in the whole tree"),
    ],
)
def test_a_commit_that_multiplies(
    store: Path, tmp_path: Path, files: int, directories: int, name_bytes: int, message: str
) -> None:
    make_commit(tmp_path / "source", files, directories, name_bytes)
    outcome = run("--repo", store, "ostree", "pull-local", tmp_path / "source", "x")
    check_refused(outcome, 16, message)
    assert not list((store / "streams").rglob("refs/ostree/*"))
    assert run("--repo", store, "gc").status == 0


def test_shared_directories_are_no_fault(store: Path, tmp_path: Path) -> None:
    make_commit(tmp_path / "source", 300, 300)
    cfsctl("--repo", store, "ostree", "pull-local", tmp_path / "source", "x")
    assert len(cfsctl("--repo", store, "ostree", "dump", "x").splitlines()) == 1 + 300 + 300 * 300


def test_a_commit_stream_that_unpacks_to_a_gigabyte(tmp_path: Path) -> None:
    import zstandard

    size = 1 << 30
    compressor = zstandard.ZstdCompressor().compressobj()
    pieces = [compressor.compress(CHUNK.pack(-size))]
    pieces += [compressor.compress(bytes(1 << 24)) for _ in range(size >> 24)]
    stream = b"".join([*pieces, compressor.flush()])
    names = zstandard.ZstdCompressor().compress(b"")
    head = format_head(Algorithm.SHA256, ContentType.OSTREE_COMMIT, size, (0, 0, len(names), len(stream)))
    commit = Checksum(b"c" * 32)
    with make_repository(tmp_path / "store", Algorithm.SHA256) as repository:
        stored = repository.objects.ensure_bytes(head + names + stream)
        repository.streams.link(stream_name(commit), stored.object_id, "ostree/x")
    for verb in ("log", "inspect", "dump", "verify"):
        outcome = run("--repo", tmp_path / "store", "ostree", verb, "x")
        assert outcome.status not in {0, 1}, (verb, outcome.error)
        assert outcome.peak_kib < MAX_KIB, verb


@pytest.mark.parametrize("levels", [2048, 6000])
def test_a_directory_that_is_too_deep(store: Path, tmp_path: Path, levels: int) -> None:
    top = tmp_path / "deep"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        for arguments in (
            ("create-image", str(top), "deep"),
            ("compute-id", str(top)),
            ("create-dumpfile", str(top)),
            ("diff", f"dir:{top}", f"dir:{top}"),
        ):
            check_refused(run("--repo", store, *arguments), 2 if arguments[0] == "diff" else 16, "2047")
        outcome = run(str(top), str(tmp_path / "image"), program="mkcomposefs")
        check_refused(outcome, 1, "2047")
        assert not (tmp_path / "image").exists()
        assert not list((store / "images").rglob("*"))
    finally:
        subprocess.run(["rm", "-rf", top], check=True)  # shutil.rmtree goes as deep as Python may


def test_links_among_the_refs_of_a_local_repository(tmp_path: Path) -> None:
    """Directories of refs that hold each other twice stand for any number of names."""
    make_commit(tmp_path / "source", 1, 1)
    heads = tmp_path / "source/refs/heads"
    for level in range(30):
        (heads / f"d{level}").mkdir()
        for name in ("a", "b"):
            (heads / f"d{level}" / name).symlink_to(f"../d{level + 1}")
    (heads / "d30").mkdir()
    outcome = run("ostree", "list-refs", f"file://{tmp_path}/source")
    check_refused(outcome, 16, "at most 10000 directories")


@pytest.mark.parametrize("option", ["--ca-file", "--client-certificate", "--client-key", "--auth-file"])
def test_files_for_a_server_that_never_end(store: Path, tmp_path: Path, option: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in ("/dev/zero", fifo):
        outcome = run("--repo", store, "ostree", "pull", option, path, "https://127.0.0.1:9/", "x")
        check_refused(outcome, 1, "expected a regular file")


def test_a_digest_of_zeros_for_ever() -> None:
    outcome = run("measure-file", "/dev/zero", program="composefs-info")
    check_refused(outcome, 1, "found a character device")


def test_a_summary_near_its_ceiling_that_is_wrong_at_its_end(store: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    refs: list[Value] = [(f"{n:05}".ljust(4000, "x"), (100, bytes(32), [])) for n in range(15_000)]
    data = bytearray(encode("(a(s(taya{sv}))a{sv})", (refs, [])))
    data[data.rindex(b"14999")] = 0xFF
    (tmp_path / "source/summary").write_bytes(data)
    with serve_directory(tmp_path / "source") as url:
        check_refused(run("ostree", "list-refs", url), 16, "expected UTF-8")
        check_refused(run("--repo", store, "ostree", "pull", "--mirror", url), 16, "expected UTF-8")


def test_files_with_large_attributes(store: Path, tmp_path: Path) -> None:
    repository = FakeOstreeRepository()
    value = os.urandom(60_000)
    tree: dict[bytes, Checksum] = {}
    for number in range(400):
        xattrs = tuple((b"user.%d\0" % n, b"%03d" % number + value) for n in range(4))
        tree[b"%03d" % number] = repository.add_file(b"", xattrs=xattrs)
    root = repository.add_metadata(ObjectKind.DIRTREE, format_dirtree(tree.items(), []))
    repository.commit((root, repository.add_metadata(ObjectKind.DIRMETA, format_dirmeta(DIRECTORY))), "x")
    repository.write(tmp_path / "source")
    outcome = run("--repo", store, "ostree", "pull-local", tmp_path / "source", "x")
    check_refused(outcome, 16, "attributes in commit")


def test_a_stream_with_as_many_references_as_there_may_be(tmp_path: Path) -> None:
    import zstandard

    body = zstandard.ZstdCompressor().compress(CHUNK.pack(-8) + bytes(8))
    names = zstandard.ZstdCompressor().compress(b"")
    sizes = (MAX_STREAM_REFS * 32, MAX_OBJECT_REFS * 32, len(names), len(body))
    head = format_head(Algorithm.SHA256, ContentType.OSTREE_COMMIT, 8, sizes)
    data = b"".join((head, bytes(sizes[0]), os.urandom(sizes[1]), names, body))
    with make_repository(tmp_path / "store", Algorithm.SHA256) as repository:
        stored = repository.objects.ensure_bytes(data)
        repository.streams.link(stream_name(Checksum(b"c" * 32)), stored.object_id, "ostree/x")
    check_refused(run("--repo", tmp_path / "store", "ostree", "log", "x"), 16, "commit stream header")
    assert run("--repo", tmp_path / "store", "gc", "--dry-run").peak_kib < MAX_KIB


def test_a_delta_of_very_many_objects(store: Path, tmp_path: Path) -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit({"a": b"x"}, "x")
    data = repository.objects[commit, ObjectKind.COMMIT]
    objects = b"".join(b"\1" + n.to_bytes(32, "big") for n in range(MAX_DELTA_OBJECTS + 1))
    kind = "(a{sv}aya(say)sstayay)"
    fields: Value = ([], 0, b"", bytes(commit), decode(kind, data), b"", [(0, bytes(32), 1, 1, objects)], [])
    (tmp_path / "delta").write_bytes(encode(f"(a{{sv}}tayay{kind}aya(uayttay)a(yaytt))", fields))
    outcome = run("--repo", store, "ostree", "apply-delta", tmp_path / "delta")
    check_refused(outcome, 16, f"at most {MAX_DELTA_OBJECTS} objects")


def test_a_document_of_very_many_objects(store: Path, tmp_path: Path) -> None:
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entries = ",".join(["{}"] * 1_390_000)
    (tmp_path / "layout/index.json").write_text(f'{{"schemaVersion": 2, "manifests": [{entries}]}}')
    outcome = run("--repo", store, "oci", "pull", f"oci:{tmp_path}/layout", "x")
    check_refused(outcome, 16, "objects and lists, found more")


def test_dumps_that_are_wrong_at_their_end(tmp_path: Path) -> None:
    line = b"/%07d 1 100644 1 0 0 0 0.0 - x -\n"
    text = b"".join([b"/ 4096 40755 2 0 0 0 0.0 - - -\n", *(line % n for n in range(200_000)), b"/bad\n"])
    (tmp_path / "late").write_bytes(text)
    (tmp_path / "early").write_bytes(b"/a 0 100644 1 0 0 0 0.0 - - -\n" * 4_000_000)
    for name in ("late", "early"):
        dump = f"dump:{tmp_path}/{name}"
        check_refused(run("diff", dump, dump), 2, "dump line")
