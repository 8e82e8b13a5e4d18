"""Inputs that a user names."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from cfsctl.linux import inputs
from cfsctl.linux.inputs import iter_pipe, open_input

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path | str) -> bytes:
    with open(open_input(str(path)), "rb") as file:
        return file.read()


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert read(tmp_path / "file") == b"content"
    with pytest.raises(FileNotFoundError):
        open_input(str(tmp_path / "none"))


def test_a_pipe_that_nobody_writes_to_ends_as_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "WRITER_TIMEOUT_S", 0.01)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="found no writer") as caught:
        open_input(str(tmp_path / "fifo"))
    assert caught.value.errno == errno.ETIMEDOUT


@pytest.mark.parametrize("content", [b"", b"content", bytes(200_000)])
def test_a_named_pipe_is_read_to_its_end(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    assert read(path) == content
    writer.join()


@pytest.mark.parametrize("content", [b"", b"content"])
def test_a_pipe_whose_writer_is_gone_is_read(content: bytes) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, content)
        os.close(writing)
        assert read(f"/dev/fd/{reading}") == content
        assert os.get_blocking(reading)
    finally:
        os.close(reading)


def test_a_pipe_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_PIPE_BYTES", 3 << 20)
    with open("/dev/zero", "rb") as zeros, pytest.raises(OSError, match="at most 3145728 bytes") as caught:
        for _ in iter_pipe(zeros.fileno()):
            pass
    assert caught.value.errno == errno.EFBIG
