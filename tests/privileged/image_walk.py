"""Mount an EROFS image and print what the kernel shows, as JSON; run as a program by `test_images`.

usage: image_walk.py IMAGE DIRECTORY

Bytes are printed as hex. Has to run in a mount namespace of its own.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys

SHOWN = ("user.", "trusted.", "security.")
"""Attributes that the kernel hands out as they are; it has a mind of its own about others."""


def read_xattr(path: bytes, name: str) -> str:
    """Return the value of an attribute, or the name of the error."""
    try:
        return os.getxattr(path, name, follow_symlinks=False).hex()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def describe(path: bytes) -> dict[str, object]:
    """Return everything about one file that an image decides."""
    status = os.lstat(path)
    content = b""
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode) and status.st_size <= 10_000:
        with open(path, "rb") as file:
            content = file.read()
    return {
        "mode": status.st_mode,
        "owner": [status.st_uid, status.st_gid],
        "mtime": status.st_mtime_ns,
        "links": status.st_nlink,
        "inode": status.st_ino,
        "device": [os.major(status.st_rdev), os.minor(status.st_rdev)],
        "size": 0 if stat.S_ISDIR(status.st_mode) else status.st_size,
        "content": content.hex(),
        "xattrs": {
            os.fsencode(name).hex(): read_xattr(path, name)
            for name in os.listxattr(path, follow_symlinks=False)
            if name.startswith(SHOWN)
        },
    }


def walk(root: bytes) -> dict[str, dict[str, object]]:
    """Return the description of every path, by path."""
    found = {"": describe(root)}
    pending = [root]
    while pending:
        directory = pending.pop()
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            found[path[len(root) :].hex()] = describe(path)
            if stat.S_ISDIR(os.lstat(path).st_mode):
                pending.append(path)
    return found


def main() -> None:
    """Mount, walk, print; the mount goes with the namespace."""
    image, directory = sys.argv[1:]
    done = subprocess.run(
        ["mount", "-t", "erofs", "-o", "loop,ro", image, directory],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        json.dump({"skip": done.stderr}, sys.stdout)
        return
    try:
        json.dump({"found": walk(os.fsencode(directory))}, sys.stdout)
    finally:
        subprocess.run(["umount", directory], check=True, timeout=120)


if __name__ == "__main__":
    main()
