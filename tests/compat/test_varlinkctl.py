"""systemd's varlinkctl as a client."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import cfsctl
from tests.support.programs import CFSCTL, find_varlinkctl
from tests.support.varlink import OCI, REPOSITORY, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.varlink import Service

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module", autouse=True)
def _varlinkctl() -> None:
    find_varlinkctl()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path) as running:
        yield running


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    with cfsctl.Repository.init(path, insecure=True) as made:
        made.oci.build(str(tmp_path / "tree"), "site")
        made.oci.push("site", f"oci:{tmp_path / 'layout'}:site")
    return path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find_varlinkctl(), "--json=short", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def call(address: str | Path, method: str, *options: str, **parameters: object) -> list[Any]:
    done = run(*options, "call", address, method, json.dumps(parameters))
    assert done.returncode == 0, done.stderr
    return [json.loads(line.lstrip("\x1e")) for line in done.stdout.splitlines() if line.strip("\x1e ")]


def test_what_it_says_about_the_service(service: Service) -> None:
    done = run("info", service.address)
    assert done.returncode == 0, done.stderr
    assert "org.composefs.Oci" in done.stdout
    described = run("introspect", service.address, REPOSITORY)
    assert described.returncode == 0, described.stderr
    assert "method OpenRepository(" in described.stdout


def test_a_handle_is_good_for_the_next_call(service: Service, repository: Path) -> None:
    (opened,) = call(service.address, f"{REPOSITORY}.OpenRepository", path=os.fspath(repository))
    (listed,) = call(service.address, f"{OCI}.ListImages", handle=opened["handle"])
    assert [image["name"] for image in listed["images"]] == ["site"]
    refused = run("call", service.address, f"{OCI}.Inspect", json.dumps({"handle": 1, "image": "other"}))
    assert refused.returncode != 0
    assert f"{OCI}.NoSuchImage" in refused.stderr


def test_replies_that_follow_each_other(service: Service, repository: Path, tmp_path: Path) -> None:
    (opened,) = call(service.address, f"{REPOSITORY}.OpenRepository", path=os.fspath(repository))
    frames = call(
        service.address,
        f"{OCI}.Pull",
        "--more",
        handle=opened["handle"],
        image=f"oci:{tmp_path / 'layout'}:site",
        local_fetch="disabled",
        bootable=False,
    )
    assert len(frames) > 1
    assert frames[-1]["completed"]["manifest_digest"].startswith("sha256:")


def test_a_service_for_one_call(repository: Path) -> None:
    (opened,) = call(f"exec:{CFSCTL}", f"{REPOSITORY}.OpenRepository", path=os.fspath(repository))
    assert opened["handle"] == 1
