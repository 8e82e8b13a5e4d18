"""Runs one command on a file system that has hardly any room; to be started in a mount namespace of its own.

It is given a JSON document in its argument and prints another one: how the command ended, what it said, and
how `cfsctl fsck` and the command itself end when there is room again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LARGE = "size=32m,nr_inodes=9000"
PAGE_BYTES = 4096


def mount(*arguments: str) -> bool:
    """Mount at ``m`` and return whether that worked."""
    return subprocess.run(["mount", *arguments, "m"], check=False).returncode == 0


def leave_room(kind: str, room: int) -> None:
    """Take all room away but so many pages, or inodes."""
    found = os.statvfs("m")
    inodes = found.f_files - found.f_ffree + (room if kind == "inodes" else 4000)
    pages = found.f_blocks - found.f_bfree + (room if kind == "pages" else 4000)
    assert mount("-o", f"remount,size={max(pages, 1) * PAGE_BYTES},nr_inodes={inodes}")


def run(command: list[str], stdin: str | None) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    with open(stdin or os.devnull, "rb") as stream:
        return subprocess.run(
            command, stdin=stream, capture_output=True, text=True, errors="replace", check=False
        )


def main(job: dict[str, Any]) -> None:
    """Do what the document says."""
    os.chdir(job["world"])
    if not mount("-t", "tmpfs", "-o", LARGE, "tmpfs"):
        sys.exit(77)
    for command in job["setup"]:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    leave_room(job["kind"], job["room"])
    done = run(job["command"], job["stdin"])
    assert mount("-o", f"remount,{LARGE}")
    fsck = run([job["cfsctl"], "--repo", "m/s", "fsck"], None) if Path("m/s/objects").exists() else None
    left = [str(path) for path in Path("m").rglob(".tmp-*")]
    result = {
        "status": done.returncode,
        "stderr": done.stderr,
        "fsck": fsck.stdout if fsck is not None and fsck.returncode else "",
        "left": left,
        "again": run(job["command"], job["stdin"]).returncode if done.returncode else 0,
    }
    sys.stdout.write(json.dumps(result))


main(json.loads(sys.argv[1]))
