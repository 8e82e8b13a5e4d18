"""Structures of the FUSE protocol."""

from __future__ import annotations

import struct

import pytest

from cfsctl.fuse.protocol import (
    ATTR,
    DIRENT,
    ENTRY_HEAD,
    INIT_OUT,
    OPEN_OUT,
    STATFS_OUT,
    FuseProtocolError,
    Init,
    InitFlag,
    format_init,
    parse_init,
    parse_name,
)


def test_sizes_are_those_of_the_kernel() -> None:
    sizes = [s.size for s in (ATTR, ENTRY_HEAD, DIRENT, OPEN_OUT, STATFS_OUT, INIT_OUT)]
    assert sizes == [88, 40, 24, 16, 80, 64]


def test_introduction() -> None:
    long_form = struct.pack("=5I44x", 7, 45, 131072, 0xFFFFFFFF, 1)
    assert parse_init(long_form) == parse_init(long_form[:16]) == Init(7, 45, 131072, 0xFFFFFFFF)
    with pytest.raises(FuseProtocolError, match="at least 16 bytes, found 15"):
        parse_init(long_form[:15])


def test_answer_has_no_more_than_the_kernel_offers() -> None:
    offered = InitFlag.ASYNC_READ | InitFlag.INIT_EXT | InitFlag.POSIX_ACL
    answer = format_init(
        Init(7, 38, 4096, offered), InitFlag.ASYNC_READ | InitFlag.MAX_PAGES, max_pages=256, max_background=64
    )
    major, minor, ahead, flags, background, congestion, max_write, grain, pages, *rest = INIT_OUT.unpack(
        answer
    )
    assert (major, minor, ahead, flags) == (7, 38, 4096, InitFlag.ASYNC_READ)
    assert (background, congestion, max_write, grain, pages) == (64, 48, 4096, 1, 256)
    assert rest == [0, 0, 0]


@pytest.mark.parametrize("body", [b"", b"name", b"a\0b", b"a\0b\0", b"\0\0"])
def test_names_that_are_none(body: bytes) -> None:
    with pytest.raises(FuseProtocolError):
        parse_name(body)


def test_name() -> None:
    assert parse_name(b"n\xff\0") == b"n\xff"
