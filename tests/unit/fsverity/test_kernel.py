"""How the kernel's answers about fs-verity are understood."""

from __future__ import annotations

import errno
import os

import pytest

from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError, ExitCode
from cfsctl.fsverity import kernel
from cfsctl.fsverity.kernel import (
    VerityAlgorithmError,
    VerityBusyError,
    VerityEnabledError,
    VerityMissingError,
    VerityUnsupportedError,
)


class _Kernel:
    """Answers the ioctls with the given errors, one after the other, and then with success."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *numbers: int, digest: bytes = bytes(32)) -> None:
        self.numbers = list(numbers)
        self.calls = 0
        self.digest = digest
        monkeypatch.setattr(kernel, "enable_verity", self.enable)
        monkeypatch.setattr(kernel, "measure_verity", self.measure)
        monkeypatch.setattr(kernel, "ENABLE_PAUSE_S", 0)

    def enable(self, _fd: int, algorithm: int) -> None:
        assert algorithm == 1
        self.calls += 1
        if self.numbers:
            number = self.numbers.pop(0)
            raise OSError(number, os.strerror(number))

    def measure(self, fd: int) -> tuple[int, bytes]:
        self.enable(fd, 1)
        return 1, self.digest


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOTTY, VerityUnsupportedError),
        (errno.EOPNOTSUPP, VerityUnsupportedError),
        (errno.EEXIST, VerityEnabledError),
    ],
)
def test_refusals_to_enable(monkeypatch: pytest.MonkeyPatch, number: int, error: type[CfsError]) -> None:
    _Kernel(monkeypatch, number)
    with pytest.raises(error) as caught:
        kernel.enable(3, Algorithm.SHA256)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == number


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPERM, errno.EINVAL])
def test_other_refusals_pass_through(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    fake = _Kernel(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        kernel.enable(3, Algorithm.SHA256)
    assert not isinstance(caught.value, CfsError)
    assert fake.calls == 1


def test_busy_file_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _Kernel(monkeypatch, errno.ETXTBSY, errno.EBUSY, errno.ETXTBSY)
    kernel.enable(3, Algorithm.SHA256)
    assert fake.calls == 4


def test_file_that_stays_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _Kernel(monkeypatch, *[errno.ETXTBSY] * 1000)
    with pytest.raises(VerityBusyError, match="opened for writing"):
        kernel.enable(3, Algorithm.SHA256)
    assert fake.calls == kernel.ENABLE_ATTEMPTS


@pytest.mark.parametrize(
    ("number", "error", "exit_code"),
    [
        (errno.ENODATA, VerityMissingError, ExitCode.CORRUPTION),
        (errno.ENOTTY, VerityUnsupportedError, ExitCode.ERROR),
        (errno.EOVERFLOW, VerityAlgorithmError, ExitCode.CORRUPTION),
    ],
)
def test_refusals_to_measure(
    monkeypatch: pytest.MonkeyPatch, number: int, error: type[CfsError], exit_code: ExitCode
) -> None:
    _Kernel(monkeypatch, number)
    with pytest.raises(error) as caught:
        kernel.measure(3, Algorithm.SHA256)
    assert caught.value.exit_code is exit_code
    assert str(caught.value)
    assert caught.value.hint is None


def test_measured_digest_of_the_other_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    _Kernel(monkeypatch)
    with pytest.raises(VerityAlgorithmError, match="Expected algorithm 2, found 1"):
        kernel.measure(3, Algorithm.SHA512)
    assert kernel.measure(3, Algorithm.SHA256) == bytes(32)
