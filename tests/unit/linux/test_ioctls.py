"""Numbers and layouts of the ioctls, and what an ordinary file system answers."""

from __future__ import annotations

import errno
import fcntl
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cfsctl.linux import ioctls

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(os.uname().machine not in {"x86_64", "aarch64"}, reason="numbers of other architectures")
def test_numbers_are_those_of_the_kernel_headers() -> None:
    assert ioctls.FS_IOC_ENABLE_VERITY == 0x40806685
    assert ioctls.FS_IOC_MEASURE_VERITY == 0xC0046686
    assert ioctls.FICLONE == 0x40049409


def test_architectures_with_wide_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="ppc64le"))
    assert ioctls._number("f", 133, 128, write=True, read=False) == 0x80806685
    assert ioctls._number("f", 134, 4, write=True, read=True) == 0xC0046686


def test_enable_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, bytes]] = []
    monkeypatch.setattr(fcntl, "ioctl", lambda *call: seen.append(call))
    ioctls.enable_verity(7, 2)
    ((fd, number, argument),) = seen
    assert (fd, number) == (7, ioctls.FS_IOC_ENABLE_VERITY)
    words = [int.from_bytes(argument[at : at + 4], "little") for at in range(0, 16, 4)]
    assert words == [1, 2, 4096, 0]
    assert argument[16:] == bytes(112)


@pytest.mark.parametrize("size", [32, 64])
def test_measured_digest_is_cut_to_its_size(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    def measure(_fd: int, _number: int, argument: bytearray) -> None:
        assert argument[2:4] == (64).to_bytes(2, "little")
        argument[:4] = b"\x02\0" + size.to_bytes(2, "little")
        argument[4 : 4 + size] = bytes(range(size))

    monkeypatch.setattr(fcntl, "ioctl", measure)
    assert ioctls.measure_verity(7) == (2, bytes(range(size)))


def test_refusals_are_system_errors(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with (tmp_path / "a").open("rb") as source:
        answers = "|".join(os.strerror(n) for n in (errno.ENODATA, errno.ENOTTY, errno.EOPNOTSUPP))
        with pytest.raises(OSError, match=answers):
            ioctls.measure_verity(source.fileno())
        with pytest.raises(OSError, match="Bad file descriptor"):
            ioctls.try_clone(source.fileno(), source.fileno())


@pytest.mark.parametrize(("number", "is_refusal"), [(errno.EXDEV, True), (errno.ENOSPC, False)])
def test_only_what_cannot_be_is_a_refusal_to_clone(
    monkeypatch: pytest.MonkeyPatch, number: int, *, is_refusal: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    if is_refusal:
        assert not ioctls.try_clone(7, 8)
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            ioctls.try_clone(7, 8)
