"""A tree becomes bootable: labelled by its SELinux policy, with nothing below ``/boot`` and ``/sysroot``.

``/boot`` is emptied because the boot entries name the image: a kernel image that holds the image's digest
could not be part of the image otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.boot.selinux import apply_labels, find_policy, remove_labels
from cfsctl.errors import CfsError, ExitCode
from cfsctl.tree.transform import TransformError, empty_directory, find_directory

if TYPE_CHECKING:
    from cfsctl.boot.content import ContentReader
    from cfsctl.tree.model import Directory, FileSystem

EMPTIED: Final = (b"boot", b"sysroot")


class NotBootableError(CfsError):
    """A tree that lacks a directory which every bootable image has."""

    exit_code = ExitCode.NOT_FOUND


def make_bootable(filesystem: FileSystem, reader: ContentReader, *, keep_nanoseconds: bool = False) -> None:
    """Change a tree as the original does before it makes a bootable image.

    Run `cfsctl.tree.transform.apply_oci_transform` before this, and look for boot entries: they are gone
    afterwards.

    Args:
        filesystem: The tree, which is changed.
        reader: Reads the files of the SELinux policy.
        keep_nanoseconds: Leave the fractions of the times of ``/boot`` and ``/sysroot`` alone, as releases
            of the original before 0.9.4 did.

    Raises:
        NotBootableError: ``/usr``, ``/boot`` or ``/sysroot`` is missing or no directory.
        PolicyError: The SELinux policy cannot be read.
        BootFileError: A file of the policy is not a regular file, or too large.
        TreePathError: The way to the policy is not a sequence of directories.
    """
    root = filesystem.root
    usr, *emptied = [_find_directory(root, name) for name in (b"usr", *EMPTIED)]
    # The policy is looked for before anything changes: a tree is changed as a whole or not at all.
    policy = find_policy(filesystem, reader)
    for directory in emptied:
        empty_directory(directory, usr, keep_nanoseconds=keep_nanoseconds)
    if policy is None:
        remove_labels(filesystem)
    else:
        apply_labels(filesystem, policy)


def _find_directory(root: Directory, name: bytes) -> Directory:
    try:
        return find_directory(root, name)
    except TransformError as error:
        shown = name.decode()
        hint = (
            f"a bootable image needs the directories /usr, /boot and /sysroot; add /{shown} to the tree,"
            " or leave --bootable out"
        )
        raise NotBootableError(str(error), hint=hint) from None
