"""A machine boots what `oci prepare-boot` has installed: kernel, initramfs and arguments of its entry.

first machine    pulls two images into a secure repository, and prepares both; everything is untagged and
                 collected before it is booted
others           boot an entry from that disk: the initramfs of the image has the zipapp of
                 composefs-setup-root and an interpreter
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from cfsctl.digest import Algorithm, ObjectID, object_path, parse_object_id
from cfsctl.fsverity.merkle import compute_digest
from tests.support.guest import (
    KERNEL,
    Guest,
    find_libraries,
    find_program,
    pack_initramfs,
    require_guest,
    run_machine,
    start_initramfs,
)
from tests.support.oci import Layout, directory, file, make_tar, symlink
from tools import setup_root_zipapp

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.guest

KERNEL_VERSION = "6.12"
BLOCK_SIZE = 4096
TIMEOUT_S = 600

INITRAMFS_INIT = """#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for round in 1 2 3; do
    for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done
done
mount -t ext4 /dev/vda /sysroot
/bin/python3 -IS /bin/composefs-setup-root.pyz
status=$?
echo "setup-root: exit status $status"
[ $status = 0 ] || poweroff -f
exec switch_root /sysroot /sbin/init
"""

SYSTEM_INIT = """#!/bin/sh
mount -t proc proc /proc
echo "version: $(head -c 9 /usr/lib/version)"
echo "booted" >>/etc/boots
echo "booted" >>/var/boots
echo "boots in etc: $(wc -l </etc/boots)"
echo "boots in var: $(wc -l </var/boots)"
echo "hostname: $(cat /etc/hostname)"
touch /usr/new 2>/dev/null || echo "usr is read-only"
[ -e /sysroot/composefs/meta.json ] && echo "sysroot is there"
while read -r line; do echo "mount: $line"; done </proc/self/mountinfo
sync
poweroff -f
"""


def make_initramfs(work: Path) -> bytes:
    """Return an initramfs with the program and what it says that it needs."""
    tree = work / "boot-initramfs"
    start_initramfs(tree, INITRAMFS_INIT)
    (tree / "bin/switch_root").symlink_to("busybox")
    for name in ("sysroot", "tmp", "run"):
        (tree / name).mkdir()
    setup_root_zipapp.build(tree / "bin/composefs-setup-root.pyz")
    # By an interpreter that is not in a virtual environment, as that of the zipapp is.
    interpreter = Path(sys.executable).resolve()
    listed = subprocess.run(
        [interpreter, "-IS", tree / "bin/composefs-setup-root.pyz", "--list-files"],
        capture_output=True,
        text=True,
        check=True,
    )
    files = {Path(line) for line in listed.stdout.splitlines()}
    linked = {Path(name) for path in files for name in find_libraries(path)}
    for path in sorted(files | linked):
        target = tree / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    (tree / "bin/python3").symlink_to(interpreter)
    return gzip.compress(pack_initramfs(tree, work / "boot.cpio").read_bytes(), 1, mtime=0)


def make_layout(path: Path, initramfs: bytes) -> Layout:
    """Return a layout with the images ``a`` and ``b``, which have most in common."""
    modules = f"usr/lib/modules/{KERNEL_VERSION}"
    applets = ("sh", "mount", "head", "wc", "cat", "touch", "sync", "poweroff")
    names = ("usr/bin", "usr/lib", "usr/lib/modules", modules, "etc", "var", "boot", "sysroot", "run")
    base = make_tar(
        [
            directory("usr"),
            *map(directory, names),
            *map(directory, ("dev", "proc", "sys", "tmp", "sbin")),
            symlink("bin", "usr/bin"),
            file("usr/bin/busybox", Path(find_program("busybox")).read_bytes(), 0o755),
            *(symlink(f"usr/bin/{applet}", "busybox") for applet in applets),
            file("sbin/init", SYSTEM_INIT.encode(), 0o755),
            file("etc/hostname", b"composed\n"),
            file("usr/lib/os-release", b'ID=test\nPRETTY_NAME="Test System"\n'),
            file(f"{modules}/vmlinuz", (KERNEL / "vmlinuz").read_bytes()),
            file(f"{modules}/initramfs.img", initramfs),
        ]
    )
    layout = Layout(path)
    for tag in ("a", "b"):
        layout.add_image(tag, [base, make_tar([file("usr/lib/version", version_of(tag))])])
    return layout


def version_of(tag: str) -> bytes:
    return f"version {tag} ".encode() * 100


class Disk(NamedTuple):
    """The disk that is booted from, and what was installed on it by tag."""

    work: Path
    image: Path
    prepared: dict[str, dict[str, Any]]
    steps: dict[str, dict[str, Any]]

    def copy(self) -> Disk:
        """Return the same on a disk of its own."""
        path = self.work / "changed.img"
        subprocess.run(["cp", "--sparse=always", self.image, path], check=True)
        return self._replace(image=path)

    def read(self, path: str) -> bytes:
        """Return the content of a file on the disk."""
        target = self.work / "extracted"
        target.unlink(missing_ok=True)
        self._debugfs(f"dump {path} {target}")
        return target.read_bytes()

    def flip(self, object_id: ObjectID) -> None:
        """Change one byte of an object behind the file system's back."""
        block = int(self._debugfs(f"bmap /composefs/objects/{object_path(object_id)} 0").split()[-1])
        with self.image.open("r+b") as disk:
            disk.seek(block * BLOCK_SIZE + 10)
            byte = disk.read(1)[0]
            disk.seek(block * BLOCK_SIZE + 10)
            disk.write(bytes([byte ^ 1]))

    def _debugfs(self, request: str) -> str:
        done = subprocess.run(
            [find_program("debugfs"), "-R", request, self.image], capture_output=True, text=True, check=True
        )
        return done.stdout

    def boot(self, tag: str, change: Callable[[str], str] = str) -> str:
        """Boot an entry as a boot loader would; return what came over the serial line.

        Args:
            tag: Which entry.
            change: Changes its kernel arguments, as somebody at the keyboard could.
        """
        entry = self.read(f"/boot/{self.prepared[tag]['files'][-1]}").decode()
        lines = dict(line.partition(" ")[::2] for line in entry.splitlines())
        for key in ("linux", "initrd"):
            (self.work / key).write_bytes(self.read(f"/boot{lines[key]}"))
        return run_machine(
            self.work / "linux",
            self.work / "initrd",
            change(lines["options"]),
            (self.image,),
            timeout_s=TIMEOUT_S,
        )


def install(work: Path, initramfs: bytes, *tags: str, options: str = "") -> Disk:
    """Pull and prepare images in a first machine.

    Args:
        work: A directory for disks.
        initramfs: What the images have beside their kernel.
        tags: ``a``, ``b`` or both.
        options: More arguments of `prepare_boot.py`.
    """
    guest = Guest(work)
    guest.store_bytes = 1 << 28
    layout = make_layout(guest.root / "layout", initramfs)
    shutil.copy(Path(__file__).with_name("prepare_boot.py"), guest.root / "prepare_boot.py")
    assert layout.entries
    status, output = guest.run(f"python3 /prepare_boot.py /layout {' '.join(tags)} {options}")
    assert status == 0, output
    steps = {step.pop("step"): step for step in map(json.loads, output.splitlines())}
    assert all(step["status"] == 0 for step in steps.values()), steps
    prepared = {tag: json.loads(steps[f"prepare {tag}"]["out"]) for tag in tags}
    return Disk(work, guest.store, prepared, steps)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Prepare both images once."""
    require_guest()
    work = tmp_path_factory.mktemp("boot")
    return install(work, make_initramfs(work), "a", "b")


def test_deployments_are_kept_and_listed(disk: Disk) -> None:
    found = json.loads(disk.steps["list"]["out"])["deployments"]
    assert {deployment["image"] for deployment in found} == {
        prepared["image"] for prepared in disk.prepared.values()
    }
    assert all(deployment["kept"] and deployment["stored"] for deployment in found)


def test_image_boots_with_verity(disk: Disk) -> None:
    image = disk.prepared["a"]["image"].removeprefix("sha256:")
    console = disk.boot("a")
    assert f"composefs: image {image} is the root, with fs-verity" in console, console[-3000:]
    for line in (
        "version: version a",
        "hostname: composed",
        "usr is read-only",
        "sysroot is there",
        "boots in etc: 1",
        "boots in var: 1",
    ):
        assert line in console, console[-3000:]
    kinds = mounts_of(console)
    assert kinds["/"][0] == "overlay"
    assert "verity=require" in kinds["/"][1]
    assert kinds["/etc"][0] == "overlay"
    assert kinds["/var"][0] == kinds["/sysroot"][0] == "ext4"


def mounts_of(console: str) -> dict[str, tuple[str, str]]:
    """Return type and options of what was mounted, by place."""
    mounts = [line.split() for line in re.findall("mount: (.*)", console)]
    return {fields[4]: (fields[fields.index("-") + 1], fields[-1]) for fields in mounts}


def test_changed_object_does_not_boot(disk: Disk) -> None:
    changed = disk.copy()
    busybox = Path(find_program("busybox")).read_bytes()
    changed.flip(compute_digest(busybox, Algorithm.SHA256))
    console = changed.boot("a")
    assert "is the root, with fs-verity" in console
    assert "version: version" not in console


@pytest.mark.deep
def test_changed_image_is_not_mounted(disk: Disk) -> None:
    changed = disk.copy()
    changed.flip(parse_object_id(changed.prepared["a"]["image"].removeprefix("sha256:"), Algorithm.SHA256))
    console = changed.boot("a")
    assert "setup-root: exit status 0" not in console
    assert "composefs-setup-root: " in console
    assert "version: version" not in console


@pytest.mark.deep
def test_second_deployment_and_back(disk: Disk) -> None:
    """Each has an ``/etc`` and a ``/var`` of its own, which are there again after the other was booted."""
    own = disk.copy()
    before = own.boot("a")
    count = int(re.findall(r"boots in etc: (\d+)", before)[0])
    second = own.boot("b")
    assert "version: version b" in second
    assert "boots in etc: 1" in second
    again = own.boot("a")
    assert "version: version a" in again
    assert f"boots in etc: {count + 1}" in again
    assert f"boots in var: {count + 1}" in again
