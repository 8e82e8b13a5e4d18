"""Hints that name the cause that is there."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli.errors import error_lines, exit_status
from cfsctl.errors import ExitCode
from cfsctl.repository import Repository
from cfsctl.repository.objects.space import NoSpaceError
from tests.fakes.faulty_server import FaultyServer
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.programs import CFSCTL, cfsctl, run_cfsctl

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    cfsctl("init", "--insecure", tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("mode", "hint"),
    [
        ("archive-z2", "the repository there is incomplete"),
        ("bare", "only repositories in archive mode can be pulled over HTTP, and this one is in mode bare"),
    ],
)
def test_missing_content_is_explained(tmp_path: Path, store: Path, mode: str, hint: str) -> None:
    source = FakeOstreeRepository()
    source.commit({"usr": {"file": b"x" * 1000}}, "ref")
    source.write(tmp_path / "ostree")
    (tmp_path / "ostree" / "config").write_text(f"[core]\nrepo_version=1\nmode={mode}\n")
    for path in (tmp_path / "ostree" / "objects").glob("*/*.filez"):
        path.unlink()
    with FaultyServer(tmp_path / "ostree") as server:
        done = run_cfsctl("--repo", store, "ostree", "pull", server.url, "ref")
    assert done.returncode == ExitCode.INVALID_DATA
    assert hint in done.stderr


def test_downgrade_names_the_option(tmp_path: Path, store: Path) -> None:
    source = FakeOstreeRepository()
    source.commit({"usr": {"file": b"new"}}, "ref", timestamp_s=1_700_000_000)
    source.write(tmp_path / "ostree")
    cfsctl("--repo", store, "ostree", "pull-local", tmp_path / "ostree", "ref")
    source.commit({"usr": {"file": b"old"}}, "ref", timestamp_s=1_600_000_000)
    source.write(tmp_path / "ostree")
    done = run_cfsctl("--repo", store, "ostree", "pull-local", tmp_path / "ostree", "ref")
    assert done.returncode == ExitCode.POLICY
    assert "--allow-downgrade" in done.stderr
    cfsctl("--repo", store, "ostree", "pull-local", "--allow-downgrade", tmp_path / "ostree", "ref")


def test_export_names_the_modes_that_it_can_write(tmp_path: Path, store: Path) -> None:
    source = FakeOstreeRepository()
    source.commit({"usr": {"file": b"x"}}, "ref")
    source.write(tmp_path / "ostree")
    cfsctl("--repo", store, "ostree", "pull-local", tmp_path / "ostree", "ref")
    config = tmp_path / "ostree" / "config"
    config.write_text("[core]\nrepo_version=1\nmode=bare-split-xattrs\n")
    done = run_cfsctl("--repo", store, "ostree", "export", "ref", tmp_path / "ostree")
    assert done.returncode != 0
    assert done.stderr.endswith("expected one of archive, bare, bare-user, bare-user-only\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_file_system_is_that_of_the_repository(store: Path, number: int) -> None:
    with pytest.raises(NoSpaceError) as caught, Repository.open(str(store), insecure=True):
        raise OSError(number, os.strerror(number), "d7")
    error = caught.value
    assert exit_status(error) == ExitCode.NO_SPACE
    message, hint = error_lines(error)
    assert message.startswith(f"Error: repository {store}: {os.strerror(number)} (now ")
    assert "inodes free on its file system)" in message
    assert hint.startswith("Hint: free some space")


def test_other_errors_stay_what_they_are(store: Path) -> None:
    with pytest.raises(PermissionError) as caught, Repository.open(str(store), insecure=True):
        raise PermissionError(errno.EACCES, "no", "/file")
    assert caught.value.filename == "/file"


def test_what_else_is_known_about_a_full_file_system_is_said(store: Path) -> None:
    with (
        pytest.raises(NoSpaceError, match=r"/tree/file: No space left on device \(storing its content\)"),
        Repository.open(str(store), insecure=True),
    ):
        raise OSError(errno.ENOSPC, "No space left on device (storing its content)", "/tree/file")


@pytest.mark.parametrize("name", ["a", "c"])
def test_export_names_what_is_in_its_way(tmp_path: Path, store: Path, name: str) -> None:
    source = FakeOstreeRepository()
    source.commit({"usr": {"file": b"x"}}, "ref")
    source.write(tmp_path / "from")
    cfsctl("--repo", store, "ostree", "pull-local", tmp_path / "from", "ref")
    target = tmp_path / "to"
    source.write(target)
    (target / "refs" / "heads" / "a").write_bytes(b"")
    (target / "refs" / "heads" / "c").mkdir()
    reference, reason = {"a": ("a/b", "Not a directory"), "c": ("c", "Is a directory")}[name]
    done = run_cfsctl("--repo", store, "ostree", "export", "ref", target, "--reference", reference)
    assert done.stderr.splitlines()[0] == f"Error: {target}/refs/heads/{name}: {reason}"


def test_export_names_an_object_directory_that_is_none(tmp_path: Path, store: Path) -> None:
    source = FakeOstreeRepository()
    source.commit({"usr": {"file": b"x"}}, "ref")
    source.write(tmp_path / "from")
    cfsctl("--repo", store, "ostree", "pull-local", tmp_path / "from", "ref")
    target = tmp_path / "to"
    FakeOstreeRepository().write(target)
    for number in range(256):
        (target / "objects" / f"{number:02x}").write_bytes(b"")
    done = run_cfsctl("--repo", store, "ostree", "export", "ref", target)
    assert done.stderr.startswith(f"Error: {target}/objects/")
    assert done.stderr.splitlines()[0].endswith(": Not a directory")


def test_closed_standard_input_is_named(tmp_path: Path, store: Path) -> None:
    command = f'exec "{CFSCTL}" --repo "{store}" diff dump:- dir:{tmp_path} <&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, b"Error: standard input: Bad file descriptor\n")
