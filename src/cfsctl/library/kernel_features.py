"""What the kernel of this machine can do for composefs; each function changes nothing that stays."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, Final

from cfsctl.library.findings import Finding, FindingState

if TYPE_CHECKING:
    from collections.abc import Callable

_MIN_RELEASE: Final = (5, 15)
"""Oldest kernel on which all that does not need newer features was seen to work."""

_FILE_MOUNT_RELEASE: Final = (6, 12)
_DATA_LAYERS_RELEASE: Final = (6, 5)
_VERITY_LAYERS_RELEASE: Final = (6, 6)

_NOT_ALLOWED: Final = frozenset({errno.EPERM, errno.EACCES})

_AS_ROOT: Final = "run cfsctl doctor as root to try it"


def release() -> tuple[int, int]:
    """Return the first two numbers of the kernel's release."""
    digits = "".join(c if c.isdigit() else " " for c in os.uname().release).split()
    return int(digits[0]), int(digits[1]) if len(digits) > 1 else 0


def examine_kernel() -> Finding:
    """Return which kernel runs."""
    name = f"Linux {os.uname().release} {os.uname().machine}"
    if release() < _MIN_RELEASE:
        oldest = "{}.{}".format(*_MIN_RELEASE)
        return Finding("kernel", FindingState.MISSING, name, f"use Linux {oldest} or newer; 6.15 is best")
    return Finding("kernel", FindingState.OK, name)


def examine_erofs() -> Finding:
    """Return whether EROFS can be mounted, and from files without loop devices."""
    by_release = release() >= _FILE_MOUNT_RELEASE
    found = _try_file_system("erofs")
    if found is not None:
        return Finding("erofs", found.state, found.found, found.advice)
    if by_release:
        return Finding(
            "erofs", FindingState.OK, "the kernel has EROFS, and mounts images from files (Linux 6.12)"
        )
    if os.path.exists("/dev/loop-control"):
        return Finding(
            "erofs", FindingState.OK, "the kernel has EROFS; images are mounted through loop devices"
        )
    advice = "load the module loop, or use Linux 6.12, which mounts EROFS from files"
    return Finding("erofs", FindingState.MISSING, "EROFS needs a loop device here, and there is none", advice)


def examine_overlayfs() -> Finding:
    """Return whether overlayfs supports data-only layers, and verifies what is in them."""
    found = _try_file_system("overlay", _try_data_layer)
    if found is not None:
        return Finding("overlayfs", found.state, found.found, found.advice)
    if release() >= _VERITY_LAYERS_RELEASE:
        return Finding("overlayfs", FindingState.OK, "data-only layers, with verification (verity=require)")
    return Finding(
        "overlayfs",
        FindingState.OK,
        "data-only layers, without verification",
        "use Linux 6.6 or newer, so that the kernel verifies the content of files",
    )


def _try_file_system(name: str, also: Callable[[int], Finding | None] | None = None) -> Finding | None:
    """Return why this kind of file system cannot be mounted, or None if it can."""
    from cfsctl.linux.mountapi import fsopen  # brings ctypes along

    try:
        context = fsopen(name)
    except OSError as error:
        return _explain_refusal(name, error)
    try:
        return None if also is None else also(context)
    finally:
        os.close(context)


def _explain_refusal(name: str, error: OSError) -> Finding:
    if error.errno in _NOT_ALLOWED:
        known = _is_known(name)
        text = f"the kernel has {name}" if known else f"{name} is not loaded"
        return Finding(name, FindingState.UNKNOWN, f"{text}; this user may not try to mount it", _AS_ROOT)
    if error.errno == errno.ENODEV:
        advice = f"load it with 'modprobe {name}', or install a kernel that has it"
        return Finding(name, FindingState.MISSING, f"the kernel has no {name}", advice)
    needs_newer = error.errno == errno.ENOSYS
    advice = "use Linux 5.15 or newer" if needs_newer else "see the messages of the kernel (dmesg)"
    return Finding(name, FindingState.MISSING, f"{name} cannot be used: {error.strerror}", advice)


def _is_known(name: str) -> bool:
    try:
        with open("/proc/filesystems", encoding="ascii", errors="replace") as stream:
            return any(line.split()[-1:] == [name] for line in stream)
    except OSError:
        return False


def _try_data_layer(context: int) -> Finding | None:
    """Return why data-only layers cannot be used, or None if they can."""
    if release() < _DATA_LAYERS_RELEASE:
        advice = "use Linux 6.5 or newer to mount images"
        return Finding("overlayfs", FindingState.MISSING, "overlayfs has no data-only layers", advice)
    from cfsctl.linux.mountapi import fsconfig_string  # brings ctypes along

    try:
        fsconfig_string(context, "metacopy", "on")
        fsconfig_string(context, "redirect_dir", "on")
    except OSError as error:
        return Finding("overlayfs", FindingState.MISSING, f"overlayfs has no metacopy: {error.strerror}")
    return None


def examine_verity(directory: str) -> Finding:
    """Return whether the file system of a directory has fs-verity; tried with a file that has no name."""
    from cfsctl.digest import Algorithm
    from cfsctl.fsverity.kernel import VerityUnsupportedError, enable, measure

    place = f"at {directory}"
    try:
        fd = _make_unnamed_file(directory)
    except OSError as error:
        text = f"cannot be tried {place}: {error.strerror}"
        return Finding(
            "fs-verity", FindingState.UNKNOWN, text, "name a directory that you may write with --repo"
        )
    try:
        enable(fd, Algorithm.SHA256)
        measure(fd, Algorithm.SHA256)
    except VerityUnsupportedError:
        advice = (
            "use ext4 (tune2fs -O verity DEVICE), Btrfs or F2FS with CONFIG_FS_VERITY; without it, "
            "repositories need init --insecure, and fsck is what finds changed content"
        )
        return Finding("fs-verity", FindingState.MISSING, f"not supported by the file system {place}", advice)
    except OSError as error:
        return Finding("fs-verity", FindingState.UNKNOWN, f"cannot be tried {place}: {error.strerror}")
    finally:
        os.close(fd)
    return Finding("fs-verity", FindingState.OK, f"works {place}")


def _make_unnamed_file(directory: str) -> int:
    """Return a read-only descriptor of a new file without a name, which goes when it is closed."""
    writer = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.write(writer, b"fs-verity")
        return os.open(f"/proc/self/fd/{writer}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writer)


def examine_fuse() -> Finding:
    """Return whether FUSE can be used, which serves images where the kernel may not mount them."""
    if not os.path.exists("/dev/fuse"):
        advice = "load the module fuse; containers need the device /dev/fuse"
        return Finding("fuse", FindingState.MISSING, "there is no /dev/fuse", advice)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return Finding(
            "fuse", FindingState.MISSING, "this user may not use /dev/fuse", "ask for access to /dev/fuse"
        )
    if os.getuid() and shutil.which("fusermount3") is None:
        return Finding(
            "fuse", FindingState.MISSING, "fusermount3 is not installed", "install the package fuse3"
        )
    return Finding("fuse", FindingState.OK, "/dev/fuse can be used")
