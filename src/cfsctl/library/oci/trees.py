"""The trees of images: computed, dumped and mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.ids import ObjectID
from cfsctl.library.oci.base import parse_stream_id
from cfsctl.library.oci.named import NamedImageMethods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.library.events import Progress
    from cfsctl.library.oci.options import OciTreeOptions
    from cfsctl.library.paths import StrPath
    from cfsctl.mount import WritableLayer
    from cfsctl.repository.mounting.choice import FuseOptions
    from cfsctl.tree.model import FileSystem


class TreeMethods(NamedImageMethods):
    """What is done with the trees of images.

    If an image is named by its digest, all its layers are read and verified, unless the options say which
    stream its config must have.
    """

    def tree(self, image: str, options: OciTreeOptions | None = None) -> FileSystem:
        """Return the tree of an image; its type is not part of the interface.

        Raises:
            RepositoryError: There is no such image, or more than one, or it is an artifact.
            FormatError, IntegrityError: It is damaged, or its config is stored otherwise than expected.
        """
        from cfsctl.library.oci.options import OciTreeOptions
        from cfsctl.oci.store.images import open_trusted_config, resolve
        from cfsctl.oci.to_tree import image_tree

        store, how = self._store, options or OciTreeOptions()
        expected = parse_stream_id(store.algorithm, how.config_stream)
        config = open_trusted_config(store, resolve(store, image), expected)
        tree = image_tree(store, config.layers(), how.xattrs)
        if how.bootable:
            from cfsctl.oci.boot_images import turn_bootable

            turn_bootable(store, tree)
        return tree

    def dump(self, image: str, options: OciTreeOptions | None = None) -> Iterator[bytes]:
        """Return the tree of an image as a composefs dump, in pieces.

        Raises:
            CfsError: As `tree`.
        """
        from cfsctl.dumpfile import iter_dump

        return iter_dump(self.tree(image, options))

    def compute_id(self, image: str, options: OciTreeOptions | None = None) -> ObjectID:
        """Return the ID of the file system image of an image; nothing is stored.

        Raises:
            CfsError: As `tree`.
        """
        from cfsctl.oci.store.publish import build

        store = self._store
        image_id, _ = build(self.tree(image, options), store.erofs_versions[0], store.algorithm)
        return ObjectID(image_id)

    def mount(
        self,
        image: str,
        mountpoint: StrPath,
        *,
        bootable: bool = False,
        writable_layer: WritableLayer | None = None,
        read_write: bool | None = None,
        fuse: FuseOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Mount the file system image of an image, as `Repository.mount` does.

        Args:
            image: The image.
            mountpoint: A directory.
            bootable: Mount the boot image.
            writable_layer: Where changes go; None is a tree that cannot change.
            read_write: Allow writing through the mount; None is if there is a writable layer.
            fuse: Whether a process serves it by FUSE, and how; None is if the kernel cannot mount it.
            progress: Told if FUSE is used although it was not asked for.

        Raises:
            RepositoryError: There is no such image, or no file system image was made of it.
            IntegrityError: It is missing or damaged.
            OSError: The kernel refused; nothing is mounted then.
        """
        image_id = self.find_image(image, bootable=bootable)
        self._repository.mount(
            image_id,
            mountpoint,
            writable_layer=writable_layer,
            read_write=read_write,
            fuse=fuse,
            progress=progress,
        )
