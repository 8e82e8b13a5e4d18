"""A user namespace with the subordinate IDs of the calling user, as podman makes one.

Files that containers of an ordinary user have made belong to IDs that /etc/subuid and /etc/subgid lend to
that user. Outside a namespace that maps them the user cannot read all of them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from cfsctl.linux.syscalls import unshare

if TYPE_CHECKING:
    from collections.abc import Callable

_CLONE_NEWUSER: Final = 0x10000000
_MAPPING_TIMEOUT_S: Final = 60


class UserNamespaceError(OSError):
    """A user namespace that cannot be made, or in which no other IDs can be mapped."""


def start_in_namespace(function: Callable[[], None]) -> int:
    """Fork a process that calls a function as root of a new user namespace; return its process ID.

    Args:
        function: What to call; the process ends with it.

    Raises:
        UserNamespaceError: It cannot be made.
    """
    if shutil.which("newuidmap") is None or shutil.which("newgidmap") is None:
        raise UserNamespaceError(None, "newuidmap and newgidmap are not installed")
    uid_map, gid_map = (
        _make_map(path, own) for path, own in (("/etc/subuid", os.getuid()), ("/etc/subgid", os.getgid()))
    )
    ready, tell_ready = os.pipe()
    wait, tell_mapped = os.pipe()
    child = os.fork()
    if not child:
        _run_child(function, tell_ready, wait, (ready, tell_mapped))
    os.close(tell_ready)
    os.close(wait)
    try:
        _check_ready(ready)
        _write_map("newuidmap", child, uid_map)
        _write_map("newgidmap", child, gid_map)
        os.write(tell_mapped, b"m")
    except BaseException:
        os.close(tell_mapped)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(ready)
    os.close(tell_mapped)
    return child


def _check_ready(ready: int) -> None:
    if os.read(ready, 1) != b"r":
        raise UserNamespaceError(None, "the kernel does not let this user create a user namespace")


def _run_child(function: Callable[[], None], tell_ready: int, wait: int, others: tuple[int, int]) -> None:
    """Be the process in the namespace; never returns."""
    try:
        for fd in others:
            os.close(fd)
        unshare(_CLONE_NEWUSER)
        os.write(tell_ready, b"r")
        os.close(tell_ready)
        if os.read(wait, 1) == b"m":
            function()
    except BaseException:  # noqa: BLE001 - nothing may get out into the copied stack of the caller
        os._exit(1)
    os._exit(0)


def _make_map(path: str, own: int) -> list[str]:
    """Return what newuidmap and newgidmap are told: the user is root, lent IDs follow from 1."""
    first = 1
    words = ["0", str(own), "1"]
    for start, count in _read_ranges(path):
        words += [str(first), str(start), str(count)]
        first += count
    return words


def _read_ranges(path: str) -> list[tuple[int, int]]:
    uid = os.getuid()
    owners = {str(uid)}
    with contextlib.suppress(KeyError):  # a user without a name; the file may have the number
        owners.add(pwd.getpwuid(uid).pw_name)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip().split(":") for line in file]
    except FileNotFoundError:
        lines = []
    found = [
        (int(line[1]), int(line[2]))
        for line in lines
        if len(line) == 3 and line[0] in owners and line[1].isdecimal() and line[2].isdecimal()
    ]
    if not found:
        raise UserNamespaceError(None, f"{path} has no subordinate IDs for user {uid}")
    return found


def _write_map(program: str, process: int, words: list[str]) -> None:
    done = subprocess.run(
        [program, str(process), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=_MAPPING_TIMEOUT_S,
    )
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip()
        raise UserNamespaceError(None, f"{program}: {text or f'exit status {done.returncode}'}")
