"""Real fs-verity: a secure repository on a kernel that has it, mounted with every byte verified."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cfsctl.digest import Algorithm, object_path
from cfsctl.fsverity.merkle import compute_digest
from tests.support.archives import unpack_archive
from tests.support.guest import Guest, require_guest
from tests.support.programs import cfsctl

pytestmark = pytest.mark.guest

PROJECT = Path(__file__).parents[2]
REF = "debian/12/minimal"
LARGE = bytes(range(256)) * 1200
FILES = {
    "small": b"inline",
    "sub/medium": b"a file of some size" * 100,
    "sub/large": LARGE,
    "empty": b"",
}

Steps = dict[str, dict[str, Any]]


def make_tree(path: Path) -> None:
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / "link").symlink_to("small")
    for found in [*path.rglob("*"), path]:
        # Making a disk from a directory keeps whole seconds only.
        os.utime(found, (1_600_000_000, 1_600_000_000), follow_symlinks=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guest") / "tree"
    make_tree(path)
    return path


@pytest.fixture(scope="module")
def steps(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """Boot once, and return what each step found."""
    require_guest()
    guest = Guest(tmp_path_factory.mktemp("machine"))
    shutil.copytree(tree, guest.root / "tree", symlinks=True)
    with tarfile.open(PROJECT / "demo/repo.tar.xz") as archive:
        unpack_archive(archive, guest.root / "ostree")
    shutil.copy(Path(__file__).with_name("inside.py"), guest.root / "inside.py")
    damaged = compute_digest(LARGE, Algorithm.SHA512).hex()
    status, output = guest.run(f"python3 /inside.py {REF} {damaged}")
    assert status == 0, output
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {step.pop("step"): step for step in found}


@pytest.fixture(params=["sha256", "sha512"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    "step", ["init", "pull", "create", "strict", "mount", "umount", "ostree mount", "ostree umount", "fsck"]
)
def test_secure_repository_works(steps: Steps, name: str, step: str) -> None:
    found = steps[f"{name} {step}"]
    assert found["status"] == 0, found


def test_kernel_measures_what_the_names_say(steps: Steps, name: str) -> None:
    found = steps[f"{name} measures"]
    assert found["bad"] == 0
    assert found["good"] > 20


def test_image_is_the_same_everywhere(steps: Steps, tree: Path, name: str) -> None:
    here = cfsctl("--no-repo", f"--hash={name}", "compute-id", "--no-propagate-usr-to-root", tree).strip()
    assert steps[f"{name} create"]["out"].strip().removeprefix(f"{name}:") == here.removeprefix(f"{name}:")


def test_mount_requires_verity_and_gives_the_content(steps: Steps, name: str) -> None:
    found = steps[f"{name} mounted"]
    assert "verity=require" in found["options"]
    assert found["files"] == {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}


def test_commit_is_mounted_with_verity(steps: Steps, name: str) -> None:
    found = steps[f"{name} ostree mounted"]
    assert "verity=require" in found["options"]
    assert found["count"] > 20


def test_collection_leaves_what_is_mounted(steps: Steps) -> None:
    """On this kernel the mount shows neither the image's file nor the directory of objects."""
    assert steps["live gc"]["status"] == 0
    assert steps["live mounted"]["files"] == {
        path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()
    }
    assert "Objects: 0 removed" in steps["live gc"]["out"]
    assert "Objects: 0 removed" not in steps["dead gc"]["out"]
    assert steps["dead fsck"]["status"] == 0


def test_flipped_byte_is_found(steps: Steps) -> None:
    found = steps["damaged fsck"]
    assert found["status"] == 15
    assert object_path(compute_digest(LARGE, Algorithm.SHA512)) in found["out"]


def test_flipped_byte_is_not_read(steps: Steps) -> None:
    files = steps["damaged mounted"]["files"]
    assert steps["damaged mount"]["status"] == 0
    assert files["sub/large"] == "Input/output error"
    assert files["sub/medium"] == hashlib.sha256(FILES["sub/medium"]).hexdigest()


def test_insecure_repository_takes_what_there_is(steps: Steps) -> None:
    assert steps["insecure create"]["status"] == 0
    assert steps["insecure measures"]["bad"] == 0
    assert steps["insecure measures"]["good"] > 2


def test_required_verity_is_refused_where_the_repository_does_without(steps: Steps) -> None:
    found = steps["insecure strict"]
    assert found["status"] != 0
    assert "verity" in found["err"]


def test_secure_repository_needs_a_file_system_with_verity(steps: Steps) -> None:
    found = steps["nowhere init"]
    assert found["status"] != 0
    assert "verity" in found["err"]
