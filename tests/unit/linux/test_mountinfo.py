"""Lines of mountinfo, and the namespaces they come from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.linux.mountinfo import (
    find_mount_id,
    has_ended,
    is_trusted_process,
    iter_unlisted,
    parse_mount,
    read_mount_table,
    split_options,
    unescape,
)

if TYPE_CHECKING:
    from pathlib import Path

LINE = rb"68 44 0:40 / /tmp/a\040b ro,relatime shared:1 - overlay composefs:x\134y ro,lowerdir+=/,datadir+=/o"


def test_line() -> None:
    mount = parse_mount(LINE + b"\n", "7")
    assert mount is not None
    assert mount == (
        "7",
        68,
        os.makedev(0, 40),
        b"/",
        b"/tmp/a b",
        b"overlay",
        b"composefs:x\\y",
        b"ro,lowerdir+=/,datadir+=/o",
    )


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" - ",
        b"68 44 0:40 / /mnt ro",
        b"68 44 0:40 / /mnt ro - overlay",
        b"x 44 0:40 / /mnt ro - overlay s ro",
        b"68 44 040 / /mnt ro - overlay s ro",
        b"68 44 0: / /mnt ro - overlay s ro",
        b"68 44 0:4",
    ],
)
def test_other_lines(line: bytes) -> None:
    assert parse_mount(line, "1") is None


def test_every_cut_of_a_line_is_a_mount_or_none() -> None:
    for end in range(len(LINE)):
        mount = parse_mount(LINE[:end], "1")
        assert mount is None or mount.mount_id == 68


@pytest.mark.parametrize(
    ("text", "expected"),
    [(rb"a\040b\134", b"a b\\"), (rb"\04", rb"\04"), (rb"\999", rb"\999"), (rb"\777", b"\xff"), (b"", b"")],
)
def test_unescape(text: bytes, expected: bytes) -> None:
    assert unescape(text) == expected


def test_options() -> None:
    options = rb"ro,lowerdir=/a\054b::/c\040d,upperdir=/x=y,index=off"
    assert split_options(options) == [
        (b"ro", b""),
        (b"lowerdir", b"/a,b::/c d"),
        (b"upperdir", b"/x=y"),
        (b"index", b"off"),
    ]


def test_mounts_of_this_process() -> None:
    mounts = read_mount_table().mounts
    assert any(mount.mountpoint == b"/proc" and mount.process == "self" for mount in mounts)
    fd = os.open("/proc/self", os.O_PATH)
    assert find_mount_id(fd) in {mount.mount_id for mount in mounts}
    os.close(fd)
    assert find_mount_id(10**6) is None


def test_open_directories_in_mounts_that_are_not_listed(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    try:
        mount_id = find_mount_id(fd)
        listed = {mount.mount_id for mount in read_mount_table().mounts}
        assert mount_id in listed
        assert mount_id not in {each.mount_id for each in iter_unlisted(listed, [], (), {})}
        mine = [
            os.path.samestat(os.fstat(each.fd), os.fstat(fd)) or os.fstat(each.fd).st_dev
            for each in iter_unlisted(listed - {mount_id}, [], (), {})
            if each.pid == os.getpid() and each.mount_id == mount_id
        ]
        assert mine in ([True], [os.fstat(fd).st_dev])
    finally:
        os.close(fd)


def test_process_that_has_ended() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert has_ended(child)
    assert not has_ended(os.getpid())
    os.waitpid(child, 0)
    assert has_ended(child)


def test_own_process_is_trusted() -> None:
    assert is_trusted_process(os.getpid())
