"""fs-verity in the kernel: enable it on a file, and query a file's digest.

Errors that callers may want to handle have their own classes. They are also `OSError`s and keep errno and
path. Other errors are passed on unchanged.
"""

from __future__ import annotations

import errno
import time
from typing import Final

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.errors import ExitCode, IntegrityError
from cfsctl.linux.ioctls import enable_verity, measure_verity

ENABLE_ATTEMPTS: Final = 10
"""Attempts while a forked process still has the file open for writing, or another one enables it."""

ENABLE_PAUSE_S: Final = 0.001
"""Pause before the second attempt; it doubles each time, half a second in all."""

_UNSUPPORTED = {errno.ENOTTY, errno.EOPNOTSUPP}
_PASSING = {errno.ETXTBSY, errno.EBUSY}


class VerityError(IntegrityError, OSError):
    """The kernel will not do what was asked of fs-verity."""

    def __init__(self, number: int, message: str) -> None:
        """Store errno and message."""
        OSError.__init__(self, number, message)
        self.hint = None

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.strerror)


class VerityUnsupportedError(VerityError):
    """The file system does not support fs-verity."""

    exit_code = ExitCode.ERROR


class VerityMissingError(VerityError):
    """The file has no fs-verity where it is required."""


class VerityEnabledError(VerityError):
    """The file has fs-verity already."""

    exit_code = ExitCode.ERROR


class VerityBusyError(VerityError):
    """The file stayed open for writing, so fs-verity cannot be enabled."""

    exit_code = ExitCode.ERROR


class VerityAlgorithmError(VerityError):
    """The file has fs-verity of another hash algorithm than expected."""


def enable(fd: int, algorithm: Algorithm) -> None:
    """Enable fs-verity on a file, waiting for a moment while the file is busy.

    Args:
        fd: Read-only descriptor, borrowed.
        algorithm: Hash algorithm of the tree.

    Raises:
        VerityUnsupportedError: The file system cannot.
        VerityEnabledError: It is on already.
        VerityBusyError: The file is still open for writing after `ENABLE_ATTEMPTS`.
        OSError: Any other refusal.
    """
    for attempt in range(ENABLE_ATTEMPTS):
        try:
            enable_verity(fd, algorithm.value)
        except OSError as error:
            last = attempt == ENABLE_ATTEMPTS - 1
            if error.errno not in _PASSING or last:
                raise _explain_enable(error) from error
            # A process forked by another thread holds a copy of the writable descriptor until its exec.
            time.sleep(ENABLE_PAUSE_S * (1 << attempt))
        else:
            return


def _explain_enable(error: OSError) -> OSError:
    """Return the error class that fits, or `error` itself."""
    number = error.errno or 0
    if number in _UNSUPPORTED:
        return VerityUnsupportedError(number, "Filesystem does not support fs-verity")
    if number == errno.EEXIST:
        return VerityEnabledError(number, "fs-verity is already enabled on file")
    if number in _PASSING:
        return VerityBusyError(number, "File is opened for writing")
    return error


def measure(fd: int, algorithm: Algorithm) -> ObjectID:
    """Return the fs-verity digest that the kernel enforces for a file.

    Raises:
        VerityMissingError: fs-verity is off.
        VerityUnsupportedError: The file system does not support fs-verity.
        VerityAlgorithmError: The file was measured with another algorithm.
        OSError: Any other refusal.
    """
    try:
        number, digest = measure_verity(fd)
    except OSError as error:
        raise _explain_measure(error, algorithm) from error
    if number != algorithm.value:
        message = f"Expected algorithm {algorithm.value}, found {number}"
        raise VerityAlgorithmError(errno.EINVAL, message)
    return ObjectID(digest)


def _explain_measure(error: OSError, algorithm: Algorithm) -> OSError:
    """Return the error class that fits, or `error` itself."""
    number = error.errno or 0
    if number in _UNSUPPORTED:
        return VerityUnsupportedError(number, "fs-verity is not supported by filesystem")
    if number == errno.ENODATA:
        return VerityMissingError(number, "fs-verity is not enabled on file")
    if number == errno.EOVERFLOW:
        return VerityAlgorithmError(number, f"Expected digest size {algorithm.digest_size}")
    return error
