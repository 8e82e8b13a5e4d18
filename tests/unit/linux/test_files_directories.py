"""Directories with the modes that are documented, whatever the umask."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from cfsctl.linux.files import make_directory, read_umask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_mode_is_exact(tmp_path: Path, mask: int, mode: int) -> None:
    make_directory(str(tmp_path / "d"), mode)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == mode
    assert read_umask() == mask


def test_inherited_bits_stay(tmp_path: Path) -> None:
    tmp_path.chmod(0o2755)
    if not tmp_path.stat().st_mode & stat.S_ISGID:
        pytest.skip("no set-group-ID bit for directories here")
    before = os.umask(0o077)
    try:
        make_directory(str(tmp_path / "d"), 0o755)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o2755


def test_name_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    with pytest.raises(FileExistsError):
        make_directory(str(tmp_path / "d"), 0o755)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700
