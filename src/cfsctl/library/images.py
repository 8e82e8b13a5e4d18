"""What can be done with the images and streams of a repository."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.ids import ObjectID
from cfsctl.library.opened import OpenedRepository, moving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cfsctl.library.events import Progress
    from cfsctl.library.paths import StrPath
    from cfsctl.mount import WritableLayer
    from cfsctl.repository import Ref
    from cfsctl.repository.mounting.choice import FuseOptions
    from cfsctl.tree.model import FileSystem
    from cfsctl.tree.transform import XattrFilter


class ImageMethods(OpenedRepository):
    """Making, naming, reading and mounting images."""

    def images(self) -> dict[str, ObjectID]:
        """Return the images that have a ref, by ref, sorted."""
        found = ((ref.name, self.find_image(f"refs/{ref.name}")) for ref in self.image_refs())
        return {name: image_id for name, image_id in found if image_id is not None}

    def image_refs(self) -> list[Ref]:
        """Return the refs of images as they are, sorted; what one names may be missing."""
        return self._store.images.list_refs()

    def find_image(self, name: str) -> ObjectID | None:
        """Return the image that has a ref or an ID, or None."""
        found = self._store.images.find(name)
        return None if found is None else ObjectID(found)

    def has_root(self, name: str) -> bool:
        """Return whether `gc` would take a name as an extra root: that of an image or of a stream."""
        from cfsctl.errors import RepositoryError

        for category in (self._store.images, self._store.streams):
            try:
                if category.find(name) is not None:
                    return True
            except RepositoryError:
                continue  # no name of this category
        return False

    def image_objects(self, name: str) -> list[ObjectID]:
        """Return the objects that an image refers to, sorted.

        Raises:
            RefNotFoundError: There is no such image.
            IntegrityError: It is missing or damaged.
        """
        return [ObjectID(object_id) for object_id in self._store.images.objects(name)]

    def read_image(self, name: str) -> FileSystem:
        """Return the tree of an image; its type is not part of the interface.

        Raises:
            RefNotFoundError: There is no such image.
            IntegrityError, FormatError: It is missing or damaged.
        """
        from cfsctl.erofs.read.tree import read_image

        with self._store.images.map(name) as data:
            return read_image(data, self.algorithm)

    def iter_image_dump(self, name: str, paths: Sequence[bytes] = (b"/",)) -> Iterator[bytes]:
        """Yield lines of an image's composefs dump, line ends included.

        Args:
            name: ID or ref of the image.
            paths: What is dumped, each with all below it. All exist, or the first step raises an error.

        Raises:
            RefNotFoundError: There is no such image.
            CfsError: There is no such path.
            IntegrityError, FormatError: The image is missing or damaged.
        """
        from cfsctl.dumpfile import DumpWriter
        from cfsctl.erofs.inspect import find_entry

        filesystem = self.read_image(name)
        writer = DumpWriter(filesystem)
        found = [(find_entry(filesystem, path), path) for path in paths]
        for node, path in found:
            yield from writer.iter_node(node, path)

    def list_backing_paths(self, name: str, paths: Sequence[bytes]) -> list[bytes]:
        """Return a line for each path in an image: where in a store of objects the content of the file is.

        Args:
            name: ID or ref of the image.
            paths: Paths of files.

        Raises:
            RefNotFoundError: There is no such image.
            CfsError: There is no such path.
            IntegrityError, FormatError: The image is missing or damaged.
        """
        from cfsctl.erofs.inspect import format_backing_path

        filesystem = self.read_image(name)
        return [format_backing_path(filesystem, path) for path in paths]

    def import_image(
        self,
        chunks: Iterable[bytes],
        ref: str,
        *,
        replace: bool = True,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> ObjectID:
        """Store an image that was made elsewhere, and give it a ref.

        Args:
            chunks: Its bytes, in pieces of any size.
            ref: The ref.
            replace: Move the ref if another image has it.
            keep: Number of earlier images of the ref to keep; None leaves its history as it is.
            progress: Told which image had the ref before.

        Raises:
            FormatError: It is not a composefs image.
            InvalidNameError: The ref cannot be one.
            RefExistsError: It belongs to an image, and may not be taken from it.
        """
        if not replace:
            self._check_free(ref)
        with moving(self, progress, replace=replace, keep=keep):
            return ObjectID(self._store.images.import_image(chunks, ref).object_id)

    def _check_free(self, ref: str) -> None:
        from cfsctl.repository.history.kept import HistoryKey
        from cfsctl.repository.history.moves import check_free
        from cfsctl.repository.names.names import check_new_ref

        check_free(self._store, HistoryKey("images", check_new_ref(ref, "image name")))

    @cancellable
    def create_image(
        self,
        path: StrPath,
        ref: str | None = None,
        *,
        as_root: bool = True,
        bootable: bool = False,
        xattrs: XattrFilter | None = None,
        use_cache: bool = True,
        verify_cache: bool = False,
        replace: bool = True,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> ObjectID:
        """Store a directory and make an image of it.

        Args:
            path: The directory.
            ref: A ref for the image, or None.
            as_root: It is the root of a system or of a container: the root directory takes the metadata of
                ``/usr``, ``/run`` is emptied, and only portable extended attributes stay.
            bootable: Empty ``/boot`` and ``/sysroot``, and label files as the tree's own SELinux policy says.
            xattrs: With `as_root`, the extended attributes that stay; None is ``security.capability``.
            use_cache: Let the repository remember what was read, and read less the next time.
            verify_cache: Read everything, and fail if the cache says something else.
            replace: Move the ref if another image has it.
            keep: Number of earlier images of the ref to keep; None leaves its history as it is.
            progress: Told how many entries have been seen, and which image had the ref before.

        Raises:
            InvalidNameError: The ref cannot be one.
            RefExistsError: It belongs to an image, and may not be taken from it.
            CfsError: The tree changed in the meantime, or cannot be an image.
        """
        from cfsctl.scan import create_image
        from cfsctl.tree.transform import XattrFilter

        if ref is not None and not replace:
            self._check_free(ref)
        with moving(self, progress, replace=replace, keep=keep):
            image_id = create_image(
                self._store,
                os.fspath(path),
                ref,
                xattr_filter=xattrs or XattrFilter.ALLOWLIST_ONLY,
                propagate_usr=as_root,
                bootable=bootable,
                use_cache=use_cache,
                verify_cache=verify_cache,
                reporter=make_reporter(progress),
            )
        return ObjectID(image_id)

    def mount(
        self,
        image: str | ObjectID,
        mountpoint: StrPath,
        *,
        writable_layer: WritableLayer | None = None,
        read_write: bool | None = None,
        fuse: FuseOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Mount an image; the mount outlives this object.

        Args:
            image: Its ref or ID.
            mountpoint: A directory.
            writable_layer: Where changes go; None is a tree that cannot change.
            read_write: Allow writing through the mount; None is if there is a writable layer.
            fuse: Whether a process serves the image by FUSE, and how; None is if the kernel cannot mount it.
            progress: Told if FUSE is used although it was not asked for.

        Raises:
            RefNotFoundError: There is no such image.
            IntegrityError: It is missing or damaged.
            CfsError: FUSE cannot be used here.
            OSError: The kernel refused; nothing is mounted then.
        """
        from cfsctl.repository.mounting.stored import mount_stored_image

        mount_stored_image(
            self._store,
            image if isinstance(image, str) else image.hex(),
            os.fspath(mountpoint),
            writable_layer=writable_layer,
            read_write=writable_layer is not None if read_write is None else read_write,
            fuse=fuse,
            reporter=make_reporter(progress),
        )

    def mount_detached(
        self,
        image: str | ObjectID,
        *,
        writable_layer: WritableLayer | None = None,
        read_write: bool | None = None,
    ) -> int:
        """Mount an image nowhere, and return a descriptor of the mount, for move_mount(2) or another process.

        The mount ends when the descriptor is closed, unless it was attached somewhere.

        Args:
            image: Its ref or ID.
            writable_layer: Where changes go; None is a tree that cannot change.
            read_write: Allow writing through the mount; None is if there is a writable layer.

        Raises:
            RefNotFoundError: There is no such image.
            IntegrityError: It is missing or damaged.
            OSError: The kernel refused.
        """
        from cfsctl.repository.mounting.stored import create_stored_mount

        return create_stored_mount(
            self._store,
            image if isinstance(image, str) else image.hex(),
            writable_layer=writable_layer,
            read_write=writable_layer is not None if read_write is None else read_write,
        )

    @contextlib.contextmanager
    def mounted(
        self, image: str | ObjectID, mountpoint: StrPath, *, writable_layer: WritableLayer | None = None
    ) -> Iterator[None]:
        """Mount an image as `mount` does, for as long as the block lasts."""
        from cfsctl.linux.mountapi import umount

        self.mount(image, mountpoint, writable_layer=writable_layer)
        try:
            yield
        finally:
            umount(os.fspath(mountpoint))

    def read_stream(self, name: str, write: Callable[[bytes | memoryview], object]) -> None:
        """Restore the content of a stream, and call a function with each piece of it.

        Args:
            name: A content identifier, or ``refs/<ref>``.
            write: Takes the pieces.

        Raises:
            RefNotFoundError: There is no such stream.
            IntegrityError, FormatError: It is damaged, or an object is missing.
        """
        self._store.streams.cat(name, write)
