"""What the tests of setup-root do in a mount namespace of their own; run as a program by `test_setup_root`.

usage: setup_root_jobs.py DIRECTORY ARGUMENTS...

DIRECTORY has ``sysroot``, which is made a mount of its own, as a disk is. Runs composefs-setup-root with the
arguments, and prints what is seen below ``sysroot`` afterwards as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from cfsctl.boot.setup_root import layers
from cfsctl.cli.tools import setup_root


def as_older_kernel() -> None:
    """Refuse layers by descriptor, as kernels before 6.13 do."""

    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    vars(layers)["fsconfig_fd"] = refuse


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        return f"error: {error.strerror}"


def write(path: str) -> str:
    """Write a file; return the error, or an empty text."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write("written\n")
    except OSError as error:
        return str(error.strerror)
    return ""


def mounts(top: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        lines = [line.split() for line in file]
    found = []
    for fields in lines:
        if fields[4] == top or fields[4].startswith(f"{top}/"):
            at = fields.index("-")
            found.append(f"{fields[4][len(top) :] or '/'} {fields[at + 1]} {fields[at + 2][:20]}")
    return found


def main() -> None:
    top, *arguments = sys.argv[1:]
    os.chdir(top)
    subprocess.run(["mount", "--bind", "sysroot", "sysroot"], check=True)
    if os.environ.get("OLDER_KERNEL"):
        as_older_kernel()
    sys.argv = ["composefs-setup-root", "--sysroot", f"{top}/sysroot", *arguments]
    status = setup_root.run()
    seen: dict[str, object] = {"status": status, "mounts": mounts(f"{top}/sysroot")}
    for path in ("etc/hostname", "usr/bin/tool", "sysroot/composefs/meta.json", "var/kept"):
        seen[path] = read(f"sysroot/{path}")
    for path in ("usr/new", "etc/new", "var/new"):
        seen[f"write {path}"] = write(f"sysroot/{path}")
    print(json.dumps(seen))


main()
