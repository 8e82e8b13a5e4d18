"""The error families of cfsctl and the exit code that each one stands for.

Every error that is raised on purpose is derived from `CfsError`; each class is next to the code that
raises it. Errors of system calls stay `OSError`, wrong use of an interface raises `ValueError`,
`TypeError` or `RuntimeError`.

    CfsError                     one root; the command line catches this and OSError
    ├─ FormatError (ValueError)  hostile or malformed bytes from outside
    │  └─ LimitError             more than any format here can hold, see `cfsctl.limits`
    ├─ IntegrityError            well-formed, but wrong
    ├─ RepositoryError           state of a repository
    │  └─ RefNotFoundError       of a store, and of what is pulled from
    ├─ ObjectMissingError        the same
    └─ FetchError                errors of servers and the network
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit status of every command, by kind of outcome. A signal ends a command with 128 + number."""

    OK = 0
    ERROR = 1
    USAGE = 2
    PARTIAL = 3
    NO_REPOSITORY = 10
    LOCKED = 11
    NO_SPACE = 12
    NETWORK = 13
    POLICY = 14
    CORRUPTION = 15
    INVALID_DATA = 16
    NOT_FOUND = 17


class CfsError(Exception):
    """Base of all errors that cfsctl raises on purpose.

    Attributes:
        exit_code: What the command line exits with.
        hint: One sentence on what to do next, or None.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.ERROR

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Store the message; it names the thing, what was expected and what was found."""
        super().__init__(message)
        self.hint = hint


class FormatError(CfsError, ValueError):
    """Bytes that do not follow their format.

    Attributes:
        offset: Byte offset of the fault from the start of the document, or None.
        field: Name of the field at fault as the format calls it, or None.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INVALID_DATA

    def __init__(
        self, message: str, *, offset: int | None = None, field: str | None = None, hint: str | None = None
    ) -> None:
        """Store the message and where the fault is."""
        super().__init__(message, hint=hint)
        self.offset = offset
        self.field = field


class LimitError(FormatError):
    """Something that is larger, longer or nested deeper than what can be stored and read again."""


class IntegrityError(CfsError):
    """Well-formed data that does not match its name or digest."""

    exit_code: ClassVar[ExitCode] = ExitCode.CORRUPTION


class DigestMismatchError(IntegrityError):
    """Content whose digest differs from the expected one.

    Attributes:
        what: The thing that was read, as the user knows it.
        expected: Expected digest, lower-case hex.
        actual: Digest of what was read, lower-case hex.
    """

    def __init__(self, what: str, *, expected: str, actual: str, hint: str | None = None) -> None:
        """Build the message from what was read, the expected digest and the actual one."""
        super().__init__(f"{what}: expected digest {expected}, found {actual}", hint=hint)
        self.what = what
        self.expected = expected
        self.actual = actual


class ReceivedDigestError(DigestMismatchError):
    """Content from a source whose digest is wrong; the local repository is not damaged."""

    exit_code: ClassVar[ExitCode] = ExitCode.INVALID_DATA


class RepositoryError(CfsError):
    """A repository that is not in the state an operation needs."""


class RefNotFoundError(RepositoryError):
    """A name that does not exist, in this repository or in the source of a pull."""

    exit_code: ClassVar[ExitCode] = ExitCode.NOT_FOUND


class ObjectMissingError(CfsError):
    """A missing object that something refers to, in this repository or in the source of a pull."""

    exit_code: ClassVar[ExitCode] = ExitCode.CORRUPTION


class FetchError(CfsError):
    """A server did not send what was requested."""

    exit_code: ClassVar[ExitCode] = ExitCode.NETWORK


def describe(error: Exception) -> str:
    """Return an error as a part of a message; of what the kernel refuses, the file and the reason only."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    name = error.filename
    if name is None:
        return error.strerror
    return f"{os.fsdecode(name) if isinstance(name, (str, bytes)) else name}: {error.strerror}"
