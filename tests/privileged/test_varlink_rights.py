"""What the varlink service of systemd may do is enough, and the mounts that it passes on work."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

import cfsctl
from tests.support.varlink import OCI, REPOSITORY, Client, running_service

UNIT = Path(__file__).parents[2] / "packaging" / "systemd" / "cfsctl-varlink.service"

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("setpriv") is None, reason="setpriv is not installed (package util-linux)"
    ),
]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "usr").mkdir(parents=True)
    (tree / "usr" / "large").write_bytes(b"large" * 100)
    path = tmp_path / "repository"
    with cfsctl.Repository.init(path, insecure=True) as made:
        made.oci.build(str(tree), "site")
        made.create_image(tree, "plain")
    return path


def confined() -> list[str]:
    """Return what starts a program with the capabilities of the unit."""
    bounding = " ".join(re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE))
    kept = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in bounding.split())])
    return ["setpriv", "--bounding-set", kept, "--inh-caps", "-all", "--no-new-privs"]


def read(mount: int, path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY, dir_fd=mount)
    with open(fd, "rb") as file:
        return file.read()


def test_the_service_has_all_rights_that_it_needs(tmp_path: Path, repository: Path) -> None:
    with running_service(tmp_path, prefix=confined()) as service, service.connect() as client:
        handle = client.open(repository)
        for name, method, arguments in (
            ("name", f"{REPOSITORY}.Mount", {"name": "plain"}),
            ("image", f"{OCI}.OciMount", {"image": "site", "bootable": False}),
        ):
            assert arguments[name]
            answer = client.call(method, handle=handle, options={}, **arguments)
            (mount,) = answer.all_fds()
            assert read(mount, "usr/large") == b"large" * 100
            with pytest.raises(OSError):  # noqa: PT011 - read-only
                os.mkdir("new", dir_fd=mount)
            os.close(mount)
        collected = client.call(f"{REPOSITORY}.Gc", handle=handle, dry_run=False, roots=[]).parameters
        assert collected["result"]["images_pruned"] == 0
        assert client.call(f"{REPOSITORY}.Fsck", handle=handle).parameters["ok"]


def test_changes_go_to_the_directories_that_were_passed(tmp_path: Path, repository: Path) -> None:
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (upper, work)]
    with running_service(tmp_path, prefix=confined()) as service, service.connect() as client:
        mount = _mount(client, client.open(repository), fds)
    with open(os.open("usr/new", os.O_WRONLY | os.O_CREAT, dir_fd=mount), "w") as file:
        file.write("change")
    os.chown("usr/large", 1234, 1234, dir_fd=mount)
    os.close(mount)  # which outlived the service, and ends here
    assert (upper / "usr" / "new").read_text() == "change"
    assert (upper / "usr" / "large").stat().st_uid == 1234
    for fd in fds:
        os.close(fd)


def _mount(client: Client, handle: int, fds: list[int]) -> int:
    options = {"overlay": True, "read_write": True}
    method = f"{REPOSITORY}.Mount"
    answer = client.call(method, fds=fds, handle=handle, name="plain", options=options)
    assert answer.parameters == {"fd_index": 0}
    (mount,) = answer.all_fds()
    return mount
