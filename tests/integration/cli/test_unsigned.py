"""A pull that verifies no signatures says so: once, on standard error, and how to demand them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cfsctl.oci.registry.settings import RegistrySettings
from cfsctl.oci.sources.registry import RegistrySource
from tests.fakes.faulty_server import FaultyServer
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.programs import cfsctl, run_cfsctl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAID = "no signatures were verified; --gpg-key and --verify-key demand them"


@pytest.fixture
def commit(tmp_path: Path) -> str:
    fake = FakeOstreeRepository()
    found = fake.commit({"usr": {"file": b"x" * 5000}}, "main")
    fake.commit({"usr": {"file": b"y" * 5000}}, "other")
    fake.write(tmp_path / "source")
    cfsctl("init", "--insecure", tmp_path / "r")
    return found.hex()


@pytest.fixture
def server(tmp_path: Path, commit: str) -> Iterator[FaultyServer]:
    assert commit
    with FaultyServer(tmp_path / "source") as server:
        yield server


def test_said_once_in_a_run(tmp_path: Path, server: FaultyServer) -> None:
    store = f"--repo={tmp_path / 'r'}"
    url = server.url.replace("http://", "http://joe:hunter2@")
    done = run_cfsctl(store, "ostree", "pull", url, "main", "other")
    assert done.returncode == 0
    assert done.stderr.count(SAID) == 1
    assert SAID not in done.stdout
    assert "hunter2" not in done.stderr
    done = run_cfsctl(store, "--json", "ostree", "pull", url, "main")
    assert done.stderr == ""
    assert json.loads(done.stdout)["commits"][0]["signatures"] == []


def test_where_nothing_is_said(tmp_path: Path, server: FaultyServer, commit: str) -> None:
    store = f"--repo={tmp_path / 'r'}"
    for words in (
        ["-q", "ostree", "pull", server.url, "main"],
        ["--log-level=error", "ostree", "pull", server.url, "main"],
        ["ostree", "pull", server.url, commit],
        ["ostree", "pull-local", str(tmp_path / "source"), "main"],
        ["ostree", "pull", f"file://{tmp_path / 'source'}", "main"],
        ["ostree", "pull", server.url, "main", "--plan"],
    ):
        done = run_cfsctl(store, *words)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_remote_without_keys(tmp_path: Path, server: FaultyServer) -> None:
    remotes = f"--remotes={tmp_path / 'remotes'}"
    cfsctl("remote", "add", remotes, "os", server.url, "--no-gpg-verify")
    done = run_cfsctl(f"--repo={tmp_path / 'r'}", "ostree", "pull", remotes, "os", "main")
    assert (done.returncode, done.stderr.count(SAID)) == (0, 1)


@pytest.mark.parametrize(
    ("name", "is_secure", "is_told"),
    [
        ("registry.example/a/b:1", False, True),
        ("registry.example/a/b", True, False),
        (f"registry.example/a/b@sha256:{'0' * 64}", False, False),
        ("localhost:5000/a:1", False, False),
        ("127.0.0.1:5000/a:1", False, False),
    ],
)
def test_images_that_nothing_proves(name: str, is_secure: bool, is_told: bool) -> None:  # noqa: FBT001 - parameters
    source = RegistrySource(name, RegistrySettings(verifies_tls=is_secure, registries_files=()))
    assert (source.caution is not None) == is_told
    source.close()
