"""Who has a file open for writing, and on what file system it is."""

from __future__ import annotations

import mmap
import os
import signal
from typing import TYPE_CHECKING

import pytest

from cfsctl.linux.leases import is_open_for_writing
from cfsctl.linux.syscalls import file_system_type

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    with path.open("rb") as file:
        if is_open_for_writing(file.fileno()):
            pytest.skip("the temporary directory's file system has no leases")
    return path


def _ask(path: Path) -> bool | None:
    with path.open("rb") as file:
        return is_open_for_writing(file.fileno())


def test_readers_are_no_writers(path: Path) -> None:
    with path.open("rb"):
        assert not _ask(path)


def test_descriptor_and_mapping_count(path: Path) -> None:
    with path.open("r+b") as writer:
        assert _ask(path)
        mapping = mmap.mmap(writer.fileno(), 4096)
    assert _ask(path)
    mapping.close()
    assert not _ask(path)


def test_lease_is_given_back(path: Path) -> None:
    # A writer is neither held up nor does he make the kernel send us anything.
    received: list[int] = []
    before = signal.signal(signal.SIGURG, lambda number, _: received.append(number))
    try:
        with path.open("rb") as file:
            assert not is_open_for_writing(file.fileno())
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    finally:
        signal.signal(signal.SIGURG, before)
    assert received == []


def test_what_cannot_be_told_is_not_said(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    try:
        assert is_open_for_writing(fd) is None
    finally:
        os.close(fd)


def test_type_of_a_file_system() -> None:
    fd = os.open("/proc", os.O_RDONLY)
    try:
        assert file_system_type(fd) == 0x9FA0  # PROC_SUPER_MAGIC
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file_system_type(fd)
