"""Kernel arguments that name a composefs image.

    composefs.digest=v1-sha256-12:HEX    an image of format 0 or 1; v2 is understood and never written
    composefs=HEX                        an image of format 2, and of any format in older systems
    composefs=?HEX                       the same for both keys: fs-verity is not required

Format: the kernel's own splitting of its command line, as far as the original follows it: white space outside
double quotes separates arguments, quotes stay part of the argument, and nothing is escaped.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cfsctl.digest import LG_BLOCKSIZE, Algorithm, ObjectID
from cfsctl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

DIGEST_KEY: Final = "composefs.digest="
LEGACY_KEY: Final = "composefs="
MAX_CMDLINE_CHARACTERS: Final = 1 << 20
"""Longest command line that is read; kernels take 2048 to 4096 bytes."""

_TOKEN: Final = re.compile(r'(?:[^ \t\n\f\r"]|"[^"]*(?:"|\Z))+')
_HEX: Final = re.compile(r"[0-9A-Fa-f]*\Z")


class KernelArgumentError(FormatError):
    """A composefs argument that is malformed."""


@dataclass(frozen=True, slots=True)
class ImageArgument:
    """A kernel argument that names an image.

    Attributes:
        object_id: The image.
        is_insecure: Whether the image may be mounted without fs-verity.
        key: `DIGEST_KEY` or `LEGACY_KEY`.
    """

    object_id: ObjectID
    is_insecure: bool
    key: str


def split_cmdline(text: str) -> list[str]:
    """Return the arguments of a command line, quotes included.

    Raises:
        KernelArgumentError: The text is longer than any command line.
    """
    return [found[0] for found in iter_tokens(text)]


def iter_tokens(text: str) -> Iterator[re.Match[str]]:
    """Return the arguments of a command line with their places.

    Raises:
        KernelArgumentError: The text is longer than any command line.
    """
    if len(text) > MAX_CMDLINE_CHARACTERS:
        raise KernelArgumentError(
            f"kernel command line: {len(text)} characters; expected {MAX_CMDLINE_CHARACTERS} at most"
        )
    return _TOKEN.finditer(text)


def format_argument(object_id: ObjectID, *, is_format_2: bool, is_insecure: bool) -> str:
    """Return the argument that names an image, in the form for its format."""
    mark = "?" if is_insecure else ""
    if is_format_2:
        return f"{LEGACY_KEY}{mark}{object_id.hex()}"
    algorithm = Algorithm.of_digest(object_id)
    return f"{DIGEST_KEY}{mark}v1-{algorithm.hash_name}-{LG_BLOCKSIZE}:{object_id.hex()}"


def find_argument(text: str, algorithm: Algorithm) -> ImageArgument | None:
    """Return the argument of a command line that counts for repositories of an algorithm, or None.

    The first ``composefs.digest=`` of this algorithm counts, else the first ``composefs=``.

    Raises:
        KernelArgumentError: An argument that is checked is malformed, or the legacy one is of another
            algorithm.
    """
    tokens = split_cmdline(text)
    for token in tokens:
        if token.startswith(DIGEST_KEY):
            # The digest of an argument for another algorithm is not checked, as with the original.
            found, digest = _parse_descriptor(token)
            if found is algorithm:
                return _make_argument(token, digest, algorithm)
    for token in tokens:
        if token.startswith(LEGACY_KEY):
            return _parse_legacy(token, algorithm)
    return None


def iter_arguments(text: str) -> Iterator[ImageArgument]:
    """Yield every composefs argument of a command line in its order.

    The length of a digest tells its algorithm.

    Raises:
        KernelArgumentError: The argument that comes next is malformed.
    """
    for token in split_cmdline(text):
        if token.startswith(DIGEST_KEY):
            yield parse_digest_argument(token)
        elif token.startswith(LEGACY_KEY):
            value = token.removeprefix(LEGACY_KEY)
            length = len(value.removeprefix("?"))
            algorithms = [known for known in Algorithm if length == 2 * known.digest_size]
            if not algorithms:
                raise KernelArgumentError(f"invalid composefs= digest length: {length}")
            yield _parse_legacy(token, algorithms[0])


def iter_images(text: str, algorithm: Algorithm) -> Iterator[ObjectID]:
    """Yield the images of an algorithm that a command line names; malformed arguments name none.

    Raises:
        KernelArgumentError: The text is longer than any command line.
    """
    for token in split_cmdline(text):
        with contextlib.suppress(KernelArgumentError):
            for argument in iter_arguments(token):
                if Algorithm.of_digest(argument.object_id) is algorithm:
                    yield argument.object_id


def parse_digest_argument(token: str) -> ImageArgument:
    """Return what ``composefs.digest=...`` names.

    Raises:
        KernelArgumentError: The argument is malformed.
    """
    algorithm, digest = _parse_descriptor(token)
    return _make_argument(token, digest, algorithm)


def _make_argument(token: str, digest: str, algorithm: Algorithm) -> ImageArgument:
    is_insecure = token.startswith(DIGEST_KEY + "?")
    return ImageArgument(_parse_hex(digest, algorithm, DIGEST_KEY), is_insecure=is_insecure, key=DIGEST_KEY)


def _parse_descriptor(token: str) -> tuple[Algorithm, str]:
    """Return the algorithm of a ``composefs.digest=`` argument, and its digest, which is not checked yet."""
    value = token.removeprefix(DIGEST_KEY)
    marked = value.removeprefix("?")
    what = f"parsing composefs.digest= value: {value}"
    descriptor, colon, digest = marked.partition(":")
    if not colon:
        raise KernelArgumentError(f"{what}: expected '<version>-<hash>-<blocksize>:<hex>', got: {marked}")
    version, _, name = descriptor.partition("-")
    if not name:
        raise KernelArgumentError(f"{what}: expected 'v<N>-<hash>-<blocksize>', got: {descriptor}")
    if version not in {"v1", "v2"}:
        raise KernelArgumentError(f"{what}: unsupported format version '{version}'")
    return _parse_algorithm(name, what), digest


def _parse_algorithm(name: str, what: str) -> Algorithm:
    hash_name, _, blocksize = name.partition("-")
    where = f"{what}: parsing algorithm from '{name}'"
    if not blocksize:
        raise KernelArgumentError(f"{where}: expected '<hash>-<lg_blocksize>'")
    try:
        algorithm = Algorithm.from_hash_name(hash_name)
    except ValueError as error:
        raise KernelArgumentError(f"{where}: {error}") from error
    if blocksize != str(LG_BLOCKSIZE):
        raise KernelArgumentError(
            f"{where}: unsupported lg_blocksize {blocksize} (only {LG_BLOCKSIZE} is currently supported)"
        )
    return algorithm


def _parse_legacy(token: str, algorithm: Algorithm) -> ImageArgument:
    value = token.removeprefix(LEGACY_KEY)
    marked = value.removeprefix("?")
    return ImageArgument(
        _parse_hex(marked, algorithm, LEGACY_KEY), is_insecure=marked != value, key=LEGACY_KEY
    )


def _parse_hex(digest: str, algorithm: Algorithm, key: str) -> ObjectID:
    expected = 2 * algorithm.digest_size
    if len(digest) != expected or not _HEX.match(digest):
        problem = "" if len(digest) != expected else ", not all of them hexadecimal digits"
        raise KernelArgumentError(
            f"parsing {key} hash: got {len(digest)} hex chars,"
            f" expected {expected} for {algorithm.label}{problem}"
        )
    return ObjectID(bytes.fromhex(digest))
