"""The mount.composefs program: mounts an image file, called directly or by mount(8).

What mount(8) passes to its helpers is understood. Exit status 1 stands for wrong usage, as mount(8) has
it; other failures have the exit status of their kind.
"""

from __future__ import annotations

import errno
import getopt
import os
import re
import stat
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cfsctl import __version__
from cfsctl.cli.output import print_line, print_lines, tell_lines
from cfsctl.digest import Algorithm, ObjectID
from cfsctl.errors import CfsError, DigestMismatchError, ExitCode
from cfsctl.mount import MountOptions, Verity, WritableLayer, mount_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

USAGE: Final = """\
Usage: mount.composefs [OPTIONS] IMAGE MOUNTPOINT

Mount a composefs image.

Options:
  -t composefs     File system type; must be composefs
  -o OPTION,...    Mount options, see below
  -f               Do everything but mount
  -s               Ignore unknown mount options
  -v               Print what is done
  -N NAMESPACE     Mount in another mount namespace: a process ID, or a path
  -n               Accepted, but has no effect
  -h, --help       Print this text
  -V, --version    Print the version

Mount options; a backslash escapes the next character:
  basedir=DIR[:DIR...]   Directories with the content of files; required
  digest=HEX             fs-verity digest that the image must have; implies verity
  verity                 Require fs-verity on the content of files
  tryverity              The same, if the kernel and file system support it
  upperdir=DIR           Directory for changes; needs workdir
  workdir=DIR            Empty directory on the same file system as upperdir
  idmap=FILE             User namespace that maps owners and groups
  ro, rw                 Mount read-only or writable; the last one counts
"""

SHORT_OPTIONS: Final = "t:o:sfnvN:hV"
LONG_OPTIONS: Final = ("help", "version")

_HEADER_BYTES: Final = 1152
"""Bytes at the start of an image in which both of its headers lie."""


class MountUsageError(CfsError):
    """A command line or mount option that makes no sense."""


@dataclass(slots=True)
class MountRequest:
    """What the mount options ask for.

    Attributes:
        basedirs: Object directories.
        digest: What the image must measure to, or None.
        verity: Whether the content of files is checked.
        upperdir: Directory for changes, or None.
        workdir: Its work directory, or None.
        idmap: File of a user namespace, or None.
        read_only: Whether the mount is read-only.
    """

    basedirs: list[str]
    digest: ObjectID | None = None
    verity: Verity = Verity.OFF
    upperdir: str | None = None
    workdir: str | None = None
    idmap: str | None = None
    read_only: bool = False


@dataclass(slots=True)
class _Invocation:
    """The command line."""

    image: str
    mountpoint: str
    request: MountRequest
    namespace: str | None
    is_fake: bool
    is_verbose: bool


def split_unescaped(text: str, separator: str) -> list[str]:
    r"""Split at each separator that has no backslash before it; backslashes stay where they are."""
    parts = []
    start = place = 0
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == separator:
            parts.append(text[start:place])
            start = place + 1
        place += 1
    return [*parts, text[start:]]


def unescape(text: str) -> str:
    r"""Replace ``\x`` by ``x``; a backslash at the end is dropped."""
    return re.sub(r"\\(.?)", r"\1", text, flags=re.DOTALL)


def parse_options(text: str, *, ignore_unknown: bool = False) -> MountRequest:
    """Parse the options of mount.composefs.

    Args:
        text: Options separated by commas, each ``key`` or ``key=value``.
        ignore_unknown: Pass over what is not known.

    Raises:
        MountUsageError: An option that is not known or has no sensible value, or one is missing.
    """
    request = MountRequest([])
    for option in split_unescaped(text, ",") if text else []:
        key, equals, value = option.partition("=")
        if not _apply_option(request, key, value if equals else None) and not ignore_unknown:
            raise MountUsageError(f"Unsupported option: {key}")
    if not request.basedirs:
        raise MountUsageError("No object dirs specified (use -o basedir=DIR)")
    if (request.upperdir is None) != (request.workdir is None):
        raise MountUsageError("Both workdir and upperdir must be specified if used")
    if request.digest is not None:
        request.verity = Verity.REQUIRE
    return request


def _apply_option(request: MountRequest, key: str, value: str | None) -> bool:
    """Take one option, its value still escaped; return whether it is known."""
    match key:
        case "basedir":
            parts = split_unescaped(_required(key, value), ":")
            request.basedirs = [unescape(part) for part in parts if part]
        case "digest":
            request.digest = _parse_digest(unescape(_required(key, value)))
        case "upperdir":
            request.upperdir = unescape(_required(key, value))
        case "workdir":
            request.workdir = unescape(_required(key, value))
        case "idmap":
            request.idmap = unescape(_required(key, value))
        case "verity":
            request.verity = Verity.REQUIRE
        case "tryverity":
            request.verity = Verity.TRY
        case "ro" | "rw":
            request.read_only = key == "ro"
        case _:
            return False
    return True


def _required(key: str, value: str | None) -> str:
    if not value:
        raise MountUsageError(f"No value specified for {key} option")
    return value


def _parse_digest(text: str) -> ObjectID:
    """Return the digest; its length tells the algorithm."""
    try:
        digest = bytes.fromhex(text)
        Algorithm.of_digest(digest)
    except ValueError:
        raise MountUsageError(
            f"Invalid digest value: expected 64 or 128 hexadecimal digits, found {text!r}"
        ) from None
    return ObjectID(digest)


def main(argv: Sequence[str]) -> int:
    """Run the program with these arguments (without its name).

    Returns:
        The exit status.

    Raises:
        CfsError: The file is not a composefs image, or not the expected one.
        OSError: Something cannot be opened, or the kernel refused; nothing is mounted then.
    """
    try:
        options, operands = getopt.gnu_getopt(list(argv), SHORT_OPTIONS, LONG_OPTIONS)
        given = {name for name, _ in options}
        if given & {"-h", "--help"}:
            print_lines(USAGE.splitlines())
            return ExitCode.OK
        if given & {"-V", "--version"}:
            print_line(f"mount.composefs {__version__}")
            return ExitCode.OK
        invocation = _parse_invocation(options, operands)
    except (getopt.GetoptError, MountUsageError) as error:
        tell_lines((f"Error: {error}", "Try 'mount.composefs --help'."))
        return ExitCode.ERROR
    if invocation.is_verbose:
        import logging

        logging.basicConfig(level=logging.INFO, format="mount.composefs: %(message)s")
    _run(invocation)
    return ExitCode.OK


def _parse_invocation(options: Sequence[tuple[str, str]], operands: Sequence[str]) -> _Invocation:
    flags = dict(options)
    kind = flags.get("-t", "composefs")
    if kind != "composefs":
        raise MountUsageError(f"Unsupported fs type '{kind}'")
    if len(operands) != 2:
        raise MountUsageError(f"expected IMAGE and MOUNTPOINT, found {len(operands)} arguments")
    text = ",".join(value for name, value in options if name == "-o")
    request = parse_options(text, ignore_unknown="-s" in flags)
    image, mountpoint = operands
    return _Invocation(image, mountpoint, request, flags.get("-N"), "-f" in flags, "-v" in flags)


@contextmanager
def _failing(text: str) -> Iterator[None]:
    """Prefix errors of the kernel with the current operation."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{text}: {error.strerror}") from error


def _run(invocation: _Invocation) -> None:
    request = invocation.request
    with ExitStack() as stack:

        def keep_open(path: str, flags: int, what: str) -> int:
            with _failing(f"Failed to open {what}"):
                fd = os.open(path, flags | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            return fd

        if invocation.namespace is not None:
            _enter_namespace(keep_open(_namespace_path(invocation.namespace), os.O_RDONLY, "namespace"))
        dirs = [keep_open(path, os.O_PATH | os.O_DIRECTORY, f"basedir {path}") for path in request.basedirs]
        # What is not an image may be a fifo, which is not waited for.
        image = keep_open(invocation.image, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, invocation.image)
        _check_type(image, invocation.image)
        idmap_flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
        userns = None if request.idmap is None else keep_open(request.idmap, idmap_flags, "idmap")
        if request.digest is not None:
            _check_digest(image, invocation.image, request.digest)
        options = _mount_options(request, userns, acl=_may_have_acl(image))
        if not invocation.is_fake:
            with _failing(f"Failed to mount composefs {invocation.image}"):
                mount_image(image, dirs, invocation.mountpoint, options)


def _mount_options(request: MountRequest, userns_fd: int | None, *, acl: bool) -> MountOptions:
    layer = None
    if request.upperdir is not None and request.workdir is not None:
        layer = WritableLayer(request.upperdir, request.workdir)
    return MountOptions(
        verity=request.verity,
        writable_layer=layer,
        read_write=not request.read_only,
        userns_fd=userns_fd,
        acl=acl,
    )


def _check_type(fd: int, image: str) -> None:
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, f"Failed to open {image}: expected a file or a block device")


def _check_digest(fd: int, image: str, digest: ObjectID) -> None:
    """Compare the image's digest, as the kernel enforces it, with the one that was requested."""
    from cfsctl.fsverity.kernel import VerityError, measure  # only with digest=

    what = f"Failed to mount composefs {image}"
    try:
        actual = measure(fd, Algorithm.of_digest(digest))
    except VerityError as error:
        reason = "Image has no fs-verity" if error.errno == errno.ENODATA else error.strerror
        error.strerror = f"{what}: {reason}"
        raise
    if actual != digest:
        raise DigestMismatchError(
            f"{what}: Image has wrong fs-verity", expected=digest.hex(), actual=actual.hex()
        )


def _may_have_acl(fd: int) -> bool:
    """Return whether POSIX ACLs have to be looked for; also checks that this is an image."""
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.erofs.superblock import read_superblock

    superblock = read_superblock(os.pread(fd, _HEADER_BYTES, 0), os.fstat(fd).st_size)
    # Images of the newest format may have ACLs and never say so.
    return superblock.has_acl or superblock.version is FormatVersion.V2


def _namespace_path(namespace: str) -> str:
    return f"/proc/{namespace}/ns/mnt" if namespace.isdecimal() else namespace


def _enter_namespace(fd: int) -> None:
    """Enter a mount namespace, so that all paths, including the image, are resolved there.

    The kernel stacks only what is mounted in the namespace of the caller.
    """
    # There may be no Python in there, so what will be needed is loaded first.
    import cfsctl.erofs.superblock
    import cfsctl.fsverity.kernel  # noqa: F401 - imported before the mount
    from cfsctl.linux.syscalls import CLONE_NEWNS, setns

    with _failing("Failed to enter the mount namespace"):
        setns(fd, CLONE_NEWNS)
