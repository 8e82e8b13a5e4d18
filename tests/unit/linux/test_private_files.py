"""Files that are believed only if nobody but this user and root can have written them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import CfsError, describe
from cfsctl.linux.private_files import NotPrivateError, is_private_directory, open_private, read_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "state"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "directory"
    path.mkdir(0o755)
    (path / NAME).write_bytes(b"content")
    (path / NAME).chmod(0o644)
    return path


@pytest.fixture
def dirfd(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_an_own_file_is_read(dirfd: int) -> None:
    assert read_private(dirfd, NAME, 7) == b"content"


def test_it_may_not_be_larger_than_it_is_allowed_to_be(dirfd: int) -> None:
    with pytest.raises(OSError, match="more than 6 bytes"):
        read_private(dirfd, NAME, 6)


CHANGES: dict[str, Callable[[Path], None]] = {
    "file writable for the group": lambda path: (path / NAME).chmod(0o664),
    "file writable for all": lambda path: (path / NAME).chmod(0o646),
    "directory writable for the group": lambda path: path.chmod(0o775),
    "directory writable for all": lambda path: path.chmod(0o757),
    "directory writable for all, sticky": lambda path: path.chmod(0o1777),
    "file with a second name": lambda path: os.link(path / NAME, path / "second"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_others_can_have_written_is_refused(
    directory: Path, dirfd: int, change: Callable[[Path], None]
) -> None:
    change(directory)
    with pytest.raises(NotPrivateError, match="expected"):
        open_private(dirfd, NAME)


@needs_root
@pytest.mark.parametrize("name", [NAME, "."])
def test_what_belongs_to_somebody_else_is_refused(directory: Path, dirfd: int, name: str) -> None:
    os.chown(directory / name, 65534, 65534)
    with pytest.raises(NotPrivateError, match="found 65534"):
        open_private(dirfd, NAME)
    assert is_private_directory(dirfd) is (name == NAME)


def test_links_and_other_types_are_refused(directory: Path, dirfd: int) -> None:
    (directory / "link").symlink_to(NAME)
    os.mkfifo(directory / "fifo")
    (directory / "inner").mkdir()
    for name in ("link", "fifo", "inner"):
        with pytest.raises(OSError, match=r"symbolic link|regular file"):
            open_private(dirfd, name)


def test_the_message_has_no_number_of_a_system_call(directory: Path, dirfd: int) -> None:
    (directory / NAME).chmod(0o666)
    with pytest.raises(NotPrivateError) as caught:
        read_private(dirfd, NAME, 100)
    assert str(caught.value) == f"{NAME}: expected write permission for the owner only, found mode 0666"
    assert describe(caught.value) == str(caught.value)
    assert describe(OSError(28, "No space left on device", "file")) == "file: No space left on device"
    assert describe(OSError(28, "No space left on device")) == "No space left on device"
    assert describe(OSError(28, "No space left on device", b"\xff")) == "\udcff: No space left on device"
    assert describe(CfsError("what was found")) == "what was found"
