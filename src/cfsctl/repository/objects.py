"""The object store: content under the name of its own fs-verity digest, written once.

    objects/            made at the first write
      xx/               first byte of the ID, made at the first write below it
        rest            the other bytes; a regular file, 0644, never changed in place
      .tmp-object-*     a file in the making where the file system has no O_TMPFILE

Every object comes into being here and in one way: a file without a name is filled and hashed, gets
fs-verity where the file system has it, and only then its name. What is promised:

* A name in the store is complete content, or after a power failure without `Repository.sync` possibly
  less; therefore an object that is there already is looked at before it counts: type and size always,
  the kernel's digest where there is one, its content where a `Verifier` asks for it. One that fails is
  replaced in one rename, and that is logged.
* In a secure repository every object that is written has fs-verity with the digest in its name.
* Nothing here follows a symbolic link or opens anything but a regular file.
* An `ObjectStore` may be used in forked processes at the same time; it holds nothing but descriptors.
"""

from __future__ import annotations

import errno
import itertools
import operator
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from cfsctl.digest import ObjectID, qualified
from cfsctl.errors import DigestMismatchError, IntegrityError
from cfsctl.fsverity.kernel import (
    VerityAlgorithmError,
    VerityBusyError,
    VerityEnabledError,
    VerityMissingError,
    VerityUnsupportedError,
    enable,
    measure,
)
from cfsctl.fsverity.merkle import Hasher, compute_digest, compute_file_digest
from cfsctl.linux.files import FileFactory, open_regular, write_all
from cfsctl.repository.fan_out import OBJECTS, FanOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import Algorithm
    from cfsctl.linux.files import AnonymousFile

_OBJECT_MODE: Final = 0o644

_SURE_TO_BE_NEW: Final = 16
"""After so many new objects in a row the next one is taken to be new as well, until one is not."""

_FIRST_BYTE = operator.itemgetter(0)

_COPY_SIZE: Final = 1 << 16
"""Bytes copied at a time, which is what hashing likes best."""

_MAX_COPIES: Final = 3
"""Copies made of a file that stays open for writing elsewhere, before that is an error."""


class ObjectMissingError(IntegrityError, FileNotFoundError):
    """An object that something refers to is not in the repository.

    Attributes:
        object_id: The object's ID.
    """

    def __init__(self, object_id: ObjectID) -> None:
        """Compose the message."""
        OSError.__init__(self, errno.ENOENT, f"object {qualified(object_id)} is missing from the repository")
        self.hint = None
        self.object_id = object_id

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.strerror)


class ObjectDamagedError(IntegrityError):
    """What stands under the name of an object is not that object."""


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


class Verifier(Protocol):
    """Decides whether an object that is there already needs to be read before it counts."""

    def needs_reading(self, object_id: ObjectID, status: os.stat_result, /) -> bool:
        """Return whether to compute the digest of the object with this ID and file status."""

    def confirm(self, object_id: ObjectID, status: os.stat_result, /) -> None:
        """Take note that the digest was computed, and is right."""


class ObjectStore:
    """The objects of one repository.

    Attributes:
        algorithm: Hash algorithm of the IDs.
        is_secure: Whether every object must have fs-verity.
        syncs_each: Whether the content of each object is on the disk before it has its name.
        verifier: Asked about objects that are there already and that the kernel does not vouch for;
            None trusts type and size.
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
        """Make no call to the system yet.

        Args:
            dirfd: The repository's directory, borrowed; must stay open.
            algorithm: Hash algorithm of the IDs.
            is_secure: Whether every object must have fs-verity.
            check_writable: Called before anything is written; raises if nothing may be.
            directory: Where the objects are below `dirfd`; ``.`` for right in it.
        """
        self.algorithm = algorithm
        self.is_secure = is_secure
        self.syncs_each = False
        self.verifier: Verifier | None = None
        self._check_writable = check_writable
        self._fan_out = FanOut(dirfd, directory)
        self._factory: FileFactory | None = None
        self._may_have_verity = True
        self._new_in_a_row = 0

    def close(self) -> None:
        """Close the descriptors; they are opened again when needed."""
        self._factory = None
        self._fan_out.close()

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

    # Reading

    def stat(self, object_id: ObjectID) -> os.stat_result | None:
        """Return the status of an object's file, or None if there is no regular file of that name."""
        name = object_id.hex()
        try:
            status = os.stat(name[2:], dir_fd=self._fan_out.directory(name[:2]), follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def contains(self, object_id: ObjectID, size: int | None = None) -> bool:
        """Return whether the object is there, as far as its type and, if given, its size tell."""
        status = self.stat(object_id)
        return status is not None and size in {None, status.st_size}

    def find_missing(self, object_ids: Iterable[ObjectID]) -> list[ObjectID]:
        """Return which of many objects have no file, sorted; types and contents are not looked at.

        Directories are read instead of asking for every file: that is several times as fast, and no
        more than one directory is held at a time.
        """
        missing: list[ObjectID] = []
        for prefix, group in itertools.groupby(sorted(set(object_ids)), key=_FIRST_BYTE):
            present = self._fan_out.names(f"{prefix:02x}")
            missing += [object_id for object_id in group if object_id.hex()[2:] not in present]
        return missing

    def open(self, object_id: ObjectID) -> int:
        """Open an object for reading.

        Returns:
            A descriptor of a regular file that the caller owns. In a secure repository, and wherever the
            file has fs-verity, the kernel checks what is read from it against the ID.

        Raises:
            ObjectMissingError: It is not there.
            ObjectDamagedError: Its name belongs to something that is no file.
            DigestMismatchError: The kernel's digest is another one.
            VerityMissingError: The repository is secure and the object has no fs-verity.
        """
        fd = self._open(object_id)
        try:
            self._check_measured(fd, object_id)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _open(self, object_id: ObjectID) -> int:
        name = object_id.hex()
        try:
            return open_regular(self._fan_out.directory(name[:2]), name[2:])
        except FileNotFoundError:
            raise ObjectMissingError(object_id) from None
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENOTDIR, errno.ENXIO}:
                raise
            raise ObjectDamagedError(f"object {qualified(object_id)}: {error.strerror}") from error

    def read(self, object_id: ObjectID) -> bytes:
        """Return the whole content of an object; for objects that are known to be small."""
        fd = self.open(object_id)
        with open(fd, "rb", closefd=True) as stream:
            return stream.read()

    def _check_measured(self, fd: int, object_id: ObjectID) -> bool:
        """Compare the kernel's digest of an open file; return whether there is one.

        Raises:
            DigestMismatchError: It is another one.
            VerityMissingError, VerityUnsupportedError: There is none and the repository is secure.
        """
        if not self._may_have_verity:
            return False
        try:
            measured = measure(fd, self.algorithm)
        except VerityUnsupportedError:
            if self.is_secure:
                raise
            self._may_have_verity = False
            return False
        except VerityMissingError:
            if self.is_secure:
                raise
            return False
        if measured != object_id:
            raise DigestMismatchError(
                f"object {qualified(object_id)}", expected=object_id.hex(), actual=measured.hex()
            )
        return True

    def is_sound(self, object_id: ObjectID, size: int | None = None) -> bool:
        """Return whether the object is there and as good as can be told; see `find_damage`."""
        return self.find_damage(object_id, size) == ""

    def find_damage(self, object_id: ObjectID, size: int | None = None) -> str | None:
        """Look at an object that is about to be relied on.

        Args:
            object_id: Its ID.
            size: The size that it must have, in bytes, if that is known.

        Returns:
            None if the object is not there, an empty text if it is as good as can be told, otherwise
            what is wrong with it.
        """
        name = object_id.hex()
        try:
            status = os.stat(name[2:], dir_fd=self._fan_out.directory(name[:2]), follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if size not in {None, status.st_size}:
            return f"expected {size} bytes, found {status.st_size}"
        if not self.is_secure:
            needs_reading = self.verifier is not None and self.verifier.needs_reading(object_id, status)
            if not needs_reading and (self.verifier is not None or not self._may_have_verity):
                return ""
        return self._find_inner_damage(object_id, status)

    def _find_inner_damage(self, object_id: ObjectID, status: os.stat_result) -> str:
        fd = self._open(object_id)
        try:
            if self._check_measured(fd, object_id) or self.verifier is None:
                return ""
            actual, _ = compute_file_digest(fd, self.algorithm)
            if actual != object_id:
                return f"content has the digest {actual.hex()}"
            self.verifier.confirm(object_id, status)
        except (DigestMismatchError, VerityMissingError, VerityAlgorithmError) as error:
            return str(error)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return f"cannot be read: {error.strerror}"
        finally:
            os.close(fd)
        return ""

    # Writing

    def ensure_bytes(self, data: bytes | bytearray | memoryview) -> StoredObject:
        """Store content that is in memory, unless it is stored already.

        Raises:
            OSError: Nothing was stored then.
        """
        object_id = compute_digest(data, self.algorithm)
        size = len(data)
        damage: str | None = None
        # Where everything is new, giving the name tells soon enough what is not.
        if self._new_in_a_row < _SURE_TO_BE_NEW:
            damage = self.find_damage(object_id, size)
        is_plain = not (self._may_have_verity or self.syncs_each)
        if damage is None and is_plain and self._create(object_id, data):
            self._new_in_a_row += 1
            return StoredObject(object_id, size, is_new=True)
        self._new_in_a_row = 0
        if damage is None:
            damage = self.find_damage(object_id, size)
        if damage == "":
            return StoredObject(object_id, size, is_new=False)
        with self._files().begin() as file:
            write_all(file.fd, data)
            return self._publish(file, object_id, size, damage or "")

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
        if damage == "":
            return StoredObject(object_id, size, is_new=False)
        return self._publish(file, object_id, size, damage or "")

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
                # Somebody forked while the file was open for writing and keeps that descriptor.
                with self._copy(file) as copy:
                    return self._publish(copy, object_id, size, damage, copies - 1)
        return self._link(file, object_id, size, damage)

    def _enable_verity(self, file: AnonymousFile, object_id: ObjectID) -> None:
        """Have the kernel protect the file, where it can; its digest is then the one expected.

        Raises:
            VerityUnsupportedError: The file system cannot, and the repository is secure.
            DigestMismatchError: The content changed while it was written.
        """
        file.make_read_only()
        try:
            enable(file.fd, self.algorithm)
        except VerityUnsupportedError:
            if self.is_secure:
                raise
            self._may_have_verity = False
        except VerityEnabledError:
            self._check_measured(file.fd, object_id)
        else:
            self._check_measured(file.fd, object_id)

    def _copy(self, file: AnonymousFile) -> AnonymousFile:
        copy = self._files().begin()
        try:
            position = 0
            while chunk := os.pread(file.fd, _COPY_SIZE, position):
                write_all(copy.fd, chunk)
                position += len(chunk)
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
                # Somebody else stored it meanwhile, or something is in the way that was not there before.
                damage = self.find_damage(object_id, size) or ""
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
    import logging  # noqa: PLC0415 - takes milliseconds, and hardly ever is there something to say

    log = logging.getLogger(__name__)
    log.warning("object %s was damaged and has been replaced: %s", qualified(object_id), damage)


class ObjectWriter:
    """An object in the making: written in pieces, hashed on the way, visible when committed.

    A context manager: leaving it without `commit` leaves nothing behind.
    """

    __slots__ = ("_file", "_hasher", "_store")

    def __init__(self, store: ObjectStore, file: AnonymousFile) -> None:
        """Take over a new file; `ObjectStore.create` is the way here."""
        self._store = store
        self._file = file
        self._hasher = Hasher(store.algorithm)

    @property
    def fd(self) -> int:
        """Descriptor of the file in the making, borrowed: for reading what was written."""
        return self._file.fd

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._hasher.size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the object; at best pieces of 64 KiB or a multiple of 4 KiB.

        Raises:
            OSError: As write(2), ENOSPC among them; the object can only be aborted then.
        """
        write_all(self._file.fd, data)
        self._hasher.update(data)

    def commit(self, expected: ObjectID | None = None) -> StoredObject:
        """Give the object its name, unless it is stored already; nothing can be written afterwards.

        Args:
            expected: The ID that it must have, or None for whatever it has.

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
        """Forget the object; harmless when repeated and after `commit`."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget the object unless it was committed."""
        self.abort()
