"""Every hostile repository meets its verdict, by the program as a user runs it.

Each case runs in a process of its own with a limit of time, and of memory: of the address space of it and of
each of its workers, which is more than what they have resident.
"""

from __future__ import annotations

import re
import resource
import shutil
from typing import TYPE_CHECKING

import pytest

from cfsctl.ostree.pull.pull import PullOptions
from cfsctl.ostree.pull.pull import pull as pull_here
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.repository import Repository
from tests.support.hostile import names_in, read_verdicts, unpack_repositories
from tests.support.programs import run_cfsctl
from tests.support.repositories import make_repository, view

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

MEMORY_BYTES = 300 << 20

WITHOUT_SUMMARY = {
    "html-summary": "accepted",
    "summary-dup": "accepted",
    "summary-id-31": "accepted",
    "summary-other-ref": "accepted",
    "summary-size-lie": "accepted",
}
"""A local pull reads no summary, and these repositories have no other defect."""

INDIVIDUAL = {"downgrade"}
"""Cases with a test of their own below."""


VERDICTS = read_verdicts("verdicts.tsv")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_repositories(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_repository(tmp_path / "store").close()
    return tmp_path / "store"


def pull(store: Path, source: Path, ref: str = "x") -> subprocess.CompletedProcess[str]:
    limits = {resource.RLIMIT_AS: MEMORY_BYTES}
    return run_cfsctl("--repo", store, "ostree", "pull-local", source, ref, limits=limits)


def check_refused(store: Path, before: list[str], done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert names_in(store) == before


def check_good_pull(store: Path, good: Path) -> None:
    source = LocalSource(str(good))
    with Repository.open(str(store)) as repository:
        assert pull_here(repository, source, "x", PullOptions(workers=0)).tag == "x"
    source.close()


def test_every_case_is_there(hostile: Path) -> None:
    assert {path.name for path in hostile.iterdir()} == set(VERDICTS)
    assert len(VERDICTS) == 87


@pytest.mark.parametrize("case", sorted(set(VERDICTS) - INDIVIDUAL))
def test_verdict(hostile: Path, store: Path, case: str) -> None:
    verdict = WITHOUT_SUMMARY.get(case, VERDICTS[case])
    outside = sorted(view(hostile / case))
    done = pull(store, hostile / case)
    if verdict == "accepted" or (verdict != "refused" and done.returncode == 0):
        assert done.returncode == 0, done.stderr
        assert any(name.startswith("streams/refs/ostree/") for name in names_in(store))
    else:
        check_refused(store, [], done)
    assert sorted(view(hostile / case)) == outside
    if verdict == "either":
        assert pull(store, hostile / case).returncode == done.returncode
    if done.returncode:
        check_good_pull(store, hostile / "good")


MESSAGES = {
    "binding-other": "expected a commit for ref 'x', found one that is bound to 'other'",
    "binding-wrong-type": "ostree.ref-binding: expected a list of refs, found type s",
    "deflate-bomb": "file object .*: expected 10 bytes of content, found more",
    "header-length-4g": "file object .*: header length: expected 26 to 16777216",
    "html-commit": "commit object .*: expected digest ",
    "html-ref": "ref 'x' of .*: expected ",
    "missing-dirtree": "dirtree object .* is missing from ",
    "missing-filez": "file object .* is missing from ",
    "name-dotdot": r"dirtree object .*: name: expected one path component, found b'\.\.'",
    "size-too-big": "file object .*: expected 1099511627776 bytes of content, found 10",
    "tree-doubling-30": "at most 10000000 entries in the whole tree",
    "type-confusion": "object .*: expected one kind, found it named as ",
}


@pytest.mark.parametrize("case", sorted(MESSAGES))
def test_the_message_names_object_and_reason(hostile: Path, store: Path, case: str) -> None:
    done = pull(store, hostile / case)
    assert done.returncode != 0
    assert re.search(MESSAGES[case], done.stderr), done.stderr


def test_a_bound_commit_can_be_pulled_by_its_id(hostile: Path, store: Path) -> None:
    commit = (hostile / "binding-other/refs/heads/x").read_text().strip()
    assert pull(store, hostile / "binding-other", commit).returncode == 0


def test_a_ref_does_not_go_back_in_time(hostile: Path, store: Path, tmp_path: Path) -> None:
    source = shutil.copytree(hostile / "downgrade", tmp_path / "downgrade")
    ref = source / "refs/heads/x"
    older = ref.read_text()
    ref.write_text((source / "newer").read_text())
    assert pull(store, source).returncode == 0
    before = names_in(store)
    for text in (older, (source / "same-time").read_text()):
        ref.write_text(text)
        done = pull(store, source)
        check_refused(store, before, done)
        assert "ref 'x': expected a commit newer than" in done.stderr
    assert pull(store, source, older.strip()).returncode == 0
