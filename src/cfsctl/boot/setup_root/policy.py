"""Which image of a kernel command line is booted. No I/O.

Arguments are tried in their order. One that is malformed, or whose image is not stored, is passed over with a
message; any other failure ends the boot, since an image that was tampered with must not lead to an older one.
Behind an argument that demands fs-verity and was passed over, none counts that does without: whoever can
write to the disk could remove the image to get around the demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from cfsctl.boot.cmdline import DIGEST_KEY, LEGACY_KEY, KernelArgumentError, iter_arguments, split_cmdline
from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.boot.cmdline import ImageArgument

T = TypeVar("T")

MAX_ARGUMENTS: Final = 64
"""Arguments that are looked at; a command line of the kernel has no room for more."""

_SHOWN_CHARACTERS: Final = 100


class NoArgumentError(CfsError):
    """A command line without any argument that names an image."""

    exit_code = ExitCode.NOT_FOUND


class NoBootImageError(CfsError):
    """A command line that names no image that can be booted."""

    exit_code = ExitCode.NOT_FOUND


class Candidate(NamedTuple):
    """An argument of a command line.

    Attributes:
        argument: What it says, or None if it is malformed.
        problem: What is wrong with it, or an empty text.
        is_insecure: Whether it does without fs-verity, as far as can be told.
    """

    argument: ImageArgument | None
    problem: str
    is_insecure: bool


def read_candidates(cmdline: str) -> list[Candidate]:
    """Return the arguments that name images, malformed ones too, in their order.

    Raises:
        NoArgumentError: There are none.
        KernelArgumentError: The command line is too long.
    """
    tokens = [token for token in split_cmdline(cmdline) if token.startswith((DIGEST_KEY, LEGACY_KEY))]
    if not tokens:
        raise NoArgumentError(
            "no composefs karg found in kernel cmdline",
            hint="boot an entry made by `cfsctl oci prepare-boot`, or add what `cfsctl compute-karg` prints",
        )
    return [*_iter_candidates(tokens[:MAX_ARGUMENTS])]


def _iter_candidates(tokens: list[str]) -> Iterator[Candidate]:
    for token in dict.fromkeys(tokens):
        try:
            argument = next(iter_arguments(token))
        except KernelArgumentError as error:
            yield Candidate(None, _shorten(str(error)), token.partition("=")[2].startswith("?"))
        else:
            yield Candidate(argument, "", argument.is_insecure)


def _shorten(text: str) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown if len(shown) <= 2 * _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."


def choose_image(
    cmdline: str, find: Callable[[ImageArgument], T | None], tell: Callable[[str], None]
) -> tuple[ImageArgument, T]:
    """Return the first image of a command line that is stored.

    Args:
        cmdline: The command line.
        find: Returns the image of an argument, or None if it is not stored; what it raises ends the search.
        tell: Called with a message for each argument that is passed over.

    Raises:
        NoArgumentError: No argument names an image.
        NoBootImageError: None of them can be booted.
    """
    tried: list[str] = []
    must_be_secure = False
    for candidate in read_candidates(cmdline):
        if candidate.argument is None:
            tell(f"{candidate.problem}, trying next karg")
            must_be_secure = must_be_secure or not candidate.is_insecure
            continue
        hex_id = candidate.argument.object_id.hex()
        if candidate.is_insecure and must_be_secure:
            tell(f"image {hex_id} not tried: an earlier karg requires fs-verity, and this one does not")
            continue
        found = find(candidate.argument)
        if found is not None:
            return candidate.argument, found
        tried.append(hex_id)
        tell(f"image {hex_id} not found, trying next karg")
        must_be_secure = must_be_secure or not candidate.is_insecure
    raise NoBootImageError(
        f"no composefs image found (tried: {', '.join(tried)})"
        if tried
        else "no composefs image found: no karg in the kernel cmdline can be used",
    )
