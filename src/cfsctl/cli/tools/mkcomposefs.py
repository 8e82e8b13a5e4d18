"""The mkcomposefs program: an image from a directory or a dump.

Images are those of the C tool where the two originals differ: a tree with whiteouts is raised to format 1
unless the options forbid it, and what a dump says of link counts and payloads is kept. Options of both
are understood; those that change the tree also apply to dumps, as in composefs-rs.
"""

from __future__ import annotations

import getopt
import os
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl import __version__
from cfsctl.cli.output import print_line, print_lines, tell, tell_lines
from cfsctl.cli.streams import stdin_bytes
from cfsctl.cli.tools.image_file import MakeError, about, write_image
from cfsctl.digest import Algorithm
from cfsctl.errors import ExitCode
from cfsctl.linux.files import make_directory
from cfsctl.linux.inputs import open_input
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.gc_pause import python_gc_paused
from cfsctl.tree.model import CharDevice
from cfsctl.tree.transform import filter_xattrs, keeps_none, keeps_user, remove_devices, reset_times
from cfsctl.tree.walk import iter_directories

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cfsctl.cli.tools.digest_store import DigestStore
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.tree.model import FileSystem

USAGE: Final = """\
Usage: mkcomposefs [OPTIONS] SOURCE IMAGE

Make a composefs image from a directory. IMAGE may be - for standard output.

Options:
  --from-file             SOURCE is a dump, not a directory; - means standard input
  --digest-store DIR      Copy the content of files into DIR, named by digest
  --print-digest          Print the fs-verity digest of the image
  --print-digest-only     Print the digest and write no image; omit IMAGE
  --use-epoch             Set all modification times to 0
  --skip-devices          Omit device nodes, including whiteouts
  --skip-xattrs           Omit extended attributes
  --user-xattrs           Omit extended attributes outside of user.
  --hardlinks             Preserve hard links of a directory; otherwise, each
                          name becomes a separate file
  --min-version N         Lowest format to use, 0 or 1 (default: 0)
  --max-version N         Highest format to use if the tree needs it
                          (default: 1, or --min-version if given)
  --erofs-version N       Always use format 0, 1 or 2
  --hash HASH             sha256 (the default) or sha512
  --threads N             Number of files to read in parallel
                          (default: one per processor)
  -h, --help              Print this text
  -V, --version           Print the version
"""

_FLAGS: Final = (
    "from-file",
    "hardlinks",
    "help",
    "print-digest",
    "print-digest-only",
    "skip-devices",
    "skip-xattrs",
    "use-epoch",
    "user-xattrs",
    "version",
)
_VALUES: Final = ("digest-store", "erofs-version", "hash", "max-version", "min-version", "threads")

SHORT_OPTIONS: Final = "hV"
LONG_OPTIONS: Final = (*_FLAGS, *(f"{name}=" for name in _VALUES))

_HIGHEST_C_VERSION: Final = 1


class _UsageError(Exception):
    """Arguments that make no sense."""


class _Options(NamedTuple):
    """The command line."""

    source: str
    image: str | None
    flags: frozenset[str]
    digest_store: str | None
    algorithm: Algorithm
    min_version: int
    max_version: int
    fixed_version: int | None
    threads: int | None


def main(argv: Sequence[str]) -> int:
    """Run the program with these arguments (without its name).

    Returns:
        The exit status.

    Raises:
        CfsError: No image can be made of what was asked for.
        OSError: Something cannot be read or written.
    """
    try:
        pairs, arguments = getopt.gnu_getopt(list(argv), SHORT_OPTIONS, LONG_OPTIONS)
        given = {option.lstrip("-"): value for option, value in pairs}
        if given.keys() & {"h", "help"}:
            print_lines(USAGE.splitlines())
            return ExitCode.OK
        if given.keys() & {"V", "version"}:
            print_line(f"mkcomposefs {__version__}")
            return ExitCode.OK
        with python_gc_paused():
            _run(_parse_options(given, arguments))
    except (_UsageError, getopt.GetoptError) as error:
        tell_lines((f"error: {error}", *f"\n{USAGE}".splitlines()))
        return ExitCode.USAGE
    return ExitCode.OK


# Options


def _parse_options(given: dict[str, str], arguments: list[str]) -> _Options:
    flags = frozenset(given.keys() & set(_FLAGS))
    source, image = _parse_arguments(arguments, print_only="print-digest-only" in flags)
    minimum, maximum = _parse_range(given)
    return _Options(
        source=source,
        image=image,
        flags=flags,
        digest_store=given.get("digest-store"),
        algorithm=_parse_algorithm(given.get("hash", "sha256")),
        min_version=minimum,
        max_version=maximum,
        fixed_version=_parse_fixed_version(given),
        threads=_parse_threads(given.get("threads")),
    )


def _parse_arguments(arguments: list[str], *, print_only: bool) -> tuple[str, str | None]:
    """Return SOURCE and IMAGE."""
    if not arguments:
        raise _UsageError("no source specified")
    if len(arguments) > 2:
        raise _UsageError(f"unexpected argument '{arguments[2]}'")
    if not arguments[0]:
        raise MakeError("empty source path")
    if print_only:
        if len(arguments) == 2:
            raise MakeError("IMAGE must be omitted when using --print-digest-only")
        return arguments[0], None
    if len(arguments) == 1:
        raise MakeError("IMAGE is required (or use --print-digest-only)")
    return arguments[0], arguments[1]


def _parse_range(given: dict[str, str]) -> tuple[int, int]:
    """Return the lowest and the highest format that may be used."""
    minimum = _parse_number(given.get("min-version", "0"), "min version")
    default = max(minimum, _HIGHEST_C_VERSION if "min-version" not in given else 0)
    maximum = _parse_number(given.get("max-version", str(default)), "max version")
    if minimum > maximum:
        raise MakeError(
            f"Invalid version range: --min-version ({minimum}) must not exceed --max-version ({maximum})"
        )
    if minimum > _HIGHEST_C_VERSION:
        raise MakeError(
            f"--min-version {minimum} is not supported; the maximum C-compatible version is "
            f"{_HIGHEST_C_VERSION}",
            hint="use --erofs-version 2 for images of format 2" if minimum == 2 else None,
        )
    return minimum, maximum


def _parse_fixed_version(given: dict[str, str]) -> int | None:
    text = given.get("erofs-version")
    if text is None:
        return None
    if text not in {"0", "1", "2"}:
        raise _UsageError(f"--erofs-version: expected 0, 1 or 2, found '{text}'")
    if given.keys() & {"min-version", "max-version"}:
        raise _UsageError("--erofs-version cannot be used with --min-version or --max-version")
    return int(text)


def _parse_algorithm(name: str) -> Algorithm:
    try:
        return Algorithm.from_hash_name(name)
    except ValueError as error:
        raise _UsageError(f"--hash: {error}") from error


def _parse_threads(text: str | None) -> int | None:
    if text is None:
        return None
    count = _parse_number(text, "threads count")
    if count < 1:
        raise MakeError(f"Invalid threads count {text}")
    return count


def _parse_number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise MakeError(f"Invalid {what} {text}")
    return int(text)


# The work


def _run(options: _Options) -> None:
    from cfsctl.erofs.write.image import build_image  # not before the options are right

    if options.image == "-" and sys.stdout.isatty():
        raise MakeError("Refusing to write binary image to terminal. Redirect stdout or use a file path.")
    filesystem = _read_source(options)
    version = _choose_version(filesystem, options)
    _warn_of_unreadable(filesystem, version)
    image = build_image(filesystem, version, Dialect.C)
    if options.image is not None:
        write_image(image, options.image)
    if options.flags & {"print-digest", "print-digest-only"}:
        from cfsctl.fsverity.merkle import compute_digest  # only where it is asked for

        print_line(compute_digest(image, options.algorithm).hex())


def _read_source(options: _Options) -> FileSystem:
    """Return the tree that the image is to be of."""
    flags = options.flags
    keep_xattr = _xattr_filter(flags)
    if "from-file" in flags:
        if options.digest_store is not None:
            tell("warning: --digest-store is ignored when --from-file is specified")
        filesystem = _read_dump(options)
        if keep_xattr is not None:
            filter_xattrs(filesystem, keep_xattr)
    else:
        filesystem = _scan(options, keep_xattr)
    if "use-epoch" in flags:
        reset_times(filesystem)
    if "skip-devices" in flags:
        remove_devices(filesystem)
    return filesystem


def _xattr_filter(flags: frozenset[str]) -> Callable[[bytes], bool] | None:
    if "skip-xattrs" in flags:
        return keeps_none
    if "user-xattrs" in flags:
        return keeps_user
    return None


def _read_dump(options: _Options) -> FileSystem:
    from cfsctl.dumpfile.reader import parse_dump  # only for dumps

    strict = "CFS_PARSE_STRICT" in os.environ
    if options.source == "-":
        return parse_dump(stdin_bytes(), options.algorithm, Dialect.C, strict=strict)
    with (
        about(f'Failed to open dumpfile: "{options.source}"'),
        open(open_input(options.source), "rb", buffering=0) as stream,
    ):
        return parse_dump(stream, options.algorithm, Dialect.C, strict=strict)


def _scan(options: _Options, keep_xattr: Callable[[bytes], bool] | None) -> FileSystem:
    from cfsctl.scan import scan_directory  # only for directories

    with about(f'Failed to access source directory: "{options.source}"'):
        status = os.stat(options.source)
    if not stat.S_ISDIR(status.st_mode):
        raise MakeError(f'Source path is not a directory: "{options.source}"')
    with _opened_store(options) as store, about("Failed to read directory tree"):
        return scan_directory(
            options.source,
            algorithm=options.algorithm,
            store=store,
            keep_xattr=keep_xattr,
            hard_links="hardlinks" in options.flags,
            workers=options.threads,
        )


@contextmanager
def _opened_store(options: _Options) -> Iterator[DigestStore | None]:
    """Open the directory for content, creating it if necessary; everything is synced afterwards."""
    path = options.digest_store
    if path is None:
        yield None
        return
    from cfsctl.cli.tools.digest_store import DigestStore  # only where content is kept
    from cfsctl.linux.syscalls import syncfs

    with about(f'Failed to create flat digest store: "{path}"'):
        _make_store(path)
        dirfd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield DigestStore(dirfd, options.algorithm)
        syncfs(dirfd)
    finally:
        os.close(dirfd)


def _make_store(path: str) -> None:
    """Create the directory and its parents, unless they exist."""
    parent = os.path.dirname(path.rstrip("/"))
    if parent:
        os.makedirs(parent, 0o755, exist_ok=True)
    with suppress(FileExistsError):
        make_directory(path, 0o755)


def _choose_version(filesystem: FileSystem, options: _Options) -> FormatVersion:
    """Return the format: the lowest allowed, unless whiteouts need, and the options allow, the next."""
    from cfsctl.erofs.format import FormatVersion  # not before the options are right

    if options.fixed_version is not None:
        return FormatVersion(options.fixed_version)
    if options.min_version == 0 and options.max_version >= 1:
        for directory in iter_directories(filesystem):
            for leaf in directory.entries.values():
                if isinstance(leaf, CharDevice) and leaf.rdev == 0:
                    return FormatVersion.V1
    return FormatVersion(options.min_version)


def _warn_of_unreadable(filesystem: FileSystem, version: FormatVersion) -> None:
    """Warn about files whose content is wrong in images of format 2."""
    from cfsctl.erofs.write.defects import is_unreadable_in_v2  # not before the options are right

    if version == 2:
        for directory in iter_directories(filesystem):
            for leaf in directory.entries.values():
                if is_unreadable_in_v2(leaf):
                    tell(
                        "warning: there are files without digest, or of more than 8 TiB, which cannot be "
                        "read from an image of format 2 itself"
                    )
                    return
