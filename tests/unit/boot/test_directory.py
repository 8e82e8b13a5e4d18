"""The boot partition: complete files, the entry last, and nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.boot.directory import BootDirectory, NewFile, NotADirectoryBootError
from cfsctl.errors import ExitCode
from cfsctl.linux import files
from cfsctl.progress import Message
from cfsctl.repository.locking.lock import LockedError
from cfsctl.repository.objects.space import NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.progress import Event

KERNEL = b"kernel" * 1000


def new(path: str, content: bytes = KERNEL) -> NewFile:
    return NewFile(path, len(content), lambda: (content[:7], content[7:]))


def names(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


@pytest.fixture(params=["unnamed", "named"])
def boot(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a boot partition that has files without names, or, like FAT, has none."""
    if request.param == "named":
        monkeypatch.setattr(files, "_open_unnamed", lambda *_: None)
    return tmp_path / "boot"


def test_files_are_written(boot: Path) -> None:
    with BootDirectory(str(boot)) as directory:
        directory.write([new("v/vmlinuz"), new("v/initramfs.img"), new("loader/entries/v.conf", b"text")])
    assert (boot / "v/vmlinuz").read_bytes() == KERNEL
    assert names(boot) == [
        "loader",
        "loader/entries",
        "loader/entries/v.conf",
        "v",
        "v/initramfs.img",
        "v/vmlinuz",
    ]
    assert (boot / "v/vmlinuz").stat().st_mode & 0o777 == 0o644


def test_only_what_differs_is_found(boot: Path) -> None:
    wanted = [new("a"), new("b"), new("c"), new("missing/d")]
    with BootDirectory(str(boot)) as directory:
        directory.write(wanted[:3])
        (boot / "b").write_bytes(KERNEL[:-1] + b"x")
        (boot / "c").write_bytes(KERNEL + b"x")
        assert [file.path for file in directory.find_changed(wanted)] == ["b", "c", "missing/d"]


def failing() -> Iterator[bytes]:
    yield b"half"
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_error_in_the_middle_leaves_nothing_new(boot: Path, place: int) -> None:
    boot.mkdir()
    (boot / "kept").write_text("kept")
    wanted = [new("v/vmlinuz"), new("v/initramfs.img"), new("loader/entries/v.conf", b"text")]
    wanted[place] = NewFile(wanted[place].path, 8, failing)
    with BootDirectory(str(boot)) as directory, pytest.raises(OSError, match="Input/output error"):
        directory.write(wanted)
    assert names(boot) == ["kept"]


def test_content_of_another_size_is_refused(boot: Path) -> None:
    with BootDirectory(str(boot)) as directory, pytest.raises(OSError, match="expected 9 bytes, found 4"):
        directory.write([NewFile("a/b", 9, lambda: (b"four",))])
    assert names(boot) == []


def test_replaced_files_are_never_half(boot: Path) -> None:
    """What was there stays as it was until all that is new has been written."""
    seen = []
    with BootDirectory(str(boot)) as directory:
        directory.write([new("a", b"old a"), new("entry", b"old entry")])

        def look() -> Iterator[bytes]:
            seen.append((boot / "a").read_bytes())
            yield b"new entry"

        directory.write([new("a", b"new a"), NewFile("entry", 9, look)])
    assert seen == [b"old a"]
    assert (boot / "a").read_bytes() == b"new a"


def test_leftovers_of_a_killed_run_are_removed(boot: Path) -> None:
    (boot / "v").mkdir(parents=True)
    (boot / "v" / f"{files.TEMPORARY_FILE_PREFIX}abc").write_bytes(b"half")
    with BootDirectory(str(boot)) as directory:
        directory.write([new("v/a"), new("v/b")])
    assert names(boot) == ["v", "v/a", "v/b"]


def test_file_in_place_of_a_directory(boot: Path) -> None:
    boot.mkdir()
    (boot / "loader").write_text("file")
    with BootDirectory(str(boot)) as directory, pytest.raises(NotADirectoryBootError, match="boot/loader"):
        directory.write([new("loader/entries/x.conf")])


def test_errors_name_the_path_in_the_boot_directory(boot: Path) -> None:
    (boot / "loader/entries/x.conf").mkdir(parents=True)
    with BootDirectory(str(boot)) as directory, pytest.raises(IsADirectoryError) as caught:
        directory.write([new("loader/entries/x.conf")])
    assert caught.value.filename == f"{boot}/loader/entries/x.conf"


def test_link_in_place_of_a_file_is_replaced(boot: Path) -> None:
    boot.mkdir()
    (boot / "target").write_bytes(KERNEL)
    (boot / "a").symlink_to("target")
    with BootDirectory(str(boot)) as directory:
        directory.write(directory.find_changed([new("a")]))
    assert not (boot / "a").is_symlink()
    assert (boot / "a").read_bytes() == KERNEL


def test_space_is_checked(boot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Statistics:
        f_blocks, f_bavail, f_frsize = 1000, 20, 4096

    with BootDirectory(str(boot)) as directory:
        monkeypatch.setattr(os, "fstatvfs", lambda _: Statistics)
        directory.check_space([new("a", bytes(4 * 4096))])
        directory.check_space([])
        with pytest.raises(NoSpaceError, match=r"86016 bytes are needed, 81920 are free") as raised:
            directory.check_space([new("a", bytes(4 * 4096)), new("b", b"1")])
    assert raised.value.exit_code == ExitCode.NO_SPACE


def test_others_have_to_wait(boot: Path) -> None:
    boot.mkdir()
    said: list[Event] = []
    other = os.open(boot, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="in use by another process"):
            BootDirectory(str(boot), lock_timeout_s=0.01, reporter=said.append)
        BootDirectory(str(boot), is_locked=False).close()
    finally:
        os.close(other)
    assert [event.text for event in said if isinstance(event, Message)] == [
        f"{boot}: waiting for another program that writes there"
    ]


def test_removed_with_what_is_empty_then(boot: Path) -> None:
    with BootDirectory(str(boot)) as directory:
        directory.write([new("v/sub/a"), new("v/b"), new("loader/entries/v.conf")])
        assert directory.remove("v/sub/a")
        assert directory.remove("loader/entries/v.conf")
        assert not directory.remove("v/nothing")
    assert names(boot) == ["loader", "loader/entries", "v", "v/b"]


@pytest.mark.parametrize("path", ["../x", "link/x"])
def test_paths_stay_inside(boot: Path, path: str) -> None:
    boot.mkdir()
    (boot / "link").symlink_to("..")
    with BootDirectory(str(boot)) as directory, pytest.raises(NotADirectoryBootError, match="leads out of"):
        directory.write([new(path)])
    assert not (boot.parent / "x").exists()
