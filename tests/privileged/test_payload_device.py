"""Payloads of Android's boot loader on partitions, which here are loop devices."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.boot import Machine, make_android, make_layer
from tests.support.oci import file
from tests.support.programs import cfsctl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")

PARTITION_BYTES = 1 << 20
VBMETA = b"vbmeta" * 100
OLD = b"old payload."


@contextlib.contextmanager
def loop_device(path: Path, size: int) -> Iterator[Path]:
    """Yield a block device of this size that begins with an old payload; its content is that of `path`."""
    path.write_bytes(OLD)
    os.truncate(path, size)
    done = subprocess.run(
        ["losetup", "--find", "--show", path], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode != 0:
        pytest.skip(f"there are no loop devices: {done.stderr.strip()}")
    device = path.parent / f"dev-{path.name}"
    device.symlink_to(done.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True, timeout=60)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with a bootable image "img"."""
    machine = Machine(tmp_path)
    machine.add("empty", make_layer([]))
    image = cfsctl("--repo", machine.repository, "oci", "compute-id", "empty", "--bootable").strip()
    payload = make_android(f"composefs.digest=?v1-sha256-12:{image}")
    members = [file("boot/aboot-6.1.img", payload), file("boot/vbmeta-6.1.img", VBMETA)]
    machine.add("img", make_layer(members))
    (tmp_path / "payload").write_bytes(payload)
    return machine


def read_start(path: Path, size: int) -> bytes:
    with path.open("rb") as device:
        return device.read(size)


def test_payload_is_written_in_place(machine: Machine, tmp_path: Path) -> None:
    payload = (tmp_path / "payload").read_bytes()
    with (
        loop_device(tmp_path / "boot_a", PARTITION_BYTES) as boot,
        loop_device(tmp_path / "vbmeta_a", PARTITION_BYTES) as vbmeta,
    ):
        document = machine.prepared("img", f"--payload={boot}", f"--vbmeta={vbmeta}")
        assert document["entry"] == "aboot:6.1"
        assert read_start(boot, len(payload)) == payload
        assert read_start(vbmeta, len(VBMETA)) == VBMETA
        assert boot.is_block_device()


def test_partition_that_is_too_small_keeps_what_it_has(machine: Machine, tmp_path: Path) -> None:
    with (
        loop_device(tmp_path / "boot_a", 512) as boot,
        loop_device(tmp_path / "vbmeta_a", PARTITION_BYTES) as vbmeta,
    ):
        done = machine.prepare("img", f"--payload={boot}", f"--vbmeta={vbmeta}", status=12)
        assert "the device 512; nothing was written" in done.stderr
        assert read_start(boot, len(OLD)) == OLD
        assert read_start(vbmeta, len(OLD)) == OLD


def test_partition_in_use_is_refused(machine: Machine, tmp_path: Path) -> None:
    with (
        loop_device(tmp_path / "boot_a", PARTITION_BYTES) as boot,
        loop_device(tmp_path / "vbmeta_a", PARTITION_BYTES) as vbmeta,
    ):
        holder = os.open(boot, os.O_RDONLY | os.O_EXCL)
        try:
            done = machine.prepare("img", f"--payload={boot}", f"--vbmeta={vbmeta}", status=1)
        finally:
            os.close(holder)
        assert "busy" in done.stderr
        assert read_start(boot, len(OLD)) == OLD
        assert read_start(vbmeta, len(OLD)) == OLD
