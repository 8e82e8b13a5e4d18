"""Journal of verified objects, so that a killed pull can be resumed.

    $REPO/.cfsctl-pull-<commit>     one file per commit; gone when a pull of it is done

    header    8 bytes, then the kernel's number of the repository's hash algorithm, 32 bits
    records   size of what follows the checksum, CRC-32 of that; then the object's checksum, size of its ID
              (0 for none), the ID, and its data as the plan holds it

Every process of a pull appends to the journal, whole records in one write, which the kernel does not mix with
others. The last record may be torn; all records before it are used. Nothing is synced: after a power failure,
the file contains what reached the disk. As with any other base, metadata and inline content are hashed again,
and objects are checked, before anything from the journal is trusted.

All numbers little-endian.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import zlib
from typing import TYPE_CHECKING, Final

from cfsctl.digest import Checksum, ObjectID
from cfsctl.linux.files import write_all
from cfsctl.linux.private_files import NotPrivateError, check_private_file, is_private_directory
from cfsctl.ostree.objects import CHECKSUM_SIZE
from cfsctl.ostree.objects.held_objects import Place, PlacedObjects
from cfsctl.repository.gc.prefixes import JOURNAL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.repository import Repository

MAX_JOURNAL_BYTES: Final = 1 << 30
"""Bytes of a journal that are read; as much as a commit stream may have."""

_MAGIC: Final = b"cfspull\0"
_HEADER: Final = struct.Struct("<8sI")
_RECORD: Final = struct.Struct("<II")

_JOINED_BYTES: Final = 1 << 20
"""Bytes up to which pieces are put together; one of the largest commits must not be held a second time."""

_WINDOW_BYTES: Final = 1 << 20
_KEPT_BYTES: Final = 4096
"""Bytes of a record that is kept in memory; what is larger is read again when it is needed."""

_PIECES_AT_ONCE: Final = 3 * 340
"""Pieces of one call, at most IOV_MAX; whole records, since several processes append."""


class PullJournal:
    """The journal of one commit; a base of its pull, see `plan.Base`.

    Attributes:
        objects: What earlier pulls had written down.
        is_proven: Whether only this program can have written that.
    """

    def __init__(self, repository: Repository, commit: Checksum) -> None:
        """Read existing records, and start to append.

        Raises:
            OSError: The file cannot be written.
        """
        self._root = repository.dirfd
        self._name = f"{JOURNAL_PREFIX}{commit.hex()}"
        self._header = _HEADER.pack(_MAGIC, repository.algorithm.value)
        self._id_size = repository.algorithm.digest_size
        self.is_proven = is_private_directory(self._root)
        self._fd = _open_own(self._root, self._name)
        try:
            self.objects = self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> PlacedObjects:
        """Read all whole records, and cut off what follows them."""
        objects = PlacedObjects(self._fd)
        size = os.fstat(self._fd).st_size
        end = len(self._header)
        if os.pread(self._fd, end, 0) != self._header:
            os.ftruncate(self._fd, 0)
            write_all(self._fd, self._header)
            return objects
        for checksum, entry, after in self._iter_records(end, min(size, MAX_JOURNAL_BYTES)):
            objects.put(checksum, entry)
            end = after
        if end != size:
            os.ftruncate(self._fd, end)
        return objects

    def _iter_records(self, start: int, end: int) -> Iterator[tuple[Checksum, StoredContent | Place, int]]:
        read = _Window(self._fd).read
        while start + _RECORD.size <= end:
            size, crc = _RECORD.unpack(read(start, _RECORD.size))
            start += _RECORD.size
            if size <= CHECKSUM_SIZE or start + size > end:
                return
            head = read(start, min(size, CHECKSUM_SIZE + 1 + self._id_size))
            id_size = head[CHECKSUM_SIZE]
            rest = CHECKSUM_SIZE + 1 + id_size
            if id_size not in {0, self._id_size} or rest > size:
                return
            data = read(start, size) if size <= _KEPT_BYTES else None
            if (self._compute_crc(start, size) if data is None else zlib.crc32(data)) != crc:
                return
            object_id = ObjectID(head[CHECKSUM_SIZE + 1 : rest]) if id_size else None
            place = Place(start + rest, size - rest, object_id)
            start += size
            yield Checksum(head[:CHECKSUM_SIZE]), place if data is None else (data[rest:], object_id), start

    def _compute_crc(self, start: int, size: int) -> int:
        """Return the CRC-32 of a part of the file."""
        crc = 0
        for place in range(start, start + size, _WINDOW_BYTES):
            crc = zlib.crc32(os.pread(self._fd, min(_WINDOW_BYTES, start + size - place), place), crc)
        return crc

    @property
    def object_refs(self) -> set[ObjectID]:
        """Contents that earlier pulls had stored as objects."""
        return {object_id for _, object_id in self.objects.iter_ids() if object_id is not None}

    def find(self, checksum: Checksum) -> StoredContent | None:
        """Return an object that an earlier pull had verified; see `plan.Base`."""
        return self.objects.get(checksum)

    def append(self, checksum: Checksum, data: bytes, object_id: ObjectID | None) -> None:
        """Write down an object that was verified, and stored if it is content of its own.

        Raises:
            OSError: It cannot be written.
        """
        self.extend([(checksum, data, object_id)])

    def extend(self, objects: Iterable[tuple[Checksum, bytes, ObjectID | None]]) -> None:
        """Write down several objects at once, as `append` does one.

        Raises:
            OSError: They cannot be written.
        """
        pieces: list[bytes] = []
        for checksum, data, object_id in objects:
            content_id = object_id or b""
            head = b"".join((checksum, bytes((len(content_id),)), content_id))
            crc = zlib.crc32(data, zlib.crc32(head))
            pieces += (_RECORD.pack(len(head) + len(data), crc), head, data)
        _write_pieces(self._fd, pieces)

    def refresh(self) -> None:
        """Read what workers have written down in the meantime; none may be at it any more.

        Raises:
            OSError: It cannot be read.
        """
        self.objects = self._load()

    def close(self) -> None:
        """Stop appending; the file stays if anything is in it. Harmless when repeated."""
        if self._fd >= 0:
            is_empty = os.fstat(self._fd).st_size <= len(self._header)
            os.close(self._fd)
            self._fd = -1
            if is_empty:
                with contextlib.suppress(OSError):
                    os.unlink(self._name, dir_fd=self._root)

    def remove(self) -> None:
        """Close the journal and remove the file; what is in it is kept elsewhere."""
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self._name, dir_fd=self._root)


class _Window:
    """Reads a file in large pieces, for someone who goes through it in small ones."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._start = 0
        self._data = b""

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the file, fewer at its end."""
        place = offset - self._start
        if place + size > len(self._data):
            self._data = os.pread(self._fd, max(size, _WINDOW_BYTES), offset)
            self._start, place = offset, 0
        return self._data[place : place + size]


_ATTEMPTS: Final = 100
"""How often a journal is opened or made, while other pulls make and remove it."""

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _is_own(fd: int) -> bool:
    try:
        check_private_file(fd, "journal")
    except NotPrivateError:
        return False
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _open_own(dirfd: int, name: str) -> int:
    """Open a journal that no other user can have written; replace anything else by a new one.

    Raises:
        OSError: There is a directory of that name, or the file cannot be made.
    """
    for _ in range(_ATTEMPTS):
        if (fd := _open_existing(dirfd, name)) is not None:
            return fd
        try:
            fd = os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=dirfd)
        except FileExistsError:
            continue  # another pull of the same commit has just made it
        os.fchmod(fd, 0o600)  # independent of the umask: the next pull must be able to read it
        return fd
    raise OSError(errno.EEXIST, "other processes keep creating and removing it", name)


def _open_existing(dirfd: int, name: str) -> int | None:
    """Open the journal that is there, or remove what is there in its place."""
    try:
        fd = os.open(name, _FLAGS, dir_fd=dirfd)
    except FileNotFoundError:
        return None
    except OSError:  # a link, or nothing that can be opened
        fd = -1
    if fd >= 0:
        if _is_own(fd):
            return fd
        os.close(fd)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=dirfd)
    return None


def _write_pieces(fd: int, pieces: list[bytes]) -> None:
    """Append records, each of three pieces, however little each call takes."""
    if sum(map(len, pieces)) <= _JOINED_BYTES:
        write_all(fd, b"".join(pieces))
        return
    for first in range(0, len(pieces), _PIECES_AT_ONCE):
        some = pieces[first : first + _PIECES_AT_ONCE]
        written = os.writev(fd, some)
        if written < sum(map(len, some)):
            write_all(fd, b"".join(some)[written:])
