"""Options of the commands that print the tree of an image, or its ID."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.options.common import TEXT, xattrs_option
from cfsctl.cli.options.groups import option_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.library.oci.options import OciTreeOptions

F = TypeVar("F", bound="Callable[..., object]")


def _make(*, verity: str | None, bootable: bool, xattrs: str) -> OciTreeOptions:
    from cfsctl.library.oci.options import OciTreeOptions
    from cfsctl.tree.transform import XattrFilter

    return OciTreeOptions(config_stream=verity, bootable=bootable, xattrs=XattrFilter(xattrs))


_options = option_group(
    "options",
    _make,
    (
        xattrs_option,
        click.option("--bootable", is_flag=True, help="Use the tree of the boot image."),
        click.argument("verity", type=TEXT, required=False),
    ),
)


def tree_options(function: F) -> F:
    """Add ``IMAGE``, and the options of these commands as `options`."""
    image = click.argument("image", type=TEXT, shell_complete=complete_oci_images)
    return image(_options(function))
