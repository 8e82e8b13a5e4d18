"""A machine boots with an initramfs that dracut has made with our module.

dracut runs in a Debian of its own, with the kernel that the machine boots, which takes root and the network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.guest.test_boot import Disk, install, mounts_of
from tests.support.guest import require_guest
from tools import setup_root_zipapp

pytestmark = [pytest.mark.guest, pytest.mark.deep, pytest.mark.alone]

ROOT = Path(__file__).parents[2]
SUITE = "trixie"
PACKAGES = "dracut-core,systemd,systemd-sysv,python3,kmod,zstd,xz-utils"
MODULE = "usr/lib/dracut/modules.d/37composefs"
PROGRAM = "usr/lib/composefs/composefs-setup-root.pyz"

# Whatever fails switches the machine off, instead of waiting for somebody.
OPTIONS = (
    "--cmdline=root=/dev/vda --cmdline=rootfstype=ext4 --cmdline=rd.shell=0 --cmdline=rd.emergency=poweroff "
    "--cmdline=systemd.show_status=yes"
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_guest()
    if os.geteuid():
        pytest.skip("debootstrap needs root")
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed (package debootstrap)")
    return tmp_path_factory.mktemp("dracut")


@pytest.fixture(scope="module")
def debian(work: Path) -> Path:
    """Return a Debian with dracut, our module and the program."""
    root = work / "debian"
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if made.returncode:
        pytest.skip(f"debootstrap failed: {made.stdout[-300:]}")
    kernel = work / "kernel"
    unpack = [str(ROOT / "tools" / "unpack-debian.sh"), SUITE, str(kernel), "linux-image-cloud-amd64>"]
    subprocess.run(unpack, check=True, capture_output=True, timeout=600)
    shutil.copytree(kernel / "usr/lib/modules", root / "usr/lib/modules", symlinks=True)
    shutil.copytree(ROOT / "packaging/dracut/37composefs", root / MODULE)
    setup_root_zipapp.build(root / PROGRAM)
    return root


@pytest.fixture(scope="module")
def initramfs(debian: Path) -> Path:
    (version,) = os.listdir(debian / "usr/lib/modules")
    script = (
        "mount -t proc proc proc && mount --rbind /dev dev && "
        f"chroot . depmod {version} && "
        f"chroot . dracut --force --no-hostonly --add composefs --kver {version} /initramfs.img"
    )
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(command, cwd=debian, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Including module: composefs" in done.stdout + done.stderr
    return debian / "initramfs.img"


@pytest.fixture(scope="module")
def disk(work: Path, initramfs: Path) -> Disk:
    return install(work, initramfs.read_bytes(), "a", options=OPTIONS)


def test_initramfs_has_what_it_takes(debian: Path, initramfs: Path) -> None:
    command = ["chroot", str(debian), "lsinitrd", f"/{initramfs.name}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    for name in (
        PROGRAM,
        "usr/bin/python3 ->",
        "/encodings/utf_8.py",
        "/erofs.ko",
        "/overlay.ko",
        "initrd-root-fs.target.requires/composefs-setup-root.service",
    ):
        assert name in listed, name


def test_machine_boots(disk: Disk) -> None:
    image = disk.prepared["a"]["image"].removeprefix("sha256:")
    console = disk.boot("a")
    for line in ("version: version a", "hostname: composed", "usr is read-only", "sysroot is there"):
        assert line in console, console[-6000:]
    kinds = mounts_of(console)
    assert kinds["/"][0] == "overlay"
    assert "verity=require" in kinds["/"][1]
    assert f"composefs:{image}" in console


def test_machine_does_not_boot_without_the_image(disk: Disk) -> None:
    """The module ends in an emergency, instead of booting the disk itself."""
    image = disk.prepared["a"]["image"].removeprefix("sha256:")
    console = disk.boot("a", lambda options: options.replace(image, "0" * len(image)))
    assert "version: version" not in console
    assert "composefs-setup-root" in console
