"""The composefs-info program: listings of images, their objects, and digests of files.

Options of the original and of the C tool are both understood, before or after the command and between
the files. The hash is inferred from each image.
"""

from __future__ import annotations

import errno
import getopt
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from cfsctl import __version__
from cfsctl.cli.output import print_line, print_lines, tell, tell_lines, write_bytes
from cfsctl.digest import Algorithm
from cfsctl.errors import ExitCode
from cfsctl.linux.inputs import iter_pipe, open_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.tree.model import FileSystem

USAGE: Final = """\
Usage: composefs-info [OPTIONS] COMMAND FILE...

Query information from composefs images.

Commands:
  ls               List files and directories
  dump             Print the whole tree in the format of mkcomposefs --from-file
  objects          List the objects that hold the content of files
  missing-objects  List the objects that are missing below --basedir
  measure-file     Print the fs-verity digest of files

Options:
  --basedir DIR    Directory where missing-objects looks for objects
  --filter NAME    Only this entry of the root directory; may be repeated
  --hash HASH      sha256 or sha512; default: the hash of each image, or
                   sha256 for measure-file
  -h, --help       Print this text
  -V, --version    Print the version
"""

SHORT_OPTIONS: Final = "hV"
LONG_OPTIONS: Final = ("basedir=", "filter=", "hash=", "help", "version")

T = TypeVar("T")


class _UsageError(Exception):
    """Arguments that make no sense."""


class _Options(NamedTuple):
    """What stands on the command line besides command and files."""

    basedir: str | None
    names: frozenset[bytes]
    algorithm: Algorithm | None


def main(argv: Sequence[str]) -> int:
    """Run the program with these arguments (without its name).

    Returns:
        The exit status.

    Raises:
        CfsError: A file is not an image, or broken.
        OSError: A file cannot be read.
    """
    from cfsctl.tree.gc_pause import python_gc_paused  # not before the program is chosen

    try:
        with python_gc_paused():
            return _dispatch(argv)
    except (_UsageError, getopt.GetoptError) as error:
        tell_lines((f"error: {error}", *f"\n{USAGE}".splitlines()))
        return ExitCode.USAGE


def _dispatch(argv: Sequence[str]) -> int:
    pairs, arguments = getopt.gnu_getopt(list(argv), SHORT_OPTIONS, LONG_OPTIONS)
    given = dict(pairs)
    if given.keys() & {"-h", "--help"} or arguments[:1] == ["help"]:
        print_lines(USAGE.splitlines())
        return ExitCode.OK
    if given.keys() & {"-V", "--version"}:
        print_line(f"composefs-info {__version__}")
        return ExitCode.OK
    if not arguments:
        raise _UsageError("no command specified")
    command, *paths = arguments
    if command not in COMMANDS:
        raise _UsageError(f"unknown command '{command}'")
    names = frozenset(os.fsencode(value) for option, value in pairs if option == "--filter")
    if any(b"/" in name for name in names):
        raise _UsageError("--filter takes a single name, not a path")
    COMMANDS[command](_Options(given.get("--basedir"), names, _algorithm(given.get("--hash"))), paths)
    return ExitCode.OK


def _algorithm(name: str | None) -> Algorithm | None:
    try:
        return None if name is None else Algorithm.from_hash_name(name)
    except ValueError as error:
        raise _UsageError(str(error)) from error


def _list(options: _Options, paths: Iterable[str]) -> None:
    from cfsctl.erofs.inspect import iter_listing, select_entries

    for path in paths:
        write_bytes(iter_listing(select_entries(_read_tree(path, options), options.names)))


def _dump(options: _Options, paths: Iterable[str]) -> None:
    from cfsctl.dumpfile.writer import DumpWriter
    from cfsctl.erofs.inspect import select_entries

    for path in paths:
        filesystem = _read_tree(path, options)
        # The writer is given the whole tree, so that link counts do not depend on the filter.
        selected = select_entries(filesystem, options.names)
        write_bytes(DumpWriter(filesystem).iter_node(selected.root, b"/"))


def _objects(options: _Options, paths: Iterable[str]) -> None:
    from cfsctl.erofs.inspect import format_objects

    for path in paths:
        _write_lines(format_objects(_read_objects(path, options)))


def _missing_objects(options: _Options, paths: Iterable[str]) -> None:
    from cfsctl.erofs.inspect import format_objects, iter_missing

    if options.basedir is None:
        raise _UsageError("missing-objects needs --basedir DIR")
    objects: set[ObjectID] = set()
    for path in paths:
        objects |= _read_objects(path, options)
    try:
        dirfd = os.open(options.basedir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        # As in composefs-rs, in a missing directory all objects are missing.
        tell(f"composefs-info: {options.basedir}: {error.strerror}")
        _write_lines(format_objects(objects))
        return
    try:
        _write_lines(iter_missing(objects, dirfd))
    finally:
        os.close(dirfd)


def _read_objects(path: str, options: _Options) -> set[ObjectID]:
    from cfsctl.erofs.inspect import select_entries, tree_objects
    from cfsctl.erofs.read.objects import collect_objects

    if options.names:
        return tree_objects(select_entries(_read_tree(path, options), options.names))
    return _read(path, options, collect_objects)


def _read_tree(path: str, options: _Options) -> FileSystem:
    from cfsctl.erofs.read.tree import read_image

    return _read(path, options, read_image)


def _read(path: str, options: _Options, read: Callable[[bytes, Algorithm], T]) -> T:
    """Pass an image to a reader; add the file's name to errors."""
    from cfsctl.erofs.format import ErofsError
    from cfsctl.erofs.inspect import load_image
    from cfsctl.erofs.read.tree import find_algorithm

    with _opened(path, "image") as fd:
        try:
            data = load_image(fd)
            return read(data, options.algorithm or find_algorithm(data) or Algorithm.SHA256)
        except ErofsError as error:
            message = f'Failed to parse image: "{path}": {error}'
            raise ErofsError(message, offset=error.offset, field=error.field, hint=error.hint) from error
        except OSError as error:
            raise OSError(error.errno, f'Failed to read image: "{path}": {error.strerror}') from error


def _measure_file(options: _Options, paths: Iterable[str]) -> None:
    from cfsctl.fsverity.kernel import VerityError, measure

    algorithm = options.algorithm or Algorithm.SHA256
    for path in paths:
        with _opened(path, "file") as fd:
            try:
                digest = measure(fd, algorithm)
            except VerityError:
                digest = _compute(fd, path, algorithm)
            except OSError as error:
                raise OSError(
                    error.errno, f'Failed to measure verity for "{path}": {error.strerror}'
                ) from error
        print_line(digest.hex())


def _compute(fd: int, path: str, algorithm: Algorithm) -> ObjectID:
    """Return the digest of what can be read from a file or pipe."""
    # Imported only where the kernel does not know.
    from cfsctl.fsverity.merkle import Hasher, compute_file_digest

    if stat.S_ISCHR(os.fstat(fd).st_mode):
        # Many of these never end; what is read of a pipe ends when its writer does.
        reason = "expected a file or a pipe, found a character device"
        raise OSError(errno.EINVAL, f'Failed to measure verity for "{path}": {reason}')
    hasher = Hasher(algorithm)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return compute_file_digest(fd, algorithm)[0]
        for chunk in iter_pipe(fd):
            hasher.update(chunk)
    except OSError as error:
        raise OSError(error.errno, f'Failed to measure verity for "{path}": {error.strerror}') from error
    return hasher.digest()


@contextmanager
def _opened(path: str, what: str) -> Iterator[int]:
    """Open a file for reading; what that raises says what the file was to be."""
    try:
        fd = open_input(path)
    except OSError as error:
        raise OSError(error.errno, f'Failed to open {what}: "{path}": {error.strerror}') from error
    try:
        yield fd
    finally:
        os.close(fd)


def _write_lines(lines: Iterable[str]) -> None:
    write_bytes(f"{line}\n".encode() for line in lines)


COMMANDS: Final[dict[str, Callable[[_Options, Sequence[str]], None]]] = {
    "ls": _list,
    "dump": _dump,
    "objects": _objects,
    "missing-objects": _missing_objects,
    "measure-file": _measure_file,
}
