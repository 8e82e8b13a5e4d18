"""``composefs-setup-root``: mounts the root of a composefs system in the initramfs.

Knows the options of the original program, and does not need more than Python's standard library.
"""

from __future__ import annotations

import getopt
import os
import sys
from typing import TYPE_CHECKING, Final

from cfsctl import __version__
from cfsctl.boot.setup_root.config import DEFAULT_PATH
from cfsctl.cli.output import print_line, print_lines, tell_lines
from cfsctl.errors import CfsError, ExitCode, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.boot.setup_root.run import SetupOptions

NAME: Final = "composefs-setup-root"
SHORT_OPTIONS: Final = "hV"
LONG_OPTIONS: Final = [
    "sysroot=",
    "config=",
    "root-fs=",
    "cmdline=",
    "target=",
    "list-files",
    "help",
    "version",
]

USAGE: Final = """\
Usage: composefs-setup-root [OPTIONS]

Mount the image that the kernel command line names as the root.

Options:
  --sysroot DIR    Where the disk with the repository is mounted, and where the root
                   will be; the default is /sysroot
  --config FILE    Configuration; the default is /usr/lib/composefs/setup-root-conf.toml
  --root-fs DIR    Directory to use instead of an image, for tests
  --cmdline TEXT   Kernel command line to use instead of /proc/cmdline
  --target DIR     Accepted, but has no effect
  --list-files     Print the files that an initramfs needs to run this program
  -h, --help       Print this text
  -V, --version    Print the version
"""


class SetupUsageError(CfsError):
    """A command line that this program does not understand."""

    exit_code = ExitCode.USAGE


def main(argv: Sequence[str]) -> int:
    """Run the program with these arguments (without its name); errors are one line on standard error.

    Returns:
        The exit status.
    """
    try:
        return _run(argv)
    except (CfsError, OSError) as error:
        hint = getattr(error, "hint", None)
        text = " ".join(f"{describe(error)}{f' ({hint})' if hint else ''}".split())
        tell_lines([f"{NAME}: {text}"])
        default = ExitCode.NOT_FOUND if isinstance(error, FileNotFoundError) else ExitCode.ERROR
        return int(getattr(error, "exit_code", default))


def _run(argv: Sequence[str]) -> int:
    try:
        # --target and words without a dash are accepted and ignored, as by the original.
        options, _ = getopt.gnu_getopt(list(argv), SHORT_OPTIONS, LONG_OPTIONS)
    except getopt.GetoptError as error:
        raise SetupUsageError(str(error), hint=f"try '{NAME} --help'") from error
    found = dict(options)
    if found.keys() & {"-h", "--help"}:
        print_lines(USAGE.splitlines())
        return ExitCode.OK
    if found.keys() & {"-V", "--version"}:
        print_line(f"{NAME} {__version__}")
        return ExitCode.OK
    if "--list-files" in found:
        print_lines(needed_files())
        return ExitCode.OK
    from cfsctl.boot.setup_root.run import setup_root

    setup_root(_options(found), _tell)
    return ExitCode.OK


def needed_files() -> list[str]:
    """Return the interpreter, the files of all modules that this program may load, and libraries, sorted."""
    import encodings.ascii  # only for this
    import encodings.latin_1  # noqa: F401 - the same

    import cfsctl.boot.setup_root.run  # noqa: F401 - the same
    from cfsctl.linux.syscalls import libc

    libc()
    files = {os.path.realpath(sys.executable)}
    for module in [*sys.modules.values()]:
        for path in (getattr(module, "__file__", None), getattr(module, "__cached__", None)):
            # Not what is inside of an archive, which comes along as a whole.
            if path is not None and os.path.isfile(path):
                files.add(os.path.abspath(path))
    return sorted(files | _loaded_libraries())


def _loaded_libraries() -> set[str]:
    """Return the shared libraries that are loaded, under all their names.

    dracut looks for libraries of executable files only, and modules of Python are none on Debian.
    """
    try:
        with open("/proc/self/maps", "rb") as maps:
            fields = [line.split(None, 5) for line in maps]
    except OSError:
        return set()
    paths = {os.fsdecode(line[5].rstrip(b"\n")) for line in fields if len(line) == 6}
    found: set[str] = set()
    for path in paths:
        directory, name = os.path.split(path)
        stem, is_library, _ = name.partition(".so")
        if is_library and os.path.isfile(path):
            links = (f"{directory}/{each}" for each in os.listdir(directory) if each.startswith(f"{stem}.so"))
            found |= {path, *(link for link in links if os.path.realpath(link) == path)}
    return found


def _options(found: dict[str, str]) -> SetupOptions:
    from cfsctl.boot.setup_root.run import SetupOptions

    return SetupOptions(
        sysroot=found.get("--sysroot", "/sysroot"),
        config=found.get("--config", DEFAULT_PATH),
        root_fs=found.get("--root-fs"),
        cmdline=found.get("--cmdline"),
    )


def _tell(text: str) -> None:
    tell_lines([f"composefs: {text}"])


def run() -> int:
    """Run the program as the process was called, for the zipapp.

    Returns:
        The exit status.
    """
    return main(sys.argv[1:])
