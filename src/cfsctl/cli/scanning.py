"""What the commands that scan a directory have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from typing import Unpack

    from cfsctl.digest import Algorithm
    from cfsctl.scan import ObjectSink
    from cfsctl.tree import FileSystem


class ScanArguments(TypedDict):
    """What `cfsctl.cli.parameters.scan_options` adds to a command."""

    path: str
    xattrs: str
    no_propagate_usr_to_root: bool


def scan(
    algorithm: Algorithm, store: ObjectSink | None = None, **arguments: Unpack[ScanArguments]
) -> FileSystem:
    """Scan as the command line says.

    Args:
        algorithm: Hash algorithm of the objects.
        store: Where large files are stored, or None to compute their IDs only.
        **arguments: As given on the command line.
    """
    from cfsctl.scan import XattrFilter, scan_container_root  # noqa: PLC0415 - keeps --help quick

    return scan_container_root(
        arguments["path"],
        algorithm=algorithm,
        store=store,
        xattr_filter=XattrFilter(arguments["xattrs"]),
        propagate_usr=not arguments["no_propagate_usr_to_root"],
    )
