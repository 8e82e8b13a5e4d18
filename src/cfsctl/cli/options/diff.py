"""Options and helpers of the commands that compare trees."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

import cfsctl
from cfsctl.cli.errors import report_error
from cfsctl.cli.options.common import XATTR_FILTERS
from cfsctl.cli.options.groups import option_group
from cfsctl.errors import CfsError, ExitCode
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from cfsctl.cli.context import Session
    from cfsctl.library.comparison import ReadingOptions
    from cfsctl.library.repository import Repository
    from cfsctl.progress import Event

SAME, DIFFERENT = 0, 1
"""Exit status of comparing commands, which is that of diff(1); trouble is `ExitCode.USAGE`, 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingArguments:
    """What `reading_options` adds to a command.

    Attributes:
        xattrs: Which extended attributes of directories stay.
        no_propagate_usr_to_root: Take directories as they are.
        ostree_xattr_names: How names of attributes in commits are read.
    """

    xattrs: str
    no_propagate_usr_to_root: bool
    ostree_xattr_names: str

    def options(self) -> ReadingOptions:
        """Return how trees are read."""
        from cfsctl.library.comparison import ReadingOptions
        from cfsctl.tree.transform import XattrFilter

        return ReadingOptions(
            as_root=not self.no_propagate_usr_to_root,
            xattrs=XattrFilter(self.xattrs),
            xattr_names=cfsctl.XattrNames(self.ostree_xattr_names),
        )


reading_options = option_group(
    "reading",
    ReadingArguments,
    (
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
    ),
)
"""Adds the options that say how directories and commits are read, as `reading`."""


class RepositoryOpener:
    """Opens the repository once something in it is named, until the end of the block."""

    def __init__(self, session: Session) -> None:
        """Open nothing yet."""
        self._session = session
        self._stack = ExitStack()
        self._repository: Repository | None = None

    def __enter__(self) -> Self:
        """Return the opener."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the repository."""
        self._stack.close()

    def __call__(self) -> Repository:
        """Return the repository, open until the end."""
        if self._repository is None:
            self._repository = self._stack.enter_context(self._session.open())
        return self._repository


def notes_only(session: Session) -> Callable[[Event], None]:
    """Return what tells on standard error how trees were read, and nothing of progress."""

    def report(event: Event) -> None:
        if isinstance(event, Message):
            session.progress(event)

    return report


def with_trouble_as_2(compare: Callable[[], int]) -> int:
    """Run a comparison; errors are reported and become the exit status 2, as diff(1) has it."""
    try:
        return compare()
    except (CfsError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        report_error(error)
        return ExitCode.USAGE
