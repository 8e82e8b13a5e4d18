"""A user who mounts a file system that stops answering, and an overlay over it, in a user namespace.

usage: silent_fuse.py USER DEVICE DIRECTORY [detached]

Gives up all rights first and needs none but to open the FUSE device. Root may look into the overlay,
although the kernel keeps other users out of the FUSE file system itself. Prints ``ready`` as soon as it
has stopped answering, and then a line for every request that it leaves unanswered. Ends with its standard
input.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
from typing import Final

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_REC_PRIVATE: Final = 1 << 18 | 1 << 14
_MNT_DETACH: Final = 2
_PR_SET_DUMPABLE: Final = 4

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_IN: Final = struct.Struct("=IIQQ16x")
"""struct fuse_in_header of linux/fuse.h: len, opcode, unique, nodeid."""
_OUT: Final = struct.Struct("=IiQ")
"""struct fuse_out_header: len, error, unique."""
_ATTRIBUTES: Final = struct.pack("=6Q10I", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
_NO_ANSWER: Final = {2, 36, 42}
"""FORGET, INTERRUPT, BATCH_FORGET."""
_ANSWERS: Final = {
    3: struct.pack("=QII", 0, 0, 0) + _ATTRIBUTES,  # GETATTR, at once out of date
    17: struct.pack("=5Q4I24x", 1, 1, 1, 1, 1, 4096, 255, 4096, 0),  # STATFS
    26: struct.pack("=4I2H2I2HI24x", 7, 31, 65536, 0, 12, 12, 65536, 1, 0, 0, 0),  # INIT
    27: struct.pack("=QII", 1, 0, 0),  # OPENDIR
    28: b"",  # READDIR
    29: b"",  # RELEASEDIR
}
_LOOKUP: Final = 1
_ENOENT, _ENOSYS = 2, 38


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str, data: str, flags: int = 0) -> None:
    arguments = (os.fsencode(text) for text in (source, target, kind))
    _check(_LIBC.mount(*arguments, flags, os.fsencode(data)), f"mount {kind}")


def _say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def _become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # Otherwise what is in /proc/self belongs to root.
    _check(_LIBC.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")


def _enter_namespaces() -> None:
    user, group = os.getuid(), os.getgid()
    _check(_LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "wb") as stream:
            stream.write(text.encode())
    _mount("none", "/", "", "", _MS_REC_PRIVATE)


def _serve(fd: int, is_silent: threading.Event) -> None:
    while True:
        request = os.read(fd, 1 << 17)
        _, operation, unique, _ = _IN.unpack_from(request)
        if operation in _NO_ANSWER:
            continue
        if is_silent.is_set():
            _say(f"request {operation} left unanswered")
            continue
        body = _ANSWERS.get(operation, b"")
        error = 0 if operation in _ANSWERS else -_ENOENT if operation == _LOOKUP else -_ENOSYS
        os.write(fd, _OUT.pack(_OUT.size + len(body), error, unique) + body)


def main() -> None:
    device, directory = sys.argv[2:4]
    _become(int(sys.argv[1]))
    _enter_namespaces()
    _mount("tmpfs", directory, "tmpfs", "")
    for name in ("fuse", "lower", "merged"):
        os.mkdir(f"{directory}/{name}")
    fd = os.open(device, os.O_RDWR)
    options = f"fd={fd},rootmode=40755,user_id=0,group_id=0,allow_other"
    _mount("silent", f"{directory}/fuse", "fuse", options)
    is_silent = threading.Event()
    threading.Thread(target=_serve, args=(fd, is_silent), daemon=True).start()
    os.stat(f"{directory}/fuse")
    layers = f"lowerdir={directory}/fuse:{directory}/lower"
    _mount("composefs:x", f"{directory}/merged", "overlay", layers)
    os.chdir(f"{directory}/merged")
    open_directory = os.open(f"{directory}/fuse", os.O_PATH)  # noqa: F841 - for whoever looks at descriptors
    if "detached" in sys.argv:
        _check(_LIBC.umount2(os.fsencode(f"{directory}/merged"), _MNT_DETACH), "umount")
        _check(_LIBC.umount2(os.fsencode(f"{directory}/fuse"), _MNT_DETACH), "umount")
    is_silent.set()
    _say("ready")
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
