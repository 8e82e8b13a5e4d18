"""Cache of earlier scans: the object of each file, so that unchanged files need not be read again.

One file, ``.cfsctl-scan-cache`` in the repository's directory, replaced as a whole:

    header      72 bytes, see `_HEADER`
    records     in no particular order; state of a file, flags, day of last use, object ID
    checksum    SHA-256 of everything before it

A file's state is its device, inode, size, mtime and ctime. The kernel gives a file a new ctime whenever
its content or attributes change, and no call sets it, so equal states mean equal content, except for five
gaps, which are closed as follows (docs/explanation/scan-cache.md has the reasoning):

* A change right after reading may get the same ctime: only files that have not changed recently are recorded
  (`cfsctl.scan.recorder`).
* Programs that create whole file systems make up the times: such times are recognised by their form (same
module).
* A clock that is set back may repeat a ctime: the cache is then dropped.
* A crash may lose content and keep the metadata, or lose the ctime and keep the content: no record
  outlives the boot in which it was made.
* The file itself may be damaged or forged: it is only used if its checksum, repository, hash algorithm and
size are
  right, and if no other user can have written it (`cfsctl.linux.private_files`).

An object ID from here is used only if the store has an object of that name and size.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import FormatError, describe
from cfsctl.linux.files import AnonymousFile, write_all
from cfsctl.linux.private_files import is_private_directory, read_private
from cfsctl.progress import Message, silent

if TYPE_CHECKING:
    from typing import Self

    from cfsctl.digest import Algorithm
    from cfsctl.progress import Reporter

CACHE_NAME: Final = ".cfsctl-scan-cache"

IS_PLAIN: Final = 1
"""Flag: the file has no extended attributes at all, as far as this user can see."""

_MAGIC: Final = b"cfsscan\0"
_VERSION: Final = 2
_HEADER = struct.Struct("<8sHHI16s16sQQq")
"""magic, version, kernel's number of the hash algorithm, number of records, boot ID, viewer, device and
inode of the repository's directory, clock minus uptime in nanoseconds."""

STATE = struct.Struct("<QQQqq")
"""Device, inode, size, mtime, ctime: `cfsctl.scan.files.State`."""

VALUE_HEAD = struct.Struct("<BH")
"""Flags; day of last use since 1970. The object ID follows."""

_CHECKSUM_SIZE: Final = 32
_MAX_RECORDS: Final = 1 << 19
"""Half a million files, 60 MB; those used longest ago go first."""

_MAX_UNUSED_DAYS: Final = 60
_REFRESH_DAYS: Final = 7
"""A record in use is rewritten when its day of last use is that old."""

_CLOCK_TOLERANCE_NS: Final = 1_000_000_000
"""Smaller steps back are harmless: no file is recorded that was changed less than two seconds ago."""

_NO_BOOT: Final = bytes(16)


class ScanCacheError(FormatError):
    """A cache file that is damaged or of another version; it is not used."""


class _Circumstances(NamedTuple):
    """What decides whether records may be trusted.

    Attributes:
        boot_id: Changes with every start of the kernel; zero if unknown.
        viewer: Stands for user, capabilities and user namespace, on which visible attributes depend.
        device: Of the repository's directory.
        inode: Of the repository's directory.
        offset_ns: Time of day minus time since the start; less than before if the clock was set back.
    """

    boot_id: bytes
    viewer: bytes
    device: int
    inode: int
    offset_ns: int


class FileCache:
    """The cache of one repository, for one scan.

    Attributes:
        records: State to value, packed; not to be changed while workers use it.
        verify: Read every file all the same, and compare.
        today: Day of use of what is recorded now.
    """

    def __init__(self, dirfd: int, algorithm: Algorithm, *, verify: bool = False) -> None:
        """Start empty; `load` is the usual way.

        Args:
            dirfd: The repository's directory, borrowed.
            algorithm: Of the object IDs.
            verify: See above.
        """
        self.records: dict[bytes, bytes] = {}
        self.verify = verify
        self.today = min(int(time.time() // 86400), 0xFFFF)
        self._dirfd = dirfd
        self._algorithm = algorithm
        self._value_size = VALUE_HEAD.size + algorithm.digest_size
        self._record = struct.Struct(f"{STATE.size}s{self._value_size}s")
        self._news: dict[bytes, bytes] = {}
        self._started = _look_around(dirfd)

    @classmethod
    def load(
        cls, dirfd: int, algorithm: Algorithm, *, verify: bool = False, reporter: Reporter = silent
    ) -> Self:
        """Return the cache of a repository; it is empty if there is no trusted one.

        Args:
            dirfd: The repository's directory, borrowed.
            algorithm: Of the object IDs.
            verify: Read every file all the same, and compare.
            reporter: Told of a cache file that is damaged.
        """
        cache = cls(dirfd, algorithm, verify=verify)
        largest = _HEADER.size + _MAX_RECORDS * cache._record.size + _CHECKSUM_SIZE
        try:
            cache._parse(read_private(dirfd, CACHE_NAME, largest))
        except FileNotFoundError:
            return cache
        except (ScanCacheError, OSError) as error:
            reporter(Message(f"the scan cache is not used: {describe(error)}"))
        return cache

    def needs_refresh(self, value: bytes) -> bool:
        """Return whether a record should be written again to show that it is still in use."""
        return abs(self.today - _day_of(value)) >= _REFRESH_DAYS

    def absorb(self, news: bytes) -> None:
        """Take the records that a worker has made."""
        self._news.update(self._record.iter_unpack(news))

    # Reading

    def _parse(self, data: bytes) -> None:
        """Take ownership of the records of a cache file that may be trusted.

        Raises:
            ScanCacheError: It is damaged.
        """
        if len(data) < _HEADER.size + _CHECKSUM_SIZE:
            raise ScanCacheError(f"too short with {len(data)} bytes", field="header")
        magic, version, number, count, *rest = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ScanCacheError(f"expected the magic {_MAGIC!r}, found {magic!r}", offset=0, field="magic")
        if version != _VERSION or number != self._algorithm.value:
            return  # of another release, or of the repository before it was made again
        end = _HEADER.size + count * self._record.size
        if len(data) != end + _CHECKSUM_SIZE:
            raise ScanCacheError(
                f"expected {end + _CHECKSUM_SIZE} bytes for {count} records, found {len(data)}", field="count"
            )
        body = memoryview(data)
        if hashlib.sha256(body[:end]).digest() != data[end:]:
            raise ScanCacheError("the checksum does not match", offset=end, field="checksum")
        then = _Circumstances(*rest)
        if self._is_believed(then):
            self.records = dict(self._record.iter_unpack(body[_HEADER.size : end]))
            if then.viewer != self._started.viewer:
                self._forget_attributes()

    def _is_believed(self, then: _Circumstances) -> bool:
        """Return whether a cache written under these circumstances is any good now."""
        now = self._started
        return (
            (then.device, then.inode, then.boot_id) == (now.device, now.inode, now.boot_id)
            and now.boot_id != _NO_BOOT
            and now.offset_ns >= then.offset_ns - _CLOCK_TOLERANCE_NS
        )

    def _forget_attributes(self) -> None:
        """Drop what another user may have seen differently."""
        self.records = {
            state: bytes((value[0] & ~IS_PLAIN,)) + value[1:] for state, value in self.records.items()
        }

    # Writing

    def save(self, *, reporter: Reporter = silent) -> bool:
        """Write the cache if there is something new.

        Args:
            reporter: Told of a failure; a cache that cannot be written is not an error.

        Returns:
            Whether it was written.
        """
        if not self._news or not is_private_directory(self._dirfd):
            return False  # In a directory that others can write to it would not be trusted.
        now = _look_around(self._dirfd)
        if now.boot_id == _NO_BOOT or now.offset_ns < self._started.offset_ns - _CLOCK_TOLERANCE_NS:
            return False
        try:
            self._write(self._merge(), now)
        except OSError as error:
            reporter(Message(f"the scan cache was not written: {describe(error)}"))
            return False
        return True

    def _merge(self) -> dict[bytes, bytes]:
        """Return what there was and is, without what has not been used for long."""
        oldest = max(0, self.today - _MAX_UNUSED_DAYS)
        merged = {state: value for state, value in self.records.items() if _day_of(value) >= oldest}
        merged |= self._news
        if len(merged) <= _MAX_RECORDS:
            return merged
        latest = sorted(merged.items(), key=lambda item: _day_of(item[1]))[-_MAX_RECORDS:]
        return dict(latest)

    def _write(self, records: dict[bytes, bytes], now: _Circumstances) -> None:
        header = _HEADER.pack(_MAGIC, _VERSION, self._algorithm.value, len(records), *now)
        body = b"".join([header, *[part for record in records.items() for part in record]])
        with AnonymousFile(self._dirfd) as file:
            write_all(file.fd, body)
            write_all(file.fd, hashlib.sha256(body).digest())
            file.replace(self._dirfd, CACHE_NAME)


def _day_of(value: bytes) -> int:
    return value[1] | value[2] << 8


def _look_around(dirfd: int) -> _Circumstances:
    status = os.fstat(dirfd)
    return _Circumstances(
        _read_boot_id(),
        _describe_viewer(),
        status.st_dev,
        status.st_ino,
        time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    )


def _read_boot_id() -> bytes:
    """Return what changes with every start of the kernel, or zeros where that cannot be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return bytes.fromhex(stream.read().strip().replace("-", ""))[:16].ljust(16, b"\0")
    except (OSError, ValueError):
        return _NO_BOOT


def _describe_viewer() -> bytes:
    """Return what stands for everything that decides which attributes this process can see."""
    parts = [str(os.geteuid())]
    try:
        parts.append(os.readlink("/proc/self/ns/user"))
        with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
            parts += [line.strip() for line in stream if line.startswith("CapEff:")]
    except OSError as error:
        parts.append(errno.errorcode.get(error.errno or 0, "?"))
    return hashlib.sha256(" ".join(parts).encode()).digest()[:16]
