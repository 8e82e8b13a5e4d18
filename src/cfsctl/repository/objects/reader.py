"""Find and open stored objects, and check them before use.

* An object is checked before it counts as present: always its type and size, the kernel's digest if it has
  one, and its content if a `Verifier` requires it.
* Nothing here follows a symbolic link or opens anything but a regular file.
"""

from __future__ import annotations

import errno
import itertools
import operator
import os
import stat
from array import array
from collections.abc import Collection
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from cfsctl.digest import ObjectID, find_object_name, qualified
from cfsctl.errors import DigestMismatchError, IntegrityError, ObjectMissingError
from cfsctl.fsverity.kernel import (
    VerityAlgorithmError,
    VerityMissingError,
    VerityUnsupportedError,
    measure,
)
from cfsctl.fsverity.merkle import compute_file_digest
from cfsctl.linux.files import open_listed_status, open_regular
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.repository.objects.fan_out import OBJECTS, FanOut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cfsctl.digest import Algorithm
    from cfsctl.progress import Reporter

_FIRST_BYTE = operator.itemgetter(0)

VERIFY_ID: Final = "verify"
"""Names the progress of reading many objects that were not verified in the state they are in."""

_WORTH_A_PROCESS: Final = 16384
"""Objects from which on it pays to look at half of them in another process."""

_WORTH_WORKERS: Final = 256
"""Objects to be read from which on several processes do that."""

_FEW: Final = 512
"""Objects, two for each directory, up to which none is read instead of asking for each of them."""

_VERIFY_BATCH: Final = 64
"""Objects that a process reads at a time."""


class StoredObjectMissingError(ObjectMissingError, IntegrityError, FileNotFoundError):
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


class ObjectState(Enum):
    """What a check of an object found, where it did not find damage."""

    SOUND = "sound"
    MISSING = "missing"


Finding: TypeAlias = ObjectState | str
"""What a check of an object found: its state, or the text of what is wrong with it."""


def to_doubtful(size_bytes: int) -> int:
    """Return what `ObjectReader.find_sizes` says of an object of this size that needs a closer look."""
    return -2 - size_bytes


class Verifier(Protocol):
    """Decides whether a stored object must be read before it counts as present."""

    def needs_reading(self, object_id: ObjectID, status: os.stat_result, /) -> bool:
        """Return whether to compute the digest of the object with this ID and file status."""

    def find_sizes(self, found: Iterable[tuple[ObjectID, os.stat_result | None]], /) -> array[int]:
        """Return the size of each of many objects, as `ObjectReader.find_sizes` does."""

    def confirm(self, object_id: ObjectID, status: os.stat_result, /) -> None:
        """Record that the digest was computed, and is right."""

    def drain_new(self) -> array[int]:
        """Return what was confirmed since the last call; in a worker, for `add_new` of its parent."""

    def add_new(self, news: Iterable[int], /) -> None:
        """Record what a worker has confirmed."""


class Measured(NamedTuple):
    """An object that was opened.

    Attributes:
        fd: A descriptor of a regular file.
        status: Its status.
        is_measured: Whether the kernel checks what is read from it against the object's ID.
    """

    fd: int
    status: os.stat_result
    is_measured: bool


class ObjectReader:
    """The stored objects of one repository.

    Attributes:
        algorithm: Hash algorithm of the IDs.
        is_secure: Whether every object must have fs-verity.
        verifier: Called for stored objects that fs-verity does not protect;
            None trusts type and size.
    """

    def __init__(
        self, dirfd: int, algorithm: Algorithm, *, is_secure: bool = False, directory: str = OBJECTS
    ) -> None:
        """Make no call to the system yet; arguments as for `cfsctl.repository.objects.store.ObjectStore`."""
        self.algorithm = algorithm
        self.is_secure = is_secure
        self.verifier: Verifier | None = None
        self._fan_out = FanOut(dirfd, directory)
        self._may_have_verity = True

    def close(self) -> None:
        """Close the descriptors; they are opened again when needed."""
        self._fan_out.close()

    def stat(self, object_id: ObjectID) -> os.stat_result | None:
        """Return the status of an object's file, or None if there is no regular file of that name."""
        name = object_id.hex()
        try:
            status = os.stat(name[2:], dir_fd=self._fan_out.directory(name[:2]), follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def contains(self, object_id: ObjectID, size: int | None = None) -> bool:
        """Return whether the object exists, judging by its type and, if given, its size."""
        status = self.stat(object_id)
        return status is not None and size in {None, status.st_size}

    def find_beginning(self, digits: str) -> list[ObjectID]:
        """Return the objects whose IDs begin with these digits, of which there are at least two; sorted."""
        fan_out, rest = digits[:2], digits[2:]
        names = (name for name in self._fan_out.names(fan_out) if name.startswith(rest))
        found = (find_object_name(fan_out + name, self.algorithm) for name in names)
        return sorted(object_id for object_id in found if object_id is not None)

    def find_missing(self, object_ids: Iterable[ObjectID]) -> list[ObjectID]:
        """Return which of many objects have no file, sorted; types and contents are not checked.

        Where many files of a directory are wanted, it is read instead of asking for each: that is several
        times as fast, and no more than one directory is held at a time. A few are looked for one by one.
        """
        if isinstance(object_ids, Collection) and len(object_ids) <= _FEW:
            return sorted({object_id for object_id in object_ids if not self._has_name(object_id)})
        buckets: dict[int, list[ObjectID]] = {}
        for object_id in object_ids:
            buckets.setdefault(object_id[0], []).append(object_id)
        step = 2 * self.algorithm.digest_size
        missing: list[ObjectID] = []
        for first in sorted(buckets):
            prefix = f"{first:02x}"
            names = b"".join(buckets[first]).hex()  # one call for all of them, and small sets: this is hot
            wanted = {names[start + 2 : start + step] for start in range(0, len(names), step)}
            absent = self._fan_out.find_absent(prefix, wanted)
            missing += [ObjectID(bytes.fromhex(prefix + name)) for name in sorted(absent)]
        return missing

    def _has_name(self, object_id: ObjectID) -> bool:
        name = object_id.hex()
        try:
            os.stat(name[2:], dir_fd=self._fan_out.directory(name[:2]), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def open(self, object_id: ObjectID) -> int:
        """Open an object for reading.

        Returns:
            A descriptor of a regular file that the caller owns. In a secure repository, and wherever the
            file has fs-verity, the kernel checks what is read from it against the ID.

        Raises:
            ObjectMissingError: It does not exist.
            ObjectDamagedError: Its name belongs to something that is not a file.
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

    def open_listed(self, object_id: ObjectID) -> tuple[int, int]:
        """Open an object as `open` does, if `stat` has just found it; that takes half the calls.

        Returns:
            A descriptor that the caller owns, and the size of the file in bytes.

        Raises:
            ObjectMissingError, ObjectDamagedError, DigestMismatchError, VerityMissingError: As for `open`.
        """
        fd, status = self._open_status(object_id, is_regular=True)
        try:
            self._check_measured(fd, object_id)
        except BaseException:
            os.close(fd)
            raise
        return fd, status.st_size

    def open_measured(self, object_id: ObjectID) -> Measured:
        """Open an object for reading, also one without fs-verity in a secure repository.

        Returns:
            The open file, which the caller owns.

        Raises:
            ObjectMissingError, ObjectDamagedError, DigestMismatchError: As for `open`.
        """
        # Looked at by name first, since a FUSE server opens many.
        fd, status = self._open_status(object_id, is_regular=self.stat(object_id) is not None)
        try:
            is_measured = self._may_have_verity and self._check_measured(fd, object_id)
        except (VerityMissingError, VerityUnsupportedError):
            is_measured = False
        except BaseException:
            os.close(fd)
            raise
        return tuple.__new__(Measured, (fd, status, is_measured))  # half the time of calling the class

    def _open(self, object_id: ObjectID, *, is_regular: bool = False) -> int:
        return self._open_status(object_id, is_regular=is_regular)[0]

    def _open_status(self, object_id: ObjectID, *, is_regular: bool = False) -> tuple[int, os.stat_result]:
        name = object_id.hex()
        try:
            directory = self._fan_out.directory(name[:2])
            if is_regular:
                return open_listed_status(directory, name[2:])
            fd = open_regular(directory, name[2:])
            return fd, os.fstat(fd)
        except FileNotFoundError:
            raise StoredObjectMissingError(object_id) from None
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
        """Return whether the object exists and no damage was found; see `find_damage`."""
        return self.find_damage(object_id, size) is ObjectState.SOUND

    def find_damage(self, object_id: ObjectID, size: int | None = None) -> Finding:
        """Check an object before it is used.

        Args:
            object_id: Its ID.
            size: The size that it must have, in bytes, if that is known.

        Returns:
            Whether the object is sound or missing, or the text of what is wrong with it.
        """
        name = object_id.hex()
        try:
            status = os.stat(name[2:], dir_fd=self._fan_out.directory(name[:2]), follow_symlinks=False)
        except FileNotFoundError:
            return ObjectState.MISSING
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if size not in {None, status.st_size}:
            return f"expected {size} bytes, found {status.st_size}"
        if not self.is_secure:
            needs_reading = self.verifier is not None and self.verifier.needs_reading(object_id, status)
            if not needs_reading and (self.verifier is not None or not self._may_have_verity):
                return ObjectState.SOUND
        return self._find_inner_damage(object_id, status)

    def find_all_damage(
        self, object_ids: Iterable[ObjectID], reporter: Reporter = silent
    ) -> dict[ObjectID, Finding]:
        """Check many objects as `find_damage` does, but faster; return the damaged ones.

        Args:
            object_ids: Their IDs.
            reporter: Told how far that is, where many have to be read; what it raises ends it.

        Returns:
            What is wrong with each object that is not sound, by ID.
        """
        ids = sorted(object_ids)
        sizes = self.find_sizes(ids)
        suspects = [object_id for object_id, size in zip(ids, sizes, strict=True) if size < 0]
        if len(suspects) < _WORTH_WORKERS:
            return dict(self._look_at(suspects))
        return self._verify(suspects, reporter)

    def _look_at(self, object_ids: Iterable[ObjectID]) -> list[tuple[ObjectID, Finding]]:
        found = ((object_id, self.find_damage(object_id)) for object_id in object_ids)
        return [(object_id, damage) for object_id, damage in found if damage is not ObjectState.SOUND]

    def _verify(self, object_ids: Sequence[ObjectID], reporter: Reporter) -> dict[ObjectID, Finding]:
        """Implement `find_all_damage` for objects that must be read, in several processes."""
        from cfsctl.workers import WorkerPool  # few commands read so many

        verifier, count = self.verifier, len(object_ids)

        def look(batch: Sequence[ObjectID]) -> tuple[int, list[tuple[ObjectID, Finding]], array[int]]:
            found = self._look_at(batch)
            return len(batch), found, array("Q") if verifier is None else verifier.drain_new()

        batches = (object_ids[start : start + _VERIFY_BATCH] for start in range(0, count, _VERIFY_BATCH))
        damaged: dict[ObjectID, Finding] = {}
        done = 0
        reporter(Started(VERIFY_ID, count, Unit.ITEMS))
        with WorkerPool(lambda: look) as pool:
            for size, found, news in pool.map_unordered(batches):
                damaged.update(found)
                if verifier is not None:
                    verifier.add_new(news)
                done += size
                reporter(Advanced(VERIFY_ID, done, count))
        reporter(Done(VERIFY_ID, done))
        return damaged

    def find_sizes(self, object_ids: Sequence[ObjectID]) -> Sequence[int]:
        """Return the size in bytes of each of many objects; below 0 for one that needs a closer look.

        That is `to_doubtful` of its size, or -1 if that is not known either. Of very many another process
        looks at half.

        Args:
            object_ids: Their IDs, ascending.
        """
        verifier, count = self.verifier, len(object_ids)
        if self.is_secure or verifier is None:
            return array("q", (-1,)) * count
        look, half = verifier.find_sizes, count // 2
        if count < _WORTH_A_PROCESS:
            return look(self._iter_status(object_ids))
        look(())  # has the verifier read what both need
        from cfsctl.workers import run_in_fork  # few commands look at so many

        with run_in_fork(lambda: look(self._iter_status(object_ids[half:]))) as rest:
            return look(self._iter_status(object_ids[:half])) + rest()

    def describe_directories(self) -> tuple[bytes, int]:
        """Return the state of all directories of objects, and when the last of them was changed, in ns.

        Any object that is added, removed or replaced changes it.
        """
        text: list[str] = []
        latest_ns = 0
        for first in range(256):
            try:
                status = os.stat(f"{first:02x}", dir_fd=self._fan_out.objects(), follow_symlinks=False)
            except FileNotFoundError:
                continue
            latest_ns = max(latest_ns, status.st_ctime_ns)
            text.append(f"{first} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}")
        return "\n".join(text).encode(), latest_ns

    def _iter_status(
        self, object_ids: Iterable[ObjectID]
    ) -> Iterator[tuple[ObjectID, os.stat_result | None]]:
        """Yield objects with the status of their files, or None if there is no regular file."""
        look, is_regular = os.stat, stat.S_ISREG
        for prefix, group in itertools.groupby(object_ids, key=_FIRST_BYTE):
            try:
                directory = self._fan_out.directory(f"{prefix:02x}")
            except FileNotFoundError:
                yield from ((object_id, None) for object_id in group)
                continue
            for object_id in group:
                try:
                    status = look(object_id.hex()[2:], dir_fd=directory, follow_symlinks=False)
                except OSError:
                    yield object_id, None
                else:
                    yield object_id, status if is_regular(status.st_mode) else None

    def _find_inner_damage(self, object_id: ObjectID, status: os.stat_result) -> Finding:
        fd = self._open(object_id, is_regular=True)
        try:
            if self._check_measured(fd, object_id) or self.verifier is None:
                return ObjectState.SOUND
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
        return ObjectState.SOUND
