"""What commands import to start with: nothing that they do without."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cfsctl.ostree.summary.format import Summary, SummaryRef, format_summary
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import make_repository
from tests.support.web import serve_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NETWORK = {"requests", "urllib3", "pycurl", "ssl", "http.client", "email", "asyncio"}
NEVER = NETWORK | {
    "cryptography",
    "isal",
    "multiprocessing",
    "concurrent.futures",
    "importlib.metadata",
    "importlib.resources",
    "argparse",
    "configparser",
    "tempfile",
    "random",
    "decimal",
    "logging",
    "traceback",
    "click.shell_completion",
}
"""Modules that only pulls, signatures, or nothing at all needs."""

STREAMS = {"zstandard"}
HASHES = {"_hashlib"}
"""OpenSSL, which takes longer to load than most commands run."""

COMPARING = {"cfsctl.inspection.diff", "cfsctl.inspection.report", "cfsctl.library.comparison"}
WRITING = {"xxhash"}
JSON = {"json"}
WORKERS = {"pickle", "socket", "subprocess", "cfsctl.workers.pool"}
"""What only those need who start processes."""

PULLING = {"isal", "cfsctl.workers.pool"}
"""Files are unpacked, and the pool runs the tasks of a small pull in the process that asks."""

NOT_PULLING = {
    "calendar",
    "selectors",
    "cfsctl.cli.columns",
    "cfsctl.cli.listing",
    "cfsctl.ostree.delta.choice",
    "cfsctl.ostree.store.images",
    "cfsctl.ostree.store.inline_objects",
    "cfsctl.repository.gc.sweep",
    "cfsctl.workers.child",
    "cfsctl.workers.pickled_errors",
    "cfsctl.workers.process",
}
"""What a small pull from a directory does without, although other ways of a pull need it."""

EVERYTHING = NEVER | STREAMS | HASHES | COMPARING | WRITING | JSON | WORKERS

CHANGES = {
    "calendar",
    "heapq",
    "cfsctl.cli.columns",
    "cfsctl.http.freshness",
    "cfsctl.library.remotes",
    "cfsctl.ostree.delta.apply",
    "cfsctl.ostree.delta.choice",
    "cfsctl.ostree.plan",
    "cfsctl.ostree.pull.run",
    "cfsctl.ostree.summary.index",
    "cfsctl.repository.gc.image_objects",
    "random",
    "cfsctl.workers",
}
"""What a pull needs only where something is new, a request fails, or an earlier target is kept."""

REPOSITORY = ["--repo", "repo"]
META = {"json"}
"""Whoever opens a repository reads meta.json."""

COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "--help": (["--help"], set()),
    "--version": (["--version"], set()),
    "gc --help": (["gc", "--help"], set()),
    "ostree --help": (["ostree", "--help"], set()),
    "ostree pull --help": (["ostree", "pull", "--help"], set()),
    "images": ([*REPOSITORY, "images"], META),
    "image-objects": ([*REPOSITORY, "image-objects", "web"], META),
    "dump-files": ([*REPOSITORY, "dump-files", "web", "/usr"], META),
    "init": (["init", "--insecure", "other"], META),
    "gc": ([*REPOSITORY, "gc", "--dry-run"], META),
    "fsck": ([*REPOSITORY, "fsck"], META | HASHES),
    "ostree images": ([*REPOSITORY, "ostree", "images"], META),
    "transaction": ([*REPOSITORY, "transaction", "true"], META | {"subprocess"}),
    "create-image": ([*REPOSITORY, "create-image", "tree"], META | HASHES | WRITING),
    "compute-id": (["--no-repo", "compute-id", "tree"], HASHES | WRITING | META),
    "create-dumpfile": (["--no-repo", "create-dumpfile", "tree"], HASHES | META),
    "diff": ([*REPOSITORY, "diff", "dir:tree", "image:web"], META | HASHES | COMPARING),
    "ls": ([*REPOSITORY, "ls", "image:web"], META | HASHES | COMPARING),
    "show": ([*REPOSITORY, "show", "image:web", "usr/note"], META | HASHES | COMPARING),
    "extract": ([*REPOSITORY, "extract", "image:web", "extracted"], META | HASHES | COMPARING),
    "mkcomposefs --from-file": (["mkcomposefs", "--from-file", "dump", "image"], WRITING),
    "composefs-info dump": (["composefs-info", "dump", "web.img"], set()),
    "composefs-info objects": (["composefs-info", "objects", "web.img"], set()),
    "mount.composefs --help": (["mount.composefs", "--help"], {"logging", "traceback"}),
}
"""Arguments of each command, and what it may import of what others do without."""

PROGRAM = """
import atexit
import sys
before = set(sys.modules)
atexit.register(lambda: print(*sorted(set(sys.modules) - before), file=sys.stderr))
from cfsctl.cli.main import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("imports")
    (place / "tree" / "usr").mkdir(parents=True)
    (place / "tree" / "usr" / "note").write_text("a note\n")
    make_repository(place / "repo").close()
    imported(["--repo", "repo", "create-image", "tree", "web"], place)
    imported(["mkcomposefs", "tree", "web.img"], place)
    (place / "dump").write_text("/ 0 40755 2 0 0 0 0.0 - - -\n/file 0 100644 1 0 0 0 0.0 - - -\n")
    return place


def imported(arguments: list[str], place: Path) -> set[str]:
    """Run a command and return the modules that it brought in."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={name: value for name, value in os.environ.items() if not name.startswith("CFSCTL_")},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_start_imports_only_what_is_needed(name: str, place: Path) -> None:
    arguments, allowed = COMMANDS[name]
    assert imported(arguments, place) & EVERYTHING <= allowed


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Serve an OSTree repository with a commit of the name web, and a summary that is not new."""
    served = FakeOstreeRepository()
    commit = served.commit({"note": b"a note\n" * 100}, "web")
    served.write(tmp_path / "served")
    summary = tmp_path / "served" / "summary"
    summary.write_bytes(format_summary(Summary({"web": SummaryRef("web", commit, 100, ())}, ())))
    os.utime(summary, (1_600_000_000, 1_600_000_000))
    with serve_directory(tmp_path / "served") as url:
        yield url


def test_pull_of_nothing_new_imports_no_more_than_a_request_needs(place: Path, url: str) -> None:
    pull = [*REPOSITORY, "ostree", "pull", url, "web"]
    modules = imported(pull, place)
    assert "cfsctl.ostree.pull.run" in modules
    for _ in range(60):  # files that were just written are not relied on yet
        modules = imported(pull, place)
        if "cfsctl.ostree.pull.run" not in modules:
            break
    assert modules & (EVERYTHING | CHANGES) <= META | HASHES | STREAMS | {"pycurl"}


@pytest.mark.parametrize("name", ["gc", "image-objects"])
def test_objects_of_images_are_found_without_what_reads_trees(name: str, place: Path) -> None:
    found = imported(COMMANDS[name][0], place)
    assert "cfsctl.erofs.read.objects" in found
    assert not found & {"cfsctl.erofs.read.tree", "cfsctl.erofs.read.leaves", "cfsctl.erofs.stubs"}


def test_small_pull_imports_only_what_is_needed(place: Path) -> None:
    source = FakeOstreeRepository()
    source.commit({"usr": {"note": b"a note\n" * 99, "link": "note"}}, "main")
    source.write(place / "source")
    found = imported([*REPOSITORY, "ostree", "pull-local", "source", "main"], place)
    assert found & EVERYTHING <= META | HASHES | STREAMS | WRITING | PULLING
    assert "cfsctl.ostree.pull.run" in found
    assert not found & NOT_PULLING


def test_the_package_itself_imports_nothing_of_it(place: Path) -> None:
    program = "import sys; import cfsctl; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, cwd=place
    )
    modules = set(done.stdout.split())
    assert not modules & (EVERYTHING | {"click"})
