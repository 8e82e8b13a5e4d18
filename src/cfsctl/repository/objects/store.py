"""The object store: content under the name of its own fs-verity digest, written once.

    objects/            made at the first write
      xx/               first byte of the ID, made at the first write below it
        rest            the other bytes; a regular file, 0644, never changed in place
      .tmp-object-*     a file under construction where the file system has no O_TMPFILE

Every object is created here in the same way: an unnamed file is written and hashed, fs-verity is enabled if
the file system supports it, and only then the file gets its name. Guarantees:

* An object with a name is complete, except possibly after a power failure before `Repository.sync`. Therefore
an
  existing object is checked before it counts as present: always its type and size, the kernel's digest if it
  has one, and its content if a `Verifier` requires it. If a check fails, the object is replaced atomically,
  and this is logged.
* In a secure repository, every written object has fs-verity enabled with the digest in its name.
* Nothing here follows a symbolic link or opens anything but a regular file.
* An `ObjectStore` may be used in forked processes at the same time; it holds nothing but descriptors.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import qualified
from cfsctl.errors import DigestMismatchError
from cfsctl.fsverity.kernel import VerityBusyError, VerityEnabledError, VerityUnsupportedError, enable
from cfsctl.fsverity.merkle import Hasher, compute_digest
from cfsctl.linux.files import FileFactory
from cfsctl.linux.sparse import BLOCK_BYTES, copy_file, iter_runs, write_all, write_hole, write_sparse
from cfsctl.linux.syscalls import link_fd
from cfsctl.logs import get_logger
from cfsctl.repository.objects.fan_out import OBJECTS
from cfsctl.repository.objects.reader import ObjectDamagedError, ObjectReader, ObjectState, Verifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.linux.files import AnonymousFile
    from cfsctl.repository.objects.reader import Finding

__all__ = [
    "ObjectDamagedError",
    "ObjectStore",
    "ObjectWriter",
    "StoredObject",
    "Verifier",
]

_OBJECT_MODE: Final = 0o644

_SURE_TO_BE_NEW: Final = 16
"""After so many new objects in a row the next one is taken to be new as well, until one is not."""

_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP})
"""What the kernel answers where a file cannot have a second name, or not in this directory."""

_MAX_COPIES: Final = 3
"""Copies made of a file that stays open for writing elsewhere, before that is an error."""


class StoredObject(NamedTuple):
    """What became of content that was to be stored.

    Attributes:
        object_id: Its ID.
        size: Its size in bytes.
        is_new: Whether the object had to be written.
        damage: What was wrong with the file that stood in its place, or empty.
    """

    object_id: ObjectID
    size: int
    is_new: bool
    damage: str = ""


class ObjectStore(ObjectReader):
    """The objects of one repository, and the way of new ones into it.

    Attributes:
        syncs_each: Whether the content of each object is on the disk before it has its name.
    """

    def __init__(
        self,
        dirfd: int,
        algorithm: Algorithm,
        *,
        is_secure: bool = False,
        check_writable: Callable[[], None] | None = None,
        directory: str = OBJECTS,
    ) -> None:
        """Prepare; no system call is made yet.

        Args:
            dirfd: The repository's directory, borrowed; must stay open.
            algorithm: Hash algorithm of the IDs.
            is_secure: Whether every object must have fs-verity.
            check_writable: Called before anything is written; raises if nothing may be.
            directory: Where the objects are below `dirfd`; ``.`` for right in it.
        """
        super().__init__(dirfd, algorithm, is_secure=is_secure, directory=directory)
        self.syncs_each = False
        self._check_writable = check_writable
        self._factory: FileFactory | None = None
        self._new_in_a_row = 0

    def count_free_bytes(self) -> int:
        """Return the number of free bytes on the file system of the objects, for this user."""
        with self.create() as writer:  # objects may be on another file system than the repository
            status = os.fstatvfs(writer.fd)
        return status.f_bavail * status.f_frsize

    def close(self) -> None:
        """Close the descriptors; they are opened again when needed."""
        self._factory = None
        super().close()

    def objects_fd(self, *, create: bool = False) -> int:
        """Return an O_PATH descriptor of ``objects``, borrowed; to mount with, and to make files in.

        Raises:
            FileNotFoundError: There is no such directory, and `create` is false.
            OSError: It is a link or no directory.
        """
        return self._fan_out.objects(create=create)

    def _files(self) -> FileFactory:
        """Return what makes new files, once objects may be written."""
        if self._factory is None:
            if self._check_writable is not None:
                self._check_writable()
                self._check_writable = None
            self._factory = FileFactory(self._fan_out.objects(create=True), _OBJECT_MODE)
        return self._factory

    def remove(self, object_id: ObjectID) -> None:
        """Remove an object.

        Raises:
            FileNotFoundError: It does not exist.
            OSError: As unlink(2).
        """
        name = object_id.hex()
        os.unlink(name[2:], dir_fd=self._fan_out.directory(name[:2]))

    def ensure_bytes(
        self, data: bytes | bytearray | memoryview, object_id: ObjectID | None = None
    ) -> StoredObject:
        """Store content that is in memory, unless it is stored already.

        Args:
            data: The content.
            object_id: Its digest, if the caller has computed it.

        Raises:
            OSError: Nothing was stored then.
        """
        if object_id is None:
            object_id = compute_digest(data, self.algorithm)
        size = len(data)
        damage: Finding = ObjectState.MISSING
        # Where everything is new, giving the name tells soon enough what is not.
        if self._new_in_a_row < _SURE_TO_BE_NEW:
            damage = self.find_damage(object_id, size)
        is_plain = not (self._may_have_verity or self.syncs_each)
        if damage is ObjectState.MISSING and is_plain and self._create(object_id, data):
            self._new_in_a_row += 1
            return StoredObject(object_id, size, is_new=True)
        self._new_in_a_row = 0
        if damage is ObjectState.MISSING:
            damage = self.find_damage(object_id, size)
        if damage is ObjectState.SOUND:
            return StoredObject(object_id, size, is_new=False)
        with self._files().begin() as file:
            write_sparse(file.fd, data)
            return self._publish(file, object_id, size, _text_of(damage))

    def _create(self, object_id: ObjectID, data: bytes | bytearray | memoryview) -> bool:
        """Make the file of an object that needs no fs-verity; return whether its name was free."""
        name = object_id.hex()
        files = self._files()
        try:
            files.create(data, self._fan_out.directory(name[:2], create=True), name[2:])
        except FileExistsError:
            return False
        return True

    def begin(self) -> AnonymousFile:
        """Return a new, empty file for `publish`, to be filled by other means than writing.

        Raises:
            OSError: As open(2).
        """
        return self._files().begin()

    def create(self) -> ObjectWriter:
        """Begin an object whose content comes in pieces.

        Raises:
            OSError: As open(2).
        """
        return ObjectWriter(self, self._files().begin())

    def publish(self, file: AnonymousFile, object_id: ObjectID, size: int) -> StoredObject:
        """Give a complete file its place; for `begin`, and for `ObjectWriter.commit`.

        Args:
            file: The file.
            object_id: Its digest, which the caller has computed.
            size: Its size in bytes.
        """
        damage = self.find_damage(object_id, size)
        if damage is ObjectState.SOUND:
            return StoredObject(object_id, size, is_new=False)
        return self._publish(file, object_id, size, _text_of(damage))

    def adopt(self, fd: int, object_id: ObjectID, size: int) -> StoredObject | None:
        """Give a file that has a name elsewhere the name of an object as well: a hard link.

        Args:
            fd: The file, open for reading, borrowed. What it may be is for the caller to decide, see
                `cfsctl.repository.objects.sharing`.
            object_id: Its digest, which the caller has computed.
            size: Its size in bytes.

        Returns:
            None if it cannot be linked here; nothing was stored then.

        Raises:
            VerityUnsupportedError: fs-verity cannot be enabled, and the repository is secure.
            DigestMismatchError: The content has changed.
            OSError: As linkat(2) and fsync(2).
        """
        if self.find_damage(object_id, size) is not ObjectState.MISSING:
            return None
        if self._may_have_verity:
            self._enable_verity_on(fd, object_id)
        if self.syncs_each:
            os.fsync(fd)
        name = object_id.hex()
        self._files()  # checks that objects may be written
        try:
            link_fd(fd, self._fan_out.directory(name[:2], create=True), name[2:])
        except FileExistsError:
            return None
        except OSError as error:
            if error.errno in _NO_LINK:
                return None
            raise
        return StoredObject(object_id, size, is_new=True)

    def _publish(
        self,
        file: AnonymousFile,
        object_id: ObjectID,
        size: int,
        damage: str,
        copies: int = _MAX_COPIES,
    ) -> StoredObject:
        """Enable fs-verity on a complete file and link it; `damage` names what stands there already."""
        if self._may_have_verity:
            try:
                self._enable_verity(file, object_id)
            except VerityBusyError:
                if not copies:
                    raise
                # A process was forked while the file was open for writing and still has that descriptor.
                with self._copy(file) as copy:
                    return self._publish(copy, object_id, size, damage, copies - 1)
        return self._link(file, object_id, size, damage)

    def _enable_verity(self, file: AnonymousFile, object_id: ObjectID) -> None:
        """Enable fs-verity on the file, if supported; its digest is then the expected one.

        Raises:
            VerityUnsupportedError: The file system cannot, and the repository is secure.
            DigestMismatchError: The content changed while it was written.
        """
        file.make_read_only()
        self._enable_verity_on(file.fd, object_id)

    def _enable_verity_on(self, fd: int, object_id: ObjectID) -> None:
        """Enable fs-verity on an open file; see `_enable_verity`."""
        try:
            enable(fd, self.algorithm)
        except VerityUnsupportedError:
            if self.is_secure:
                raise
            self._may_have_verity = False
        except VerityEnabledError:
            self._check_measured(fd, object_id)
        else:
            self._check_measured(fd, object_id)

    def _copy(self, file: AnonymousFile) -> AnonymousFile:
        copy = self._files().begin()
        try:
            target = copy.fd
            copy_file(file.fd, lambda data: write_sparse(target, data), lambda size: write_hole(target, size))
        except BaseException:
            copy.close()
            raise
        return copy

    def _link(self, file: AnonymousFile, object_id: ObjectID, size: int, damage: str) -> StoredObject:
        if self.syncs_each:
            os.fsync(file.fd)
        name = object_id.hex()
        directory = self._fan_out.directory(name[:2], create=True)
        if not damage:
            try:
                file.link(directory, name[2:])
            except FileExistsError:
                # Another process stored it in the meantime, or something is in the way that did not exist
                # before.
                damage = _text_of(self.find_damage(object_id, size))
                if not damage:
                    return StoredObject(object_id, size, is_new=False)
            else:
                return StoredObject(object_id, size, is_new=True)
        try:
            file.replace(directory, name[2:])
        except IsADirectoryError:
            raise ObjectDamagedError(
                f"object {qualified(object_id)}: expected a file, found a directory",
                hint="remove the directory",
            ) from None
        _warn(object_id, damage)
        return StoredObject(object_id, size, is_new=True, damage=damage)


def _warn(object_id: ObjectID, damage: str) -> None:
    log = get_logger(__name__)
    log.warning("object %s was damaged and has been replaced: %s", qualified(object_id), damage)


class ObjectWriter:
    """An object under construction: written in pieces, hashed on the way, visible when committed.

    A context manager: leaving it without `commit` leaves nothing behind.
    """

    __slots__ = ("_file", "_hasher", "_store")

    def __init__(self, store: ObjectStore, file: AnonymousFile) -> None:
        """Take ownership of a new file; `ObjectStore.create` is the way here."""
        self._store = store
        self._file = file
        self._hasher = Hasher(store.algorithm)

    @property
    def fd(self) -> int:
        """Descriptor of the file under construction, borrowed: for reading what was written."""
        return self._file.fd

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._hasher.size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the object; at best pieces of 64 KiB or a multiple of 4 KiB.

        Blocks of zeros take no space, and hardly any time.

        Raises:
            OSError: As write(2), ENOSPC among them; the object can only be aborted then.
        """
        if len(data) < BLOCK_BYTES:
            write_all(self._file.fd, data)
            self._hasher.update(data)
            return
        view = memoryview(data)
        for is_zero, start, end in iter_runs(view):
            if is_zero:
                self.write_hole(end - start)
            else:
                write_all(self._file.fd, view[start:end])
                self._hasher.update(view[start:end])

    def write_hole(self, size: int) -> None:
        """Append so many zeros.

        Raises:
            OSError: As ftruncate(2), EFBIG among them; the object can only be aborted then.
        """
        write_hole(self._file.fd, size)
        self._hasher.update_zeros(size)

    def write_file(self, fd: int) -> None:
        """Append the whole content of an open file, borrowed, and its holes as such.

        Raises:
            OSError: As pread(2) and `write`.
        """
        copy_file(fd, self.write, self.write_hole)

    def commit(self, expected: ObjectID | None = None) -> StoredObject:
        """Give the object its name, unless it is stored already; nothing can be written afterwards.

        Args:
            expected: The ID that it must have, or None for any.

        Raises:
            DigestMismatchError: It has another ID; nothing was stored.
            OSError: The object is not in the store then.
        """
        with self._file:
            object_id = self._hasher.digest()
            if expected not in {None, object_id}:
                assert expected is not None
                raise DigestMismatchError("object", expected=expected.hex(), actual=object_id.hex())
            return self._store.publish(self._file, object_id, self._hasher.size)

    def abort(self) -> None:
        """Forget the object; may be called again and after `commit`."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget the object unless it was committed."""
        self.abort()


def _text_of(found: Finding) -> str:
    """Return what is wrong with an object, or an empty string if nothing is."""
    return found if isinstance(found, str) else ""
