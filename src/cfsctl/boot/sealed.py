"""Payloads with a command line of their own, which must name the image that they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.boot import aboot
from cfsctl.boot.cmdline import KernelArgumentError, find_argument
from cfsctl.boot.uki import read_cmdline
from cfsctl.digest import qualified
from cfsctl.errors import FormatError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.digest import Algorithm, ObjectID


class NotSealedError(FormatError):
    """A command line that names no image."""


class WrongImageError(IntegrityError):
    """A command line that names another image.

    Attributes:
        found: The image that it names.
    """

    def __init__(self, message: str, found: ObjectID, *, hint: str | None = None) -> None:
        """Store the message and the image."""
        super().__init__(message, hint=hint)
        self.found = found


def named_image(cmdline: str, algorithm: Algorithm, what: str = "UKI") -> ObjectID:
    """Return the image that the command line of a payload names.

    Raises:
        NotSealedError: It names none.
        KernelArgumentError: The argument is malformed.
    """
    try:
        argument = find_argument(cmdline, algorithm)
    except KernelArgumentError as error:
        raise KernelArgumentError(f'parsing {what} .cmdline section: "{cmdline}": {error}') from error
    if argument is None:
        raise NotSealedError(
            f'{what} .cmdline has no composefs karg (composefs= or composefs.digest=): "{cmdline}"',
            hint="build it with the argument that `cfsctl compute-karg` prints",
        )
    return argument.object_id


def check_named_image(
    cmdline: str, algorithm: Algorithm, allowed: Sequence[ObjectID], what: str = "UKI"
) -> ObjectID:
    """Return the image that the command line of a payload names, which must be one of those allowed.

    Raises:
        NotSealedError, KernelArgumentError: See `named_image`.
        WrongImageError: It is none of them.
    """
    found = named_image(cmdline, algorithm, what)
    if found not in allowed:
        listed = ", ".join(map(qualified, allowed))
        raise WrongImageError(
            f"The {what} has the wrong composefs digest (is '{qualified(found)}',"
            f" should be one of [{listed}])",
            found,
            hint="seal it again: put what `cfsctl compute-karg` prints into its command line",
        )
    return found


def payload_cmdline(data: bytes | memoryview, kind: aboot.PayloadKind) -> str:
    """Return the command line of an aboot payload.

    Raises:
        FormatError: It has none, or one that is not UTF-8.
    """
    if kind is aboot.PayloadKind.UKI:
        return read_cmdline(data)
    cmdline = aboot.parse_header(data).cmdline
    try:
        return cmdline.decode().strip(" \t\r\n")
    except UnicodeDecodeError as error:
        raise aboot.AbootError("kernel command line is not UTF-8", offset=64) from error
