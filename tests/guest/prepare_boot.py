"""Runs in the guest: pulls images into a secure repository, and installs a boot entry for each.

usage: prepare_boot.py LAYOUT TAG... [--cmdline=ARGUMENT...]

The second disk becomes what a machine boots from: the repository, the boot partition and the states. Every
line of output is one step as JSON. All commands run in one process, since it is slow to start one here.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from cfsctl.cli.app import main as run


def cfsctl(step: str, *arguments: str) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(arguments)
    print(json.dumps({"step": step, "status": status, "out": text_of(out), "err": text_of(err)}))
    sys.stdout.flush()


def text_of(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def main() -> None:
    layout, *rest = sys.argv[1:]
    tags = [argument for argument in rest if not argument.startswith("--")]
    more = [argument for argument in rest if argument.startswith("--")]
    at = ("--repo", "/store/composefs")
    cfsctl("init", "init", "--algorithm=fsverity-sha256-12", "/store/composefs")
    for tag in tags:
        cfsctl(f"pull {tag}", *at, "oci", "pull", f"oci:{layout}:{tag}", tag)
        cfsctl(
            f"prepare {tag}",
            *(*at, "oci", "prepare-boot", tag, "--bootdir=/store/boot", "--rules=cfsctl"),
            *("--cmdline=quiet", "--cmdline=rw", "--cmdline=console=ttyS0", "--cmdline=panic=-1"),
            *(*more, "--json"),
        )
    for tag in tags:
        cfsctl(f"untag {tag}", *at, "oci", "untag", tag)
    cfsctl("gc", *at, "gc")
    cfsctl("list", *at, "boot", "list", "--bootdir=/store/boot", "--json")


main()
