"""A machine of its own for tests: a Debian kernel with fs-verity under QEMU, with the installed cfsctl in it.

    vmlinuz, modules   from `tools/guest-kernel.sh`
    initramfs          busybox; loads the modules and goes over to the first disk
    first disk         ext4: the interpreter, the packages of this environment, what the test adds
    second disk        ext4 with fs-verity, mounted at /store
    serial line        what the program prints, between two marks

Everything is emulated, so it works wherever QEMU does, also in a machine that is virtual itself.
The kernel boots in about ten seconds, programs run at a tenth of their speed.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import require

if TYPE_CHECKING:
    from collections.abc import Sequence

KERNEL = Path(__file__).parents[2] / ".guest"
"""Where `make` keeps the kernel."""

_PACKAGES = ("cfsctl", "click", "zstandard", "xxhash", "isal")
"""What cfsctl needs where there is no network."""

_APPLETS = ("sh", "mount", "insmod", "chroot", "echo", "sync", "poweroff")

_LEFT_OUT = shutil.ignore_patterns(
    "test",
    "tests",
    "site-packages",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "config-*",
    "*.a",
)

_BEGIN = "=== begin of output ==="
_END = "=== end of output, exit status "

_INIT = f"""#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for round in 1 2 3; do
    for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done
done
mount -t ext4 /dev/vda /root
mount -t ext4 /dev/vdb /root/store
for place in dev proc sys; do mount --move /$place /root/$place; done
mount -t tmpfs tmp /root/tmp
echo '{_BEGIN}'
chroot /root /bin/sh /program
echo "{_END}$?"
sync
poweroff -f
"""


def require_guest() -> None:
    """Skip the test where there is no emulator or no kernel for it."""
    require("qemu-system-x86_64", "qemu-system-x86")
    require("busybox", "busybox-static")
    require("mkfs.ext4", "e2fsprogs")
    if not (KERNEL / "vmlinuz").exists():
        pytest.skip("there is no kernel for the guest (tools/guest-kernel.sh .guest)")


class Guest:
    """Disks and an initramfs in a directory; `run` boots.

    Attributes:
        root: What will be on the first disk.
        store: Image of the second disk, once it has booted.
        store_bytes: Its size.
    """

    def __init__(self, work: Path) -> None:
        """Start with a root that holds the interpreter and cfsctl."""
        self._work = work
        self.root = work / "root"
        self.store = work / "store.img"
        self.store_bytes = 1 << 28
        for name in ("bin", "dev", "proc", "sys", "tmp", "store", "mnt", "etc"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(find_program("busybox"), self.root / "bin/busybox")
        for applet in ("sh", "cat", "mount", "umount", "sync"):
            (self.root / "bin" / applet).symlink_to("busybox")
        self._install()

    def _install(self) -> None:
        """Copy interpreter, packages and the libraries that they are linked with, under their own paths."""
        interpreter = Path(sys.executable).resolve()
        self._copy(interpreter)
        shutil.copytree(
            sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}),
            self._inside(Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))),
            ignore=_LEFT_OUT,
            symlinks=True,
        )
        for name in _PACKAGES:
            shutil.copytree(_package_directory(name), self.root / "packages" / name)
        linked = [interpreter, *self.root.rglob("*.so")]
        for library in sorted({found for file in linked for found in find_libraries(file)}):
            self._copy(Path(library))
        program = self.root / "bin/cfsctl"
        program.write_text(
            f"#!{interpreter}\nimport sys\nsys.path.insert(0, '/packages')\n"
            "from cfsctl.cli.main import main\nsys.exit(main())\n"
        )
        program.chmod(0o755)
        (self.root / "bin/python3").symlink_to(interpreter)

    def _inside(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    def _copy(self, path: Path) -> None:
        target = self._inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    def run(self, program: str, *, timeout_s: float = 600) -> tuple[int, str]:
        """Boot, run a shell script as root, and switch off.

        Returns:
            The script's exit status, and what it printed.
        """
        (self.root / "program").write_text(f"export PYTHONPATH=/packages HOME=/tmp PATH=/bin\n{program}")
        first = make_disk(self._work / "root.img", 1 << 29, self.root, "-O", "^has_journal")
        self.store = make_disk(self._work / "store.img", self.store_bytes, None, "-O", "verity", "-b", "4096")
        tree = self._work / "initramfs"
        start_initramfs(tree, _INIT)
        console = run_machine(
            KERNEL / "vmlinuz",
            pack_initramfs(tree, self._work / "initramfs.cpio"),
            "console=ttyS0 quiet panic=-1",
            (first, self.store),
            timeout_s=timeout_s,
        )
        found = re.search(rf"{_BEGIN}\n(.*){_END}(\d+)\n", console, re.DOTALL)
        assert found, f"the guest did not get through:\n{console[-4000:]}"
        return int(found[2]), found[1]


def make_disk(path: Path, size: int, content: Path | None, *options: str) -> Path:
    """Make an image of an ext4 file system with the content of a directory."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    source = [] if content is None else ["-d", str(content)]
    subprocess.run([find_program("mkfs.ext4"), "-q", "-F", *options, *source, str(path)], check=True)
    return path


def start_initramfs(tree: Path, init: str) -> None:
    """Fill a directory with busybox, the modules of the kernel, and an init script."""
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "dev", "proc", "sys", "root", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy(find_program("busybox"), tree / "bin/busybox")
    for applet in _APPLETS:
        (tree / "bin" / applet).symlink_to("busybox")
    for module in (KERNEL / "modules").iterdir():
        data = module.read_bytes()
        plain = lzma.decompress(data) if module.suffix == ".xz" else data
        (tree / "modules" / module.name.removesuffix(".xz")).write_bytes(plain)
    (tree / "init").write_text(init)
    (tree / "init").chmod(0o755)


def pack_initramfs(tree: Path, path: Path) -> Path:
    """Write a directory as an archive that the kernel unpacks."""
    names = "\n".join(str(found.relative_to(tree)) for found in sorted(tree.rglob("*")))
    with path.open("wb") as file:
        subprocess.run(
            [find_program("busybox"), "cpio", "-o", "-H", "newc"],
            cwd=tree,
            input=names.encode() + b"\n",
            stdout=file,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    return path


def run_machine(
    kernel: Path, initramfs: Path, cmdline: str, disks: Sequence[Path], *, timeout_s: float
) -> str:
    """Boot, and return what came over the serial line until the machine was switched off."""
    # On a busy host the emulated processor stands still for long. Without these, the kernel panics since its
    # timer seems not to work, or reports a lockup in the middle of what programs print, however quiet it is.
    cmdline = f"{cmdline} no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
    command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]
    # One processor: with more, the kernel that patches its own code crashes now and then under emulation.
    command += ["-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "1"]
    command += ["-kernel", str(kernel), "-initrd", str(initramfs), "-append", cmdline]
    for disk in disks:
        command += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=timeout_s
    )
    assert done.stdout, done.stderr.decode()
    return done.stdout.decode(errors="replace").replace("\r\n", "\n")


def find_program(program: str) -> str:
    """Return the path of a program, which may be one for administrators."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert path is not None
    return path


def _package_directory(name: str) -> Path:
    module = __import__(name)
    assert module.__file__ is not None
    return Path(module.__file__).parent


def find_libraries(file: Path) -> list[str]:
    """Return the paths of the shared libraries that a file is linked with."""
    done = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False)
    return re.findall(r"(?:=> |^\s*)(/\S+) \(0x", done.stdout, re.MULTILINE)
