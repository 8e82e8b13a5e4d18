"""Options and helpers of the commands that compare trees."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, TypedDict, TypeVar

import click

from cfsctl.cli.errors import report_error
from cfsctl.cli.options.common import XATTR_FILTERS
from cfsctl.errors import CfsError, ExitCode
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self, Unpack

    from cfsctl.cli.context import Session
    from cfsctl.inspection.sources import SourceFinder, TreeInput
    from cfsctl.repository import Repository

F = TypeVar("F", bound="Callable[..., object]")

SAME, DIFFERENT = 0, 1
"""Exit status of comparing commands, which is that of diff(1); trouble is `ExitCode.USAGE`, 2."""


class ReadingArguments(TypedDict):
    """What `reading_options` adds to a command."""

    xattrs: str
    no_propagate_usr_to_root: bool
    ostree_xattr_names: str


def reading_options(function: F) -> F:
    """Add the options that say how directories and commits are read."""
    for decorate in (
        click.option(
            "--ostree-xattr-names",
            type=click.Choice(["stripped", "upstream"]),
            default="stripped",
            help="Names of extended attributes in OSTree commits: correct, or with the NUL that "
            "composefs-rs keeps.",
        ),
        click.option(
            "--xattrs",
            type=click.Choice(XATTR_FILTERS),
            default=XATTR_FILTERS[0],
            help="Extended attributes of directories to keep, as for create-image.",
        ),
        click.option(
            "--no-propagate-usr-to-root",
            is_flag=True,
            help="Read directories unchanged, not as create-image would.",
        ),
    ):
        function = decorate(function)
    return function


class SourceOpener:
    """Opens sources as the command line says, and the repository once where a source is in it."""

    def __init__(self, session: Session, **arguments: Unpack[ReadingArguments]) -> None:
        """Open nothing yet."""
        self._session = session
        self._arguments = arguments
        self._stack = ExitStack()
        self._repository: Repository | None = None

    def __enter__(self) -> Self:
        """Return the opener."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the repository."""
        self._stack.close()

    def open_repository(self) -> Repository:
        """Return the repository, open until the end."""
        if self._repository is None:
            self._repository = self._stack.enter_context(self._session.open_repository())
        return self._repository

    def finder(self) -> SourceFinder:
        """Return what finds sources by name."""
        from cfsctl.inspection.sources import SourceFinder  # noqa: PLC0415 - keeps --help quick
        from cfsctl.kinds.kind import Reading  # noqa: PLC0415
        from cfsctl.ostree.tree.to_tree import XattrNames  # noqa: PLC0415
        from cfsctl.tree.transform import XattrFilter  # noqa: PLC0415

        reading = Reading(
            propagate_usr=not self._arguments["no_propagate_usr_to_root"],
            xattr_filter=XattrFilter(self._arguments["xattrs"]),
            xattr_names=XattrNames(self._arguments["ostree_xattr_names"]),
        )
        return SourceFinder(self.open_repository, reading)


def show_notes(session: Session, sources: Iterable[TreeInput]) -> None:
    """Tell on standard error what the user should know about how sources were read."""
    for source in sources:
        for note in source.notes:
            session.progress(Message(note))


def with_trouble_as_2(compare: Callable[[], int]) -> int:
    """Run a comparison; errors are reported and become the exit status 2, as diff(1) has it."""
    try:
        return compare()
    except (CfsError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        report_error(error)
        return ExitCode.USAGE
