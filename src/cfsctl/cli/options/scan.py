"""Options and helpers of the commands that scan a directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_directories
from cfsctl.cli.options.common import xattrs_option
from cfsctl.cli.options.groups import option_group
from cfsctl.library.locations import HomeMissingError

if TYPE_CHECKING:
    from cfsctl.cli.context import Session
    from cfsctl.library.trees import ScanOptions
    from cfsctl.tree.transform import XattrFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanArguments:
    """What `scan_options` adds to a command.

    Attributes:
        path: The directory.
        xattrs: Which extended attributes stay.
        no_propagate_usr_to_root: Take the tree as it is.
        bootable: Make the image bootable.
        no_cache: Read every file, and leave the scan cache alone.
        verify_cache: Read every file, and compare with the scan cache.
    """

    path: str
    xattrs: str
    no_propagate_usr_to_root: bool
    bootable: bool
    no_cache: bool
    verify_cache: bool

    @property
    def xattr_filter(self) -> XattrFilter:
        """Which extended attributes stay."""
        from cfsctl.tree.transform import XattrFilter

        return XattrFilter(self.xattrs)

    def options(self, session: Session, *, bootable: bool = False) -> ScanOptions:
        """Return how the directory is read where nothing is stored.

        The scan cache of the repository is used if there is one, and left as it is.
        """
        from cfsctl.library.trees import ScanOptions

        return ScanOptions(
            as_root=not self.no_propagate_usr_to_root,
            bootable=bootable or self.bootable,
            xattrs=self.xattr_filter,
            cache=None if self.no_cache else _find_repository(session),
            verify_cache=self.verify_cache,
        )


def _find_repository(session: Session) -> str | None:
    """Return where the repository would be that is used, if there is such a place."""
    if session.no_repo:
        return None
    try:
        return session.repository_path()
    except HomeMissingError:
        return None


scan_options = option_group(
    "scanning",
    ScanArguments,
    (
        xattrs_option,
        click.option(
            "--no-propagate-usr-to-root",
            is_flag=True,
            help="Do not change the tree: keep the root's own metadata, all extended attributes and /run.",
        ),
        click.option(
            "--bootable",
            is_flag=True,
            help="Make the image bootable: empty /boot and /sysroot, and label files according to the tree's "
            "SELinux policy.",
        ),
        click.option(
            "--verify-cache",
            is_flag=True,
            help="Read every file, and fail if the repository's scan cache disagrees.",
        ),
        click.option(
            "--no-cache",
            is_flag=True,
            help="Read every file; neither use nor update the repository's scan cache.",
        ),
        click.argument("path", shell_complete=complete_directories),
    ),
)
"""Adds the argument PATH and the options of every command that scans a directory, as `scanning`."""
