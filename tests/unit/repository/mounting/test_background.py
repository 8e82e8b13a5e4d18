"""A FUSE server that dies before it can tell anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import IntegrityError
from cfsctl.fuse.names import View
from cfsctl.repository import Repository, init_repository
from cfsctl.repository.mounting import background
from cfsctl.repository.mounting.background import FuseServerError, serve_in_background
from cfsctl.repository.mounting.fuse_server import FuseMount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import ObjectID


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    init_repository(str(tmp_path / "r"), insecure=True)
    with Repository.open(str(tmp_path / "r")) as repository:
        yield repository


def mount_of(image_id: ObjectID, place: Path) -> FuseMount:
    return FuseMount(image_id=image_id, mountpoint=str(place / "nowhere"), view=View.PLAIN)


def test_death_of_the_server_is_an_error(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(background, "_MODULE", "cfsctl.nothing")
    image_id = repository.objects.ensure_bytes(b"x").object_id
    with pytest.raises(FuseServerError, match=r"has ended before .*nowhere was mounted \(exit status 1\)"):
        serve_in_background(repository, mount_of(image_id, tmp_path))
    assert "No module named cfsctl.nothing" in capfd.readouterr().err


def test_error_of_the_server_is_raised_here(repository: Repository, tmp_path: Path) -> None:
    image_id = repository.objects.ensure_bytes(b"x").object_id
    repository.objects.remove(image_id)
    open_before = os.listdir("/proc/self/fd")
    with pytest.raises(IntegrityError, match="is missing from the repository"):
        serve_in_background(repository, mount_of(image_id, tmp_path))
    assert len(os.listdir("/proc/self/fd")) == len(open_before)
