"""A stored image as a source of boot entries: what `create-image --bootable` has made, or any other image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.boot.content import read_file
from cfsctl.boot.contents import content_reader
from cfsctl.boot.entries import find_boot_entries
from cfsctl.boot.os_release import parse_os_release
from cfsctl.boot.prepare import ImageSet
from cfsctl.erofs.read.tree import read_image
from cfsctl.erofs.superblock import read_superblock
from cfsctl.errors import RefNotFoundError
from cfsctl.tree.model import Directory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cfsctl.boot.content import ContentReader
    from cfsctl.boot.entries import BootEntry
    from cfsctl.digest import ObjectID
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem

_OS_RELEASE_PATHS = (b"/etc/os-release", b"/usr/lib/os-release")


def read_os_release(tree: FileSystem, reader: ContentReader) -> dict[str, str]:
    """Return the values of a tree's os-release; none if it has none.

    Raises:
        BootFileError: It is not a regular file, or too large.
        TreePathError: The way to it is no sequence of directories.
    """
    for path in _OS_RELEASE_PATHS:
        content = read_file(tree, path, reader)
        if content is not None:
            return parse_os_release(content.decode("utf-8", "replace"))
    return {}


def read_labels(tree: FileSystem) -> dict[str, bytes]:
    """Return the SELinux labels of the directories at the top of a tree, by name."""
    return {
        name.decode("utf-8", "replace"): node.xattrs[b"security.selinux"]
        for name, node in tree.root.entries.items()
        if isinstance(node, Directory) and b"security.selinux" in node.xattrs
    }


MOUNT_POINTS = ("etc", "var")
"""Directories that `cfsctl.boot.setup_root` cannot do without, as it is configured by default."""


def find_missing(tree: FileSystem) -> list[str]:
    """Return the mount points that a tree lacks."""
    entries = tree.root.entries
    return [name for name in MOUNT_POINTS if not isinstance(entries.get(name.encode()), Directory)]


class StoredImageSource:
    """An image of a repository that is booted as it is.

    Attributes:
        entries: Its boot entries.
        os_release: Values of its os-release.
        labels: SELinux labels of directories at its top.
        missing: Mount points that it lacks.
    """

    def __init__(self, repository: Repository, name: str) -> None:
        """Read the image.

        Raises:
            RefNotFoundError: There is no such image.
            FormatError, IntegrityError: It is damaged, or a boot entry is malformed.
        """
        image_id = repository.images.find(name)
        if image_id is None:
            raise RefNotFoundError(f"image not found: {name}", hint="list the images with `cfsctl images`")
        reader = content_reader(repository)
        with repository.images.map(image_id.hex()) as data:
            version = read_superblock(data).version
            tree = read_image(data, repository.algorithm)
        self._images = ImageSet({version: image_id})
        self.entries: Sequence[BootEntry] = find_boot_entries(tree, reader)
        self.os_release: Mapping[str, str] = read_os_release(tree, reader)
        self.labels: Mapping[str, bytes] = read_labels(tree)
        self.missing: Sequence[str] = find_missing(tree)

    def images(self) -> ImageSet:
        """Return the image."""
        return self._images

    def find_older(self, image_id: ObjectID) -> ImageSet | None:
        """Return None: the image is what it is."""
        del image_id
        return None

    def publish(self, images: ImageSet) -> None:
        """Do nothing: the image is stored."""
