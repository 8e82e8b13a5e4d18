"""Options and helpers of the commands that print the tree of an image, or its ID."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.options.common import TEXT, xattrs_option
from cfsctl.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.oci.store.images import Found, StoredConfig
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem

F = TypeVar("F", bound="Callable[..., object]")


def tree_options(function: F) -> F:
    """Add the arguments and options of these commands."""
    for decorate in (
        xattrs_option,
        click.option("--bootable", is_flag=True, help="Use the tree of the boot image."),
        click.argument("verity", type=TEXT, required=False),
        click.argument("image", type=TEXT, shell_complete=complete_oci_images),
    ):
        function = decorate(function)
    return function


def tree_of(
    repository: Repository, image: str, verity: str | None, *, bootable: bool, xattrs: str
) -> FileSystem:
    """Return the tree of an image as the command line says."""
    from cfsctl.oci.store.images import open_config, resolve, verify_layers  # noqa: PLC0415 - keeps --help quick
    from cfsctl.oci.to_tree import image_tree  # noqa: PLC0415 - the same
    from cfsctl.tree.transform import XattrFilter  # noqa: PLC0415 - the same

    found = resolve(repository, image)
    config = open_config(repository, found)
    if not _is_trusted(repository, found, config, verity):
        verify_layers(repository, config.layers())
    tree = image_tree(repository, config.layers(), XattrFilter(xattrs))
    if bootable:
        from cfsctl.oci.boot_images import turn_bootable  # noqa: PLC0415 - the same

        turn_bootable(repository, tree)
    return tree


def _is_trusted(repository: Repository, found: Found, config: StoredConfig, verity: str | None) -> bool:
    """Return whether the streams need no check: what a tag names, or what has the ID that was given."""
    from cfsctl.digest import parse_object_id  # noqa: PLC0415 - keeps --help quick

    expected = None if verity is None else parse_object_id(verity.lower(), repository.algorithm)
    if found.tag is not None:
        return True
    if expected is not None and config.document.stream_id != expected:
        raise IntegrityError(
            f"config {config.digest}: expected the stream {expected.hex()},"
            f" found {config.document.stream_id.hex()}"
        )
    return expected is not None
