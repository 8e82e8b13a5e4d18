"""Relative paths in errors become what the user can look at."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.files import AnonymousFile, replace_symlink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("name", "some/where/name"),
        (b"n\xff", "some/where/n\udcff"),
        ("a/../b", "some/where/a/../b"),
        (".", "some/where"),
        (None, "some/where"),
        ("/abs", "/abs"),
        (7, 7),
    ],
)
def test_path_of_an_error(path: str | bytes | None, shown: str | int) -> None:
    with pytest.raises(OSError, match="reason") as caught, relative_to("some/where"):
        raise OSError(5, "reason", path)
    assert caught.value.filename == shown
    assert caught.value.errno == 5


def test_both_paths_of_a_rename(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FileNotFoundError) as caught, relative_to(os.fsencode(tmp_path)):
        os.rename("a", "b", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)
    assert (caught.value.filename, caught.value.filename2) == (f"{tmp_path}/a", f"{tmp_path}/b")


def test_blocks_may_be_nested() -> None:
    with pytest.raises(OSError, match="reason") as caught, relative_to("out"), relative_to("in"):
        raise OSError(5, "reason", "name")
    assert caught.value.filename == "out/in/name"


def replace_file(dirfd: int) -> None:
    with AnonymousFile(dirfd) as file:
        file.replace(dirfd, "taken")


@pytest.mark.parametrize("make", [replace_file, lambda dirfd: replace_symlink(dirfd, "taken", "target")])
def test_temporary_names_are_not_shown(tmp_path: Path, make: Callable[[int], None]) -> None:
    (tmp_path / "taken").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError) as caught:
        make(fd)
    os.close(fd)
    assert (caught.value.filename, caught.value.filename2) == ("taken", None)
    assert os.listdir(tmp_path) == ["taken"]
