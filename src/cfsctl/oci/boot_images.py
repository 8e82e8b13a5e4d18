"""Images that can be booted: the tree of an image after the boot transformation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.boot.contents import content_reader
from cfsctl.boot.entries import find_boot_entries
from cfsctl.boot.kept import keep_image
from cfsctl.boot.transform import make_bootable
from cfsctl.erofs.format import FormatVersion
from cfsctl.oci.store.image_refs import ImageKind, list_images
from cfsctl.oci.store.publish import build
from cfsctl.oci.to_tree import image_tree
from cfsctl.tree.transform import XattrFilter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem

    Layers = Sequence[tuple[OciDigest, ObjectID]]


class BootMatch(NamedTuple):
    """A boot image that has the ID that was expected.

    Attributes:
        image_id: The image, which is stored.
        kind: What kind it is.
        version: Its format.
        keeps_nanoseconds: Whether it is by the rule of releases before 0.9.4.
    """

    image_id: ObjectID
    kind: ImageKind
    version: FormatVersion
    keeps_nanoseconds: bool

    def describe(self) -> str:
        """Return it as the original prints it."""
        mode, version = self.kind.xattr_filter.value, self.version.value
        rule = ", rule=before-0.9.4" if self.keeps_nanoseconds else ""
        return f"xattr-mode={mode}, format-version=V{version}{rule}"


def turn_bootable(repository: Repository, tree: FileSystem, *, keep_nanoseconds: bool = False) -> bool:
    """Change the tree of an image to that of its boot image; return whether it has anything to boot.

    Raises:
        NotBootableError: It lacks a directory.
        FormatError: A boot entry, or the SELinux policy, is not valid.
    """
    reader = content_reader(repository)
    entries = find_boot_entries(tree, reader)  # as the original: what cannot be booted gets no boot image
    make_bootable(tree, reader, keep_nanoseconds=keep_nanoseconds)
    return bool(entries)


def keep_replaced(
    repository: Repository, old: Mapping[str, ObjectID], new: Mapping[str, ObjectID]
) -> list[ObjectID]:
    """Keep the boot images that a config no longer names: a machine may boot one of them.

    Args:
        repository: Where they are.
        old: Images by the names that the config's stream had for them.
        new: The same as they are going to be.

    Returns:
        The images that got a ref of their own.
    """
    kept = []
    for kind, image_id in list_images(old):
        if not kind.is_bootable or image_id in new.values():
            continue
        if repository.images.find(image_id.hex()) is not None:
            keep_image(repository, image_id)
            kept.append(image_id)
    return kept


class BootSearch:
    """Looks for the boot image that has an ID, among all that can be made of an image.

    Attributes:
        tried: Images that were made without a match.
    """

    def __init__(self, repository: Repository, layers: Layers, expected: ObjectID) -> None:
        """Make nothing yet."""
        self.tried = 0
        self._repository = repository
        self._layers = layers
        self._expected = expected

    def run(self) -> BootMatch | None:
        """Return the image that has the ID, and store it; None if none exists.

        Raises:
            NotBootableError, FormatError: The image cannot be booted.
        """
        for keeps_nanoseconds in (False, True):
            for match, data in self._iter_images(keeps_nanoseconds=keeps_nanoseconds):
                if match.image_id == self._expected:
                    self._repository.objects.ensure_bytes(data)
                    return match
                # Both rules count once, since most trees give the same by either.
                self.tried += not keeps_nanoseconds
        return None

    def _iter_images(self, *, keeps_nanoseconds: bool) -> Iterator[tuple[BootMatch, bytes | bytearray]]:
        for xattr_filter in XattrFilter:
            tree = image_tree(self._repository, self._layers, xattr_filter)
            turn_bootable(self._repository, tree, keep_nanoseconds=keeps_nanoseconds)
            for version in (FormatVersion.V1, FormatVersion.V2):
                image_id, data = build(tree, version, self._repository.algorithm)
                kind = ImageKind(version is FormatVersion.V2, is_bootable=True, xattr_filter=xattr_filter)
                yield BootMatch(image_id, kind, version, keeps_nanoseconds), data
