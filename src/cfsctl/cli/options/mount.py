"""Options and helpers of the commands that mount an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import cfsctl
from cfsctl.cli.options.groups import option_group
from cfsctl.cli.output import print_document
from cfsctl.digest import qualified

if TYPE_CHECKING:
    from cfsctl.cli.context import Session
    from cfsctl.digest import ObjectID


@dataclass(frozen=True, slots=True, kw_only=True)
class MountArguments:
    """What `mount_options` adds to a command.

    Attributes:
        fuse: Whether FUSE is used: ``auto``, ``yes`` or ``no``.
        foreground: Serve a FUSE mount in this process.
        allow_other: Let other users access a FUSE mount.
        upperdir: Directory that takes the changes, or None.
        workdir: Working directory of the upper layer, or None.
        read_write: Make the mount writable.
    """

    fuse: str
    foreground: bool
    allow_other: bool
    upperdir: str | None
    workdir: str | None
    read_write: bool

    def __post_init__(self) -> None:
        """Refuse options that need each other.

        Raises:
            click.UsageError: One of them is alone.
        """
        if (self.upperdir is None) != (self.workdir is None):
            raise click.UsageError("--upperdir and --workdir must be used together")
        if self.read_write and self.upperdir is None:
            raise click.UsageError("--read-write needs --upperdir")

    @property
    def writable_layer(self) -> cfsctl.WritableLayer | None:
        """Where changes go, or None for a tree that cannot change."""
        if self.upperdir is None or self.workdir is None:
            return None
        return cfsctl.WritableLayer(self.upperdir, self.workdir)

    def as_keywords(self, session: Session) -> dict[str, Any]:
        """Return the arguments for `Repository.mount` of the library."""
        return {
            "writable_layer": self.writable_layer,
            "read_write": self.read_write,
            "fuse": cfsctl.FuseOptions(
                mode=cfsctl.FuseMode(self.fuse), foreground=self.foreground, allow_other=self.allow_other
            ),
            "progress": session.progress if session.verbose else None,
        }


mount_options = option_group(
    "mounting",
    MountArguments,
    (
        click.option("--read-write", is_flag=True, help="Make the mount writable; needs --upperdir."),
        click.option(
            "--workdir", metavar="DIR", help="Working directory of the upper layer; needs --upperdir."
        ),
        click.option("--upperdir", metavar="DIR", help="Directory for changes; needs --workdir."),
        click.option(
            "--allow-other",
            is_flag=True,
            help="Let other users access a FUSE mount; needs user_allow_other in /etc/fuse.conf.",
        ),
        click.option(
            "--foreground",
            is_flag=True,
            help="Serve a FUSE mount in this process, and return when it is unmounted.",
        ),
        click.option(
            "--fuse",
            type=click.Choice(["auto", "yes", "no"]),
            default="auto",
            help="Serve the image by FUSE (yes) or have the kernel mount it (no). By default, the kernel "
            "mounts for root if it can, and FUSE is used otherwise.",
        ),
    ),
)
"""Adds the options of every command that mounts an image, as `mounting`."""


def show_mount(image_id: ObjectID | None, mountpoint: str) -> None:
    """Print what was mounted where, for programs, if that was asked for; people see nothing."""
    if image_id is not None:
        print_document({"image": qualified(image_id), "mountpoint": mountpoint})
