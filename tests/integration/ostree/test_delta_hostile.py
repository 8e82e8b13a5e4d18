"""Every hostile delta meets its verdict, by the program as a user runs it.

Each case runs in a process of its own with a limit of its processor time, since other work on the machine is
no fault of ours, and of the address space of it and of each of its workers.
"""

from __future__ import annotations

import re
import resource
import shutil
from typing import TYPE_CHECKING

import pytest

from cfsctl.ostree.exchange.apply_delta import apply_delta
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.repository import Repository
from tests.support.hostile import HOSTILE, names_in, read_verdicts, unpack_repositories
from tests.support.programs import run_cfsctl
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

DELTAS = HOSTILE / "deltas"
CPU_S = 10
MEMORY_BYTES = 300 << 20


VERDICTS = read_verdicts("deltas.tsv")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_repositories(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def store_of_good(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the commit that the patches start from; not to be changed."""
    path = tmp_path_factory.mktemp("base") / "store"
    with make_repository(path) as repository:
        pull(repository, LocalSource(str(hostile / "good")), "x", PullOptions(workers=0))
    return path


def starts_from_good(case: str) -> bool:
    return case.startswith("patch-") or case == "write-from-source"


@pytest.fixture(scope="module")
def pulled(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Links of the two target commits in a repository that pulled them."""
    path = tmp_path_factory.mktemp("pulled") / "store"
    links = {}
    with make_repository(path) as repository:
        for name in ("good", "delta-target"):
            result = pull(repository, LocalSource(str(hostile / name)), "x", PullOptions(workers=0))
            links[name == "delta-target"] = path / f"streams/ostree-commit-{result.commit.hex()}"
    return links


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path, store_of_good: Path) -> Path:
    """A repository with what the case needs."""
    path = tmp_path / "store"
    if starts_from_good(request.node.callspec.params["case"]):
        shutil.copytree(store_of_good, path, symlinks=True)
    else:
        make_repository(path).close()
    return path


def apply(store: Path, case: str) -> subprocess.CompletedProcess[str]:
    limits = {resource.RLIMIT_AS: MEMORY_BYTES, resource.RLIMIT_CPU: CPU_S}
    return run_cfsctl("--repo", store, "ostree", "apply-delta", DELTAS / case, limits=limits)


def check_complete(store: Path, case: str, pulled: dict[bool, Path]) -> None:
    """Check that the stored commit is what a pull of it gives."""
    expected = pulled[starts_from_good(case)]
    assert (store / "streams" / expected.name).readlink() == expected.readlink()


def test_every_case_is_there() -> None:
    assert {path.name for path in DELTAS.iterdir()} == set(VERDICTS)
    assert len(VERDICTS) == 59


MESSAGES = {
    "bspatch-no-source": "part 0: file object .*: expected a source for the patch, found none",
    "commit-other": "commit object in the superblock: expected digest ",
    "compression-g": "part 0: part: expected compression 0x00 .none. or 0x78 .xz., found 0x67",
    "digest": "part 0: part as stored: expected digest 0101",
    "from-unknown": "base commit 0505.* not found in repository",
    "not-a-delta": "delta .*/not-a-delta: superblock: expected ",
    "object-missing": "file object .* is missing from delta .*/object-missing",
    "objlist-commit": "part 0: expected objects of type 1, 2 or 3, found type 4",
    "open-short": "part 0: file object .*: expected 10 bytes of content, found 5",
    "ops-unknown": "part 0: program: expected an operation, found 0x7a",
    "patch-trailing": "part 0: patch: expected its end after 3004 bytes of content, found 8 bytes more",
    "recursion": "deltas to apply first: expected none, found 64 bytes",
    "version-1": "part 0: expected version 0, found 1",
    "xz-bomb-512m": "part 0: part: expected at most .* bytes when decompressed, found more",
    "xz-trailing": "part 0: part: expected nothing after the compressed data, found more bytes",
}
"""What some of the errors say: the part, the object, and the reason."""


@pytest.mark.parametrize("case", sorted(VERDICTS))
def test_verdict(store: Path, pulled: dict[bool, Path], case: str) -> None:
    verdict = VERDICTS[case]
    before = names_in(store)
    done = apply(store, case)
    if verdict == "accepted" or (verdict != "refused" and done.returncode == 0):
        assert done.returncode == 0, done.stderr
        check_complete(store, case, pulled)
        return
    assert done.returncode > 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert names_in(store) == before
    if case in MESSAGES:
        assert re.search(MESSAGES[case], done.stderr), done.stderr
    good = DELTAS / ("patch-good" if starts_from_good(case) else "good")
    with Repository.open(str(store)) as repository:
        apply_delta(repository, str(good), workers=0)
    check_complete(store, case, pulled)


@pytest.mark.parametrize("case", ["good"])
def test_a_commit_that_is_here_needs_nothing(store: Path, case: str) -> None:
    assert apply(store, case).stdout.endswith("objects 4 metadata + 3 files applied\n")
    assert apply(store, case).stdout.endswith("objects 0 metadata + 0 files applied\n")
