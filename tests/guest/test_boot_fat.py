"""Boot entries on a FAT partition, as nearly all boot partitions are, in a machine whose kernel has FAT."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.guest.test_boot import make_layout
from tests.support.guest import KERNEL, Guest, find_program, require_guest

pytestmark = [pytest.mark.guest, pytest.mark.deep]

Steps = dict[str, dict[str, Any]]

ESP_BYTES = 32 << 20


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    require_guest()
    if not list((KERNEL / "modules").glob("vfat.ko*")):
        pytest.skip(
            "the kernel for the guest has no FAT (remove .guest, and run tools/guest-kernel.sh .guest)"
        )
    if shutil.which("mkfs.vfat", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        pytest.skip("mkfs.vfat is not installed (package dosfstools)")
    work = tmp_path_factory.mktemp("fat")
    guest = Guest(work)
    guest.store_bytes = 1 << 30
    layout = make_layout(guest.root / "layout", b"initramfs" * 1000)
    assert layout.entries
    esp = guest.root / "esp.img"
    esp.write_bytes(b"")
    with esp.open("r+b") as file:
        file.truncate(ESP_BYTES)
    subprocess.run([find_program("mkfs.vfat"), "-F", "16", str(esp)], check=True, capture_output=True)
    shutil.copy(Path(__file__).with_name("fat_boot.py"), guest.root / "fat_boot.py")
    status, output = guest.run("python3 /fat_boot.py /esp.img /layout", timeout_s=1500)
    assert status == 0, output[-3000:]
    return {step.pop("step"): step for step in map(json.loads, output.splitlines())}


def test_entries_are_installed(steps: Steps) -> None:
    for name in ("prepare", "again", "second", "oci", "oci again", "remove"):
        assert steps[name]["status"] == 0, steps[name]
        assert steps[name]["found"]["left"] == [], name
    for name in ("prepare", "again", "second"):
        assert steps[name]["found"]["broken"] == [], name
    assert "6.12.conf" in steps["oci"]["found"]["entries"]
    assert not any("missing" in line for line in steps["oci"]["found"]["broken"])  # of another tree
    assert steps["again"]["found"] == steps["prepare"]["found"]
    assert len(steps["prepare"]["found"]["entries"]) == 1
    assert len(steps["second"]["found"]["entries"]) == 2
    assert len(json.loads(steps["list"]["out"])["deployments"]) == 2


def test_full_partition_is_left_alone(steps: Steps) -> None:
    assert steps["full"]["status"] != 0
    assert "bytes are needed" in steps["full"]["err"]
    assert steps["full"]["found"] == steps["oci again"]["found"]


def test_what_was_removed_and_what_was_not_is_on_the_disk(steps: Steps) -> None:
    assert steps["mounted again"]["found"] == steps["remove"]["found"]
    assert len(steps["remove"]["found"]["entries"]) == len(steps["oci again"]["found"]["entries"]) - 1


def test_power_failure_leaves_no_entry_that_lacks_something(steps: Steps) -> None:
    snapshots = steps["snapshots"]["all"]
    assert len(snapshots) > 3
    first = steps["prepare"]["found"]["entries"]
    both = steps["second"]["found"]["entries"]
    assert [found["before"]["entries"] for found in snapshots] == sorted(
        (found["before"]["entries"] for found in snapshots), key=len
    )
    broken = [(index, found["before"]) for index, found in enumerate(snapshots) if found["before"]["broken"]]
    assert broken == []
    for found in snapshots:
        assert found["before"]["entries"] in (first, both)
        assert found["status"] == 0, found["err"]
        assert found["after"] == {"entries": both, "broken": [], "left": []}
    assert snapshots[0]["before"]["entries"] == first
    assert snapshots[-1]["before"]["entries"] == both
