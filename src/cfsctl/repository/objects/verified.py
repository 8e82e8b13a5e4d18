"""The list of objects that were verified and have not changed since.

One file, ``.cfsctl-verified`` in the repository's directory, replaced as a whole:

    header     40 bytes, see `_HEADER`
    marks      sorted, 8 bytes for each object

A mark is computed from an object's ID and the state of its file: inode, size, mtime, ctime. Any change of an
object through the kernel changes its ctime and so its mark; the object then counts as unverified and is read
again before use. docs/explanation/healing.md describes what this detects. The file is only a cache: without
it, more data is read. It is trusted only if no other user can have written it (`cfsctl.linux.private_files`).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import struct
import time
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from cfsctl.digest import ObjectID
from cfsctl.errors import FormatError
from cfsctl.linux.files import AnonymousFile, write_all
from cfsctl.linux.private_files import check_private_directory, read_private
from cfsctl.repository.objects.reader import to_doubtful

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cfsctl.digest import Algorithm

VERIFIED_NAME: Final = ".cfsctl-verified"

_MAGIC: Final = b"cfsvrfy\0"
_VERSION: Final = 1
_HEADER = struct.Struct("<8sHHI24s")
"""magic, version, kernel's number of the hash algorithm, number of marks, start of their SHA-256."""

_CHECKSUM_SIZE: Final = 24
_MARK_SIZE: Final = 8
_MAX_MARKS: Final = 1 << 21
"""Two million, 16 MiB; a list that would grow beyond holds only the latest objects afterwards."""

_FEW: Final = 2048
"""Marks that are searched in the list before a set is made of it."""

_MASK: Final = (1 << 64) - 1
# Odd numbers, so that two states that differ in one field never have the same mark.
_INODE_FACTOR: Final = 0x9E3779B97F4A7C15
_SIZE_FACTOR: Final = 0xC2B2AE3D27D4EB4F
_MTIME_FACTOR: Final = 0xBF58476D1CE4E5B9
_CTIME_FACTOR: Final = 0x94D049BB133111EB

_QUIET_NS: Final = 100_000_000
"""Only files that were left alone for so long are marked: a change within one tick of the kernel's clock,
10 ms at most, could leave them the same ctime."""

_COARSE_QUIET_NS: Final = 2_000_000_000
"""The same where the ctime is a whole second, as on file systems that keep no more than that."""

_SECOND_NS: Final = 1_000_000_000


class VerifiedListError(FormatError):
    """A list that is damaged or of another version; it is not used."""


def mark_of(object_id: ObjectID, status: os.stat_result) -> int:
    """Return the mark of an object whose file is in this state."""
    return (
        int.from_bytes(object_id[:8], "little")
        ^ status.st_ino * _INODE_FACTOR
        ^ status.st_size * _SIZE_FACTOR
        ^ status.st_mtime_ns * _MTIME_FACTOR
        ^ status.st_ctime_ns * _CTIME_FACTOR
    ) & _MASK


class VerifiedObjects:
    """The marks of one repository; read when they are first needed.

    Implements `cfsctl.repository.objects.reader.Verifier`. What a forked worker confirms stays in it.
    """

    def __init__(self, dirfd: int, algorithm: Algorithm) -> None:
        """Read nothing yet.

        Args:
            dirfd: The repository's directory, borrowed; must stay open.
            algorithm: Hash algorithm of the IDs.
        """
        self._root = dirfd
        self._algorithm = algorithm
        self._listed: array[int] | None = None  # as in the file, ascending
        self._marks: set[int] | None = None  # made of these to look for many, or to add some
        self._searches = 0
        self._added: set[int] = set()
        self._now_ns = time.time_ns

    def needs_reading(self, object_id: ObjectID, status: os.stat_result) -> bool:
        """Return whether an object whose file is in this state was not verified in that state."""
        return not self._is_known(mark_of(object_id, status))

    def _read_list(self) -> array[int]:
        """Return the marks of the file, which is read once."""
        if self._listed is None:
            self._listed = _load(self._root, self._algorithm)
        return self._listed

    def _all_marks(self) -> set[int]:
        """Return all marks, to be changed as well."""
        if self._marks is None:
            self._marks = set(self._read_list())
            self._listed = array("Q")  # read, and not needed any more
        return self._marks

    def _is_known(self, mark: int) -> bool:
        self._searches += 1
        if self._marks is not None or self._searches > _FEW:
            return mark in self._all_marks()
        # A set of a large list takes longer to make than a thousand searches. In a list that does not ascend
        # marks may be missed, but none is found that is not there: at worst objects are read again.
        listed = self._read_list()
        place = bisect_left(listed, mark)
        return place < len(listed) and listed[place] == mark

    def find_sizes(self, found: Iterable[tuple[ObjectID, os.stat_result | None]]) -> array[int]:
        """Return the size of each of many objects; see `cfsctl.repository.objects.reader.Verifier`."""
        found = iter(found)
        first = list(itertools.islice(found, _FEW))
        # Without any, the caller prepares for many, which another process looks up as well.
        is_known = self._is_known if 0 < len(first) < _FEW else self._all_marks().__contains__
        sizes = [
            -1
            if status is None
            else status.st_size
            if is_known(mark_of(object_id, status))
            else to_doubtful(status.st_size)
            for object_id, status in itertools.chain(first, found)
        ]
        return array("q", sizes)

    def confirm(self, object_id: ObjectID, status: os.stat_result) -> None:
        """Record that an object was read and found right; `status` is from before reading."""
        if not is_quiet(status.st_ctime_ns, self._now_ns()):
            return
        mark = mark_of(object_id, status)
        if self._listed is not None:
            self._add(mark)

    def note(self, object_id: ObjectID, status: os.stat_result) -> None:
        """Record a mark without asking how young the file is."""
        self._add(mark_of(object_id, status))

    def _add(self, mark: int) -> None:
        if not self._is_known(mark):
            self._all_marks().add(mark)
            self._added.add(mark)

    def drain_new(self) -> array[int]:
        """Return what was noted since the last call; the caller is then responsible for saving it."""
        news, self._added = array("Q", self._added), set()
        return news

    def add_new(self, news: Iterable[int]) -> None:
        """Record what a worker has taken with `drain_new`."""
        self._added.update(news)
        self._all_marks().update(news)

    def confirm_all(
        self, object_ids: Iterable[ObjectID], stat: Callable[[ObjectID], os.stat_result | None]
    ) -> list[ObjectID]:
        """Record objects that this process, or one that it waited for, has just written or verified.

        Returns:
            Those that were written so lately that they cannot be noted yet.
        """
        marks, added = self._all_marks(), self._added
        young: list[ObjectID] = []
        now_ns = self._now_ns()
        for object_id in object_ids:
            status = stat(object_id)
            if status is None:
                continue
            mark = mark_of(object_id, status)
            if mark in marks:
                continue
            if is_quiet(status.st_ctime_ns, now_ns):
                marks.add(mark)
                added.add(mark)
            else:
                young.append(object_id)
        return young

    @property
    def has_news(self) -> bool:
        """Whether something was noted that is not in the file."""
        return bool(self._added)

    def save(self) -> None:
        """Write the list if there is something new in it. An error leaves the old list.

        What was verified must be behind a barrier: what was read may never have reached the disk.
        """
        if not self._added or self._listed is None:
            return
        marks = self._all_marks()
        if len(marks) > _MAX_MARKS:
            marks = self._added
        with contextlib.suppress(OSError):
            _write(self._root, self._algorithm, marks)
        self._added = set()


class CachedCheck:
    """Something about an object that depends on its bytes alone, remembered with the state of its file.

    The mark is that of an object whose ID is the SHA-512 of what the fact is.

    Attributes:
        is_known: Whether it was found to be so, and the file was not touched since.
    """

    def __init__(self, verified: VerifiedObjects, fact: bytes, status: os.stat_result | None) -> None:
        """Look up whether the result is known.

        Args:
            verified: Where it is remembered.
            fact: What it is, with all that it is about.
            status: State of the object's file, from before anything is found out; None if none exists.
        """
        import hashlib  # see `_compute_checksum`

        self._verified = verified
        self._status = status
        self._question = ObjectID(hashlib.sha512(fact).digest())
        self.is_known = status is not None and not verified.needs_reading(self._question, status)

    def record(self) -> None:
        """Record that the check succeeded."""
        if self._status is not None and not self.is_known:
            self._verified.confirm(self._question, self._status)

    def remember_of_id(self) -> None:
        """Record the same of a fact that is about an object's ID, however young the file is.

        Later callers must check whether the file is still that object; the state of the file
        only ties the mark to this repository, so that a list from elsewhere says nothing here.
        """
        if self._status is not None and not self.is_known:
            self._verified.note(self._question, self._status)


def is_quiet(ctime_ns: int, now_ns: int) -> bool:
    """Return whether a file was changed so long ago that another change would show."""
    return ctime_ns <= now_ns - (_QUIET_NS if ctime_ns % _SECOND_NS else _COARSE_QUIET_NS)


def forget_verified(dirfd: int) -> None:
    """Remove the list, if that is possible."""
    with contextlib.suppress(OSError):
        os.unlink(VERIFIED_NAME, dir_fd=dirfd)


def _load(dirfd: int, algorithm: Algorithm) -> array[int]:
    try:
        data = read_private(dirfd, VERIFIED_NAME, _HEADER.size + _MARK_SIZE * _MAX_MARKS)
        return _parse(data, algorithm)
    except (VerifiedListError, OSError):
        return array("Q")


def _parse(data: bytes, algorithm: Algorithm) -> array[int]:
    """Return the marks of a list.

    Raises:
        VerifiedListError: It is damaged, or for another algorithm.
    """
    if len(data) < _HEADER.size:
        raise VerifiedListError(f"list of verified objects: expected {_HEADER.size} bytes, found {len(data)}")
    magic, version, number, count, checksum = _HEADER.unpack_from(data)
    body = data[_HEADER.size :]
    if (magic, version, number, count * _MARK_SIZE) != (_MAGIC, _VERSION, algorithm.value, len(body)):
        raise VerifiedListError("list of verified objects: expected another header, or another length")
    if _compute_checksum(body) != checksum:
        raise VerifiedListError("list of verified objects: wrong checksum")
    return _swapped(array("Q", body))


def _format(marks: Iterable[int], algorithm: Algorithm) -> bytes:
    """Return a list as it is stored."""
    body = _swapped(array("Q", sorted(marks))).tobytes()
    checksum = _compute_checksum(body)
    count = len(body) // _MARK_SIZE
    return _HEADER.pack(_MAGIC, _VERSION, algorithm.value, count, checksum) + body


def _swapped(marks: array[int]) -> array[int]:
    """Turn numbers of this machine into little-endian ones, or back."""
    if struct.pack("=H", 1) != struct.pack("<H", 1):
        marks.byteswap()
    return marks


def _write(dirfd: int, algorithm: Algorithm, marks: Iterable[int]) -> None:
    if os.fstatvfs(dirfd).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), VERIFIED_NAME)
    check_private_directory(dirfd)  # it would not be trusted there
    with AnonymousFile(dirfd) as file:
        write_all(file.fd, _format(marks, algorithm))
        file.replace(dirfd, VERIFIED_NAME)


def _compute_checksum(body: bytes) -> bytes:
    import hashlib  # brings OpenSSL, which commands that only name things do without

    return hashlib.sha256(body).digest()[:_CHECKSUM_SIZE]
