"""What is said about a full file system."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import CfsError
from cfsctl.linux.quota import read_quota_room
from cfsctl.repository.objects.space import NoSpaceError, explain_no_space, needing

if TYPE_CHECKING:
    from pathlib import Path


def explain(tmp_path: Path, number: int, needed: int | None) -> str:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=os.strerror(number)) as caught, needing(lambda _: needed):
            raise OSError(number, os.strerror(number), "x")
        with pytest.raises(NoSpaceError) as raised:
            explain_no_space(caught.value, fd, "repository R")
    finally:
        os.close(fd)
    return str(raised.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_how_much_is_missing(tmp_path: Path, number: int) -> None:
    text = explain(tmp_path, number, 1 << 60)
    assert text.startswith(f"repository R: {os.strerror(number)} (now ")
    found = re.search(r"now (\d+) bytes .* at least (\d+) bytes .*: (\d+) bytes are missing\)$", text)
    assert found
    assert int(found[2]) == 1 << 60 == int(found[1]) + int(found[3])


def test_nothing_is_said_that_is_not_known(tmp_path: Path) -> None:
    assert "still to be stored" not in explain(tmp_path, errno.ENOSPC, None)
    assert "missing" not in explain(tmp_path, errno.ENOSPC, 1)  # somebody has made room in the meantime


def test_quota_that_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfsctl.linux.quota.read_quota_room", lambda _: (4096, None))
    assert "(now 4096 bytes and " in explain(tmp_path, errno.EDQUOT, None)
    assert "free of the quota; at least 5000 bytes are still to be stored: 904" in explain(
        tmp_path, errno.EDQUOT, 5000
    )


def test_counting_that_fails_hides_nothing(tmp_path: Path) -> None:
    def fail(_error: OSError) -> int:
        raise CfsError("no")

    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="No space") as caught, needing(fail):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(NoSpaceError):
        explain_no_space(caught.value, fd, "repository R")
    os.close(fd)


def test_file_system_without_quotas(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    rooms = read_quota_room(fd)
    os.close(fd)
    assert all(room is None or room >= 0 for room in rooms)
