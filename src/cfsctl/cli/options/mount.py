"""Options and helpers of the commands that mount an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from cfsctl.cli.options.groups import option_group

if TYPE_CHECKING:
    from cfsctl.mount import WritableLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class MountArguments:
    """What `mount_options` adds to a command.

    Attributes:
        fuse: Accepted for compatibility.
        upperdir: Directory that takes the changes, or None.
        workdir: Working directory of the upper layer, or None.
        read_write: Make the mount writable.
    """

    fuse: str
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
    def writable_layer(self) -> WritableLayer | None:
        """Where changes go, or None for a tree that cannot change."""
        from cfsctl.mount import WritableLayer  # noqa: PLC0415 - keeps --help quick

        if self.upperdir is None or self.workdir is None:
            return None
        return WritableLayer(self.upperdir, self.workdir)


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
            "--fuse",
            type=click.Choice(["auto", "no"]),
            default="auto",
            help="Accepted for compatibility: the kernel always mounts.",
        ),
    ),
)
"""Adds the options of every command that mounts an image, as `mounting`."""
