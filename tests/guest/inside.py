"""Runs in the guest: every line of output is one step as JSON, with what was found.

The store is on a file system with fs-verity, and the kernel enforces what the repository says.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

from cfsctl.digest import Algorithm
from cfsctl.fsverity.kernel import measure

FIBMAP = 1
BLOCK_SIZE = 4096
STORE = Path("/store")
MOUNT = Path("/mnt")


def tell(step: str, **found: object) -> None:
    print(json.dumps({"step": step, **found}), flush=True)


def run(step: str, *command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    tell(step, status=done.returncode, out=done.stdout, err=done.stderr)
    return done.stdout


def cfsctl(step: str, *arguments: str) -> str:
    return run(step, "/bin/cfsctl", *arguments)


def check_measures(step: str, repository: Path, algorithm: Algorithm) -> None:
    """Compare the name of every object with what the kernel measures."""
    good = bad = 0
    for path in (repository / "objects").glob("??/*"):
        fd = os.open(path, os.O_RDONLY)
        try:
            good += measure(fd, algorithm).hex() == path.parent.name + path.name
        except OSError:
            bad += 1
        finally:
            os.close(fd)
    tell(step, good=good, bad=bad)


def read_mounted() -> dict[str, str]:
    """Return the digest of each mounted file, or the error that reading it gave."""
    found = {}
    for directory, _, names in os.walk(MOUNT):
        for name in names:
            path = Path(directory, name)
            if path.is_symlink():
                continue
            try:
                found[str(path.relative_to(MOUNT))] = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                found[str(path.relative_to(MOUNT))] = os.strerror(error.errno or 0)
    return found


def mount_options() -> str:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return next((line for line in lines if f" {MOUNT} " in line), "")


def flip_on_disk(path: Path, device: str) -> None:
    """Change one byte of a file behind the file system's back."""
    os.sync()
    with path.open("rb") as file:
        (block,) = struct.unpack("i", fcntl.ioctl(file.fileno(), FIBMAP, struct.pack("i", 0)))
    Path("/proc/sys/vm/drop_caches").write_text("3")
    disk = os.open(device, os.O_RDWR | os.O_SYNC)
    data = bytearray(os.pread(disk, BLOCK_SIZE, block * BLOCK_SIZE))
    data[10] ^= 1
    os.pwrite(disk, data, block * BLOCK_SIZE)
    os.fsync(disk)
    os.close(disk)
    Path("/proc/sys/vm/drop_caches").write_text("3")


def work_with(algorithm: Algorithm, repository: Path, ref: str) -> None:
    name = algorithm.name.lower()
    at = ("--repo", str(repository))
    cfsctl(f"{name} init", "init", f"--algorithm=fsverity-{name}-12", str(repository))
    cfsctl(f"{name} pull", *at, "ostree", "pull-local", "/ostree", ref)
    cfsctl(f"{name} create", *at, "create-image", "--no-propagate-usr-to-root", "/tree", "tree")
    cfsctl(f"{name} strict", *at, "--require-verity", "images")
    check_measures(f"{name} measures", repository, algorithm)
    cfsctl(f"{name} mount", *at, "mount", "refs/tree", str(MOUNT))
    tell(f"{name} mounted", options=mount_options(), files=read_mounted())
    run(f"{name} umount", "/bin/umount", str(MOUNT))
    cfsctl(f"{name} ostree mount", *at, "ostree", "mount", ref, str(MOUNT))
    tell(f"{name} ostree mounted", options=mount_options(), count=len(read_mounted()))
    run(f"{name} ostree umount", "/bin/umount", str(MOUNT))
    cfsctl(f"{name} fsck", *at, "fsck")


def collect(repository: Path) -> None:
    """Collect while an image is mounted that no ref names any more, and after that."""
    at = ("--repo", str(repository))
    cfsctl("live mount", *at, "mount", "refs/tree", str(MOUNT))
    (repository / "images/refs/tree").unlink()
    cfsctl("live gc", *at, "gc")
    Path("/proc/sys/vm/drop_caches").write_text("3")
    tell("live mounted", files=read_mounted())
    run("live umount", "/bin/umount", str(MOUNT))
    cfsctl("dead gc", *at, "gc")
    cfsctl("dead fsck", *at, "fsck")


def damage(repository: Path, object_id: str) -> None:
    at = ("--repo", str(repository))
    flip_on_disk(repository / "objects" / object_id[:2] / object_id[2:], "/dev/vdb")
    cfsctl("damaged fsck", *at, "fsck", "--deep")
    cfsctl("damaged mount", *at, "mount", "refs/tree", str(MOUNT))
    tell("damaged mounted", files=read_mounted())
    run("damaged umount", "/bin/umount", str(MOUNT))


def work_without(repository: Path) -> None:
    """What an insecure repository does on a file system that has fs-verity."""
    at = ("--repo", str(repository))
    cfsctl("insecure init", "init", "--insecure", str(repository))
    cfsctl("insecure create", *at, "create-image", "--no-propagate-usr-to-root", "/tree")
    cfsctl("insecure strict", *at, "--require-verity", "images")
    check_measures("insecure measures", repository, Algorithm.SHA512)


def main() -> None:
    ref, object_id = sys.argv[1:]
    work_with(Algorithm.SHA256, STORE / "sha256", ref)
    work_with(Algorithm.SHA512, STORE / "sha512", ref)
    collect(STORE / "sha256")
    damage(STORE / "sha512", object_id)
    work_without(STORE / "insecure")
    # A file system without fs-verity.
    cfsctl("nowhere init", "init", "/tmp/repository")


main()
