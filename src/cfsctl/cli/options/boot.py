"""Options and helpers of the commands that install boot entries, list and remove them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

import cfsctl
from cfsctl.cli.completers import complete_directories, complete_files
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.options.groups import option_group
from cfsctl.cli.output import print_document, print_lines
from cfsctl.digest import qualified
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.cli.context import Session

F = TypeVar("F", bound="Callable[..., object]")

_RULES = ("original", "cfsctl")


def bootdir_option(function: F) -> F:
    """Add ``--bootdir``."""
    return click.option(
        "--bootdir",
        metavar="DIR",
        default="/boot",
        show_default=True,
        shell_complete=complete_directories,
        help="Where the boot partition is mounted.",
    )(function)


def stateroot_option(function: F) -> F:
    """Add ``--stateroot``."""
    return click.option(
        "--stateroot",
        metavar="DIR",
        shell_complete=complete_directories,
        help="Directory with state/deploy; the default is the one that has the repository.",
    )(function)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareArguments:
    """What `prepare_options` adds to a command.

    Attributes:
        entry: Boot entry of the tree, or None.
        entry_id: Name of the installed entry, or None.
        cmdline: Kernel arguments.
        rules: Whose rules choose and write.
        addons: Install addons; None is what the rules say.
        payload: Place of an aboot payload, or None.
        vbmeta: Place of its vbmeta image, or None.
    """

    entry: str | None
    entry_id: str | None
    cmdline: tuple[str, ...]
    rules: str
    addons: bool | None
    payload: str | None
    vbmeta: str | None

    def options(self, session: Session, bootdir: str, stateroot: str | None) -> cfsctl.PrepareOptions:
        """Return the same as the library has it."""
        return cfsctl.PrepareOptions(
            bootdir=bootdir,
            stateroot=stateroot,
            entry=self.entry,
            entry_id=self.entry_id,
            cmdline=self.cmdline,
            rules=cfsctl.BootRules(self.rules),
            with_addons=self.addons,
            payload=self.payload,
            vbmeta=self.vbmeta,
            lock_timeout_s=session.lock_timeout_s,
        )


def prepare_options(*, rules: str) -> Callable[[F], F]:
    """Return what adds the options of commands that install a boot entry, as `preparing`.

    Args:
        rules: The default of ``--rules``.
    """
    return option_group(
        "preparing",
        PrepareArguments,
        (
            click.option(
                "--vbmeta",
                metavar="FILE",
                shell_complete=complete_files,
                help="The same for its vbmeta image.",
            ),
            click.option(
                "--payload",
                metavar="FILE",
                shell_complete=complete_files,
                help="Partition or file to write an aboot payload to.",
            ),
            click.option(
                "--addons/--no-addons",
                default=None,
                help="Install addons together with a unified kernel image; the default depends on --rules.",
            ),
            click.option(
                "--rules",
                type=click.Choice(_RULES),
                default=rules,
                show_default=True,
                envvar="CFSCTL_BOOT_RULES",
                help="How entries are chosen and written: as composefs-rs does (original), or with the "
                "newest kernel, whole keys compared, titles from os-release, names that differ for each "
                "image, and addons (cfsctl).",
            ),
            click.option(
                "--cmdline",
                metavar="ARG",
                type=TEXT,
                multiple=True,
                help="Kernel argument to add; may be repeated.",
            ),
            click.option("--entry-id", metavar="ID", type=TEXT, help="Name of the installed boot entry."),
            click.option(
                "--entry",
                metavar="NAME",
                type=TEXT,
                help="Boot entry of the image to install: a name, KIND:NAME with type1, uki, kernel or "
                "aboot, or newest; the default depends on --rules.",
            ),
        ),
    )


def print_prepared(
    session: Session, prepared: cfsctl.Prepared, *, as_json: bool, has_output: bool = True
) -> None:
    """Print what was installed.

    Args:
        session: Has what takes messages.
        prepared: What was installed.
        as_json: Print a document.
        has_output: Print text on standard output; otherwise messages, for scripts that expect no output.
    """
    if as_json:
        print_document(
            {
                "image": qualified(prepared.image),
                "argument": prepared.argument,
                "entry": prepared.entry,
                "files": list(prepared.files),
                "written": list(prepared.written),
                "state": prepared.state,
                "notes": list(prepared.notes),
            }
        )
        return
    lines = [f"installed {prepared.entry} for image {prepared.image.hex()}"]
    lines += [f"wrote {path}" for path in prepared.written]
    if has_output:
        print_lines(lines)
    else:
        for line in lines:
            session.progress(Message(line))
