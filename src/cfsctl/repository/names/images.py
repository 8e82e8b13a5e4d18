"""Images: EROFS objects that may be mounted, by ID and by ref.

Only an object with an entry below ``images`` is an image. Any other object may be data chosen by an attacker
and must never be mounted.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import RefNotFoundError
from cfsctl.repository.names.links import LinkDirectory, Ref
from cfsctl.repository.names.names import (
    REFS,
    check_entry,
    check_new_ref,
    find_object_in,
    parse_image_name,
    parse_short_object_id,
    suggest,
)
from cfsctl.repository.names.short_ids import choose_id
from cfsctl.repository.names.streams import DamagedLinkError, read_object_link, read_ref_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.repository.objects.store import ObjectStore, StoredObject

IMAGES: Final = "images"
_SMALL: Final = 64 << 10
"""Bytes up to which reading a file takes less time than mapping it."""


_LIST_HINT: Final = "list the images with `cfsctl images`"


class OpenedImage(NamedTuple):
    """An image that is ready to be read or mounted.

    Attributes:
        fd: Descriptor for reading, owned by the caller that opened the image.
        object_id: The image's ID.
        require_verity: Whether a mount must insist on fs-verity of the files in the image.
    """

    fd: int
    object_id: ObjectID
    require_verity: bool


class Images:
    """The images of one repository.

    Attributes:
        links: The entries and refs themselves.
    """

    def __init__(
        self, dirfd: int, objects: ObjectStore, check_writable: Callable[[], None], sync: Callable[[], None]
    ) -> None:
        """Prepare; no system call is made yet.

        Args:
            dirfd: The repository's directory, borrowed; must stay open.
            objects: The repository's objects.
            check_writable: Raises if nothing may be written.
            sync: The barrier between content and names.
        """
        self.links = LinkDirectory(dirfd, IMAGES, check_writable)
        self._objects = objects
        self._sync = sync

    # Reading

    def find(self, name: str) -> ObjectID | None:
        """Return the ID of the image that a name stands for, or None; the image is not checked.

        Args:
            name: A hex ID, ``sha512:<hex>``, ``refs/<ref>``, a ref, or the beginning of an ID.

        Raises:
            InvalidNameError: It cannot be the name of an image.
            DamagedLinkError: It leads to something else than an image of that ID.
            AmbiguousIdError: It is a prefix of more than one ID.
        """
        object_id = self.find_named(name)
        return self.find_short(name) if object_id is None else object_id

    def find_named(self, name: str) -> ObjectID | None:
        """Return the same for a whole ID or a ref."""
        entry, ref = parse_image_name(name, self._objects.algorithm)
        object_id = self._find_entry(entry) if entry is not None else None
        if object_id is None and ref is not None:
            entry = read_ref_entry(self.links, ref)
            if entry is None and name == f"{REFS}/{ref}":
                # Ours makes no ref of this name; the original does, and prints it so.
                entry = read_ref_entry(self.links, name)
            object_id = self._find_entry(entry) if entry is not None else None
        return object_id

    def find_short(self, name: str) -> ObjectID | None:
        """Return the only image whose ID has the prefix in a text, or None.

        Raises:
            InvalidNameError: It says that this is of another hash.
            AmbiguousIdError: More than one begins so.
        """
        digits = parse_short_object_id(name, self._objects.algorithm)
        if digits is None or len(digits) == 2 * self._objects.algorithm.digest_size:
            return None  # a whole ID has been looked for
        entry = choose_id(digits, self.links.list_names(), "image ID", self._describe)
        return None if entry is None else self._find_entry(entry)

    def _describe(self, entry: str) -> str | None:
        """Return the refs of an image as they are listed next to its ID."""
        return ", ".join(ref.name for ref in self.list_refs() if ref.entry == entry) or None

    def _find_entry(self, entry: str) -> ObjectID | None:
        object_id = read_object_link(self.links, entry, self._objects.algorithm)
        if object_id is not None and object_id.hex() != entry:
            raise DamagedLinkError(f"images/{entry}: links to another object, {object_id.hex()}")
        return object_id

    def open(self, name: str) -> OpenedImage:
        """Open an image by its name.

        Args:
            name: A hex ID, ``sha512:<hex>``, ``refs/<ref>`` or a ref.

        Raises:
            RefNotFoundError: There is no such image.
            IntegrityError: The object is missing, or not what its name says as far as the kernel can
                tell; in an insecure repository the content is not read.
        """
        object_id = self.require(name)
        return OpenedImage(self._objects.open(object_id), object_id, self._objects.is_secure)

    def require(self, name: str) -> ObjectID:
        """Return the ID of the image that a name stands for, as `find` does.

        Raises:
            RefNotFoundError: There is no such image.
        """
        object_id = self.find(name)
        if object_id is None:
            known = (ref.name for ref in self.list_refs())
            raise RefNotFoundError(f"image not found: {name}", hint=suggest(name, known) or _LIST_HINT)
        return object_id

    @contextlib.contextmanager
    def map(self, name: str) -> Iterator[mmap.mmap | bytes]:
        """Open an image by its name and map it into memory, for as long as the block lasts.

        Raises:
            RefNotFoundError: There is no such image.
            IntegrityError: See `open`.
        """
        fd = self.open(name).fd
        try:
            with map_file(fd) as data:
                yield data
        finally:
            os.close(fd)

    def objects(self, name: str) -> list[ObjectID]:
        """Return the IDs of the objects that an image refers to, sorted.

        Raises:
            RefNotFoundError: There is no such image.
            ErofsError: It cannot be read.
        """
        from cfsctl.erofs.read.objects import collect_objects  # most commands read no image

        with self.map(name) as data:
            return sorted(collect_objects(data, self._objects.algorithm))

    def list_ids(self) -> list[ObjectID]:
        """Return the IDs in the names of entries, even of broken ones, sorted by entry."""
        entries = self.links.iter_entries()
        found = (find_object_in(found.text, self._objects.algorithm) for found in entries if found.text)
        return [object_id for object_id in found if object_id is not None]

    def list_refs(self) -> list[Ref]:
        """Return all refs, sorted by name."""
        return self.links.list_refs()

    # Writing

    def write(self, data: bytes | bytearray | memoryview, ref: str | None = None) -> StoredObject:
        """Store an image and name it; everything stored so far is made durable before that.

        Args:
            data: The image.
            ref: A ref to move to it as well, or None.

        Raises:
            InvalidNameError: The ref cannot be one; nothing was stored.
        """
        if ref is not None:
            check_new_ref(ref, "image name")
        stored = self._objects.ensure_bytes(data)
        self._sync()
        self.link(stored.object_id, ref)
        return stored

    def link(self, object_id: ObjectID, ref: str | None = None) -> None:
        """Make a stored object an image; it and all that it refers to must be behind the barrier.

        Args:
            object_id: The image.
            ref: A ref to move to it as well, or None.

        Raises:
            InvalidNameError: The ref cannot be one; nothing has changed.
        """
        if ref is not None:
            ref = check_new_ref(ref, "image name")
        entry = check_entry(object_id.hex())
        self.links.set_entry(entry, object_id)
        if ref is not None:
            self.links.set_ref(ref, entry)

    def import_image(self, chunks: Iterable[bytes], ref: str) -> StoredObject:
        """Store an image that was made elsewhere, if it is one, and name it.

        Args:
            chunks: The image in pieces.
            ref: The ref to move to it.

        Raises:
            InvalidNameError: The ref cannot be one; nothing was read.
            ErofsError: It is not a composefs image; nothing was kept.
        """
        check_new_ref(ref, "image name")
        with self._objects.create() as writer:
            for chunk in limited_image(chunks):
                writer.write(chunk)
            with map_file(writer.fd) as data:
                _check_image(data, self._objects.algorithm)
            stored = writer.commit()
        self._sync()
        self.link(stored.object_id, ref)
        return stored

    def remove_ref(self, ref: str) -> None:
        """Remove a ref; the image stays until it is collected.

        Raises:
            RefNotFoundError: There is no such ref.
        """
        self.links.remove_ref(ref)


def limited_image(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an image in pieces, up to the first piece that is beyond its end.

    Whether it is whole is for others to check: what is kept is longer than it says, and so is refused then.

    Raises:
        ErofsError: The headers are not those of a composefs image.
    """
    from cfsctl.erofs.format import INODE_AREA_OFFSET  # see `Images.objects`
    from cfsctl.erofs.superblock import promised_size

    start = b""
    size = -1
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if size < 0:
            start += chunk
            if len(start) < INODE_AREA_OFFSET:
                continue
            size = promised_size(start)
            yield start
        else:
            yield chunk
        if total > size:
            return
    if size < 0:
        yield start


@contextlib.contextmanager
def map_file(fd: int, size: int | None = None) -> Iterator[mmap.mmap | bytes]:
    """Map a whole file for reading; the mapping ends with the block. Small files are read, which is faster.

    A file that shrinks in the meantime kills the process (SIGBUS), so this is for objects, which never do.

    Args:
        fd: The file, borrowed.
        size: Its size in bytes, or None to ask for it.
    """
    size = os.fstat(fd).st_size if size is None else size
    if size <= _SMALL:
        yield os.pread(fd, size, 0)
        return
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as data:
        yield data


def _check_image(data: mmap.mmap | bytes, algorithm: Algorithm) -> None:
    """Check that the data is an image, even if its files are of the other hash.

    Raises:
        ErofsError: It is not.
    """
    from cfsctl.erofs.read.attributes import WrongAlgorithmError  # see `Images.objects`
    from cfsctl.erofs.read.tree import check_image

    try:
        check_image(data, algorithm)
    except WrongAlgorithmError as error:
        # Accepted as the original does: such an image can be named and read, only not mounted from here.
        check_image(data, error.found)
