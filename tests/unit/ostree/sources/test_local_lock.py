"""How long to wait for the lock of somebody else's repository."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import ExitCode
from cfsctl.ostree.sources.local_lock import RepositoryInUseError, lock_for_use
from cfsctl.ostree.sources.local_repository import LocalRepository, NotAnOstreeRepositoryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def held(tmp_path: Path) -> Iterator[int]:
    """Return a directory with a lock that somebody holds."""
    dirfd = os.open(tmp_path, os.O_PATH)
    fd = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))
    yield dirfd
    os.close(fd)
    os.close(dirfd)


@pytest.mark.parametrize("text", ["-1", "-" + "9" * 400, "9" * 400, "1e9", "inf", "\u0663", "", "300", "x"])
def test_a_source_cannot_make_us_wait_for_ever(held: int, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    now_s = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds * 10

    monkeypatch.setattr("cfsctl.ostree.sources.local_lock.time.sleep", sleep)
    monkeypatch.setattr("cfsctl.ostree.sources.local_lock.time.monotonic", lambda: now_s)
    with pytest.raises(RepositoryInUseError, match="for 15 s") as caught:
        lock_for_use(held, "there", {"lock-timeout-secs": text})
    assert caught.value.exit_code is ExitCode.LOCKED


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", "0"), ("-1", "86400"), ("9" * 400, "86400"), ("20", "20")]
)
def test_a_target_is_waited_for_as_it_says(
    held: int, monkeypatch: pytest.MonkeyPatch, text: str, seconds: str
) -> None:
    now_s = 0.0

    def sleep(_: float) -> None:
        nonlocal now_s
        now_s += 1000

    monkeypatch.setattr("cfsctl.ostree.sources.local_lock.time.sleep", sleep)
    monkeypatch.setattr("cfsctl.ostree.sources.local_lock.time.monotonic", lambda: now_s)
    with pytest.raises(RepositoryInUseError, match=f"for {seconds} s"):
        lock_for_use(held, "there", {"lock-timeout-secs": text}, create=True)


def test_a_nul_in_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "config").write_bytes(b"[core]\nrepo_version=1\nmode=archive-z2\nparent=/x\0y\n")
    with pytest.raises(NotAnOstreeRepositoryError, match="NUL"):
        LocalRepository(str(tmp_path))
