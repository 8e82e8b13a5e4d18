"""Names that become files on the boot partition, which is usually FAT.

They come from the image or the command line: directories of ``/usr/lib/modules``, names of boot entries,
paths in their lines, ``--entry-id``. None of them may lead out of the partition, break a line of an entry, or
be a name that FAT cannot hold.
"""

from __future__ import annotations

from typing import Final

from cfsctl.errors import CfsError, ExitCode

MAX_COMPONENT_CHARACTERS: Final = 200
"""Longest name; FAT holds 255, and suffixes are added."""

MAX_PATH_CHARACTERS: Final = 1024

_REFUSED: Final = frozenset('/\\:*?"<>|')
"""What FAT, the Boot Loader Specification or the firmware takes for something else."""


class BootNameError(CfsError):
    """A name that cannot be used on the boot partition."""

    exit_code = ExitCode.INVALID_DATA


def check_name(name: str, what: str) -> str:
    """Return a name if it can be a file's on the boot partition.

    Args:
        name: The name.
        what: What it is, for the message.

    Raises:
        BootNameError: It cannot.
    """
    if name in {"", ".", ".."}:
        raise BootNameError(f"{what} {name!r} is not a file name")
    refused = next((char for char in name if char in _REFUSED or not char.isprintable()), None)
    if refused is not None:
        raise BootNameError(f"{what} {name!r} contains {refused!r}, which is not allowed in a file name here")
    if name[-1] in " ." or name[0] == " ":
        raise BootNameError(f"{what} {name!r} begins or ends with a character that FAT drops")
    if len(name) > MAX_COMPONENT_CHARACTERS:
        raise BootNameError(f"{what} has {len(name)} characters; expected {MAX_COMPONENT_CHARACTERS} at most")
    return name


def check_path(path: str, what: str) -> str:
    """Return a path below the boot partition, without slashes at its ends or twice in a row.

    Raises:
        BootNameError: It is empty, or one of its names cannot be used.
    """
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if not parts:
        raise BootNameError(f"{what} {path!r} names no file")
    if len(path) > MAX_PATH_CHARACTERS:
        raise BootNameError(f"{what} has {len(path)} characters; expected {MAX_PATH_CHARACTERS} at most")
    for part in parts:
        check_name(part, f"{what} {path!r}:" if len(parts) > 1 else what)
    return "/".join(parts)


def check_argument(argument: str) -> str:
    """Return a kernel argument if it can stand in an entry.

    Raises:
        BootNameError: It is empty or has control characters, which would begin another line.
    """
    if not argument.strip():
        raise BootNameError(f"kernel argument {argument!r} is empty")
    if any(char < " " or char == "\x7f" for char in argument):
        raise BootNameError(f"kernel argument {argument!r} contains a control character")
    if argument.startswith(("composefs=", "composefs.digest=")):
        raise BootNameError(
            f"kernel argument {argument!r} names an image", hint="the image's argument is added by itself"
        )
    return argument
