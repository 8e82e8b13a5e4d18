"""The fs-verity digest of a file, computed in constant memory.

Format: linux Documentation/filesystems/fsverity.rst, "Merkle tree" and "fs-verity descriptor"; blocks
of 4096 bytes, no salt. The tree over a file:

    data     [ 4096 ][ 4096 ] ... [ tail + zeros ]        level 0, hashed block by block
    level 1  [ digests of 128 (SHA-256) or 64 (SHA-512) data blocks ] ... [ ... + zeros ]
    level n  one block; its hash is the root
    digest   hash of a descriptor of 256 bytes that holds the data size and the root

Holes of a file are not read; the digest of a range of zeros is computed once for each level.

Where the processor and the installation allow it, vector instructions hash several blocks at once
(`cfsctl.fsverity.lanes`). Otherwise the cost is one call of the hash function per block, so the loops do
nothing else.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.linux.sparse import iter_holes, may_have_holes

if TYPE_CHECKING:
    from collections.abc import Callable

    class _Hash(Protocol):
        def digest(self) -> bytes: ...

    from cfsctl.fsverity.lanes import Lanes

    _HashFunction = Callable[[bytes | bytearray | memoryview], _Hash]
    _BlockHash = Callable[[memoryview, int], bytes]

BLOCK_SIZE: Final = 4096
"""Size of a data block and of a tree block, bytes."""

READ_SIZE: Final = 16 * BLOCK_SIZE
"""Bytes read at a time; larger buffers leave the fast caches and cost a third more."""

_BATCH_SIZE: Final = 3 * READ_SIZE
"""Bytes of small files that are hashed together; a buffer of this size stays in the fast caches."""

_BATCH_FILES: Final = 128
"""Most files that are hashed together; those without data take no room in the buffer."""

_THREADED_BYTES: Final = 32 << 20
"""From this size on it pays to start threads, which takes a millisecond."""

_DESCRIPTOR_HEAD = struct.Struct("<BBBBI")
"""struct fsverity_descriptor: version, hash algorithm, log2 of the block size, salt size, 0; the data
size (64 bits, little-endian) and the root follow, the rest is zero."""

_DESCRIPTOR_SIZE: Final = 256
_ZERO_BLOCK: Final = bytes(BLOCK_SIZE)

_LEVEL_FLUSH_SIZE: Final = 8 * BLOCK_SIZE
"""Bytes of digests that a tree level holds before it is hashed into the next level."""


class _Suite:
    """What depends on the hash algorithm, gathered once, since looking up an enum costs like a small hash."""

    __slots__ = ("_lanes", "_prefix", "_suffix", "_zeros", "digest_size", "function", "hash_blocks")

    def __init__(self, algorithm: Algorithm, function: _HashFunction, lanes: Lanes | None) -> None:
        self.function = function
        self.hash_blocks = _make_block_hash(function, lanes)
        self._lanes = lanes
        self.digest_size = algorithm.digest_size
        self._prefix = _DESCRIPTOR_HEAD.pack(1, algorithm.value, 12, 0, 0)
        self._suffix = bytes(_DESCRIPTOR_SIZE - len(self._prefix) - 8 - self.digest_size)
        self._zeros: list[bytes] = []

    @property
    def has_lanes(self) -> bool:
        """Whether many blocks are hashed in one call, without the interpreter lock."""
        return self._lanes is not None

    def hash_zeros(self, level: int) -> bytes:
        """Return the hash of a block of zeros, or of a tree block above nothing else; 0 is the data."""
        while len(self._zeros) <= level:
            below = self._zeros[-1] if self._zeros else b"\0"
            self._zeros.append(self.function(below * (BLOCK_SIZE // len(below))).digest())
        return self._zeros[level]

    def describe(self, size: int, root: bytes) -> ObjectID:
        """Return the digest of the descriptor: the fs-verity digest."""
        descriptor = self._prefix + size.to_bytes(8, "little") + root + self._suffix
        return ObjectID(self.function(descriptor).digest())

    def describe_empty(self) -> ObjectID:
        """Return the fs-verity digest of no data, whose root is all zero."""
        return self.describe(0, bytes(self.digest_size))

    def describe_short(self, size: int, digests: bytes) -> ObjectID:
        """Return the fs-verity digest, given the digests of all data blocks, one block of them at most."""
        if len(digests) == self.digest_size:
            return self.describe(size, digests)
        return self.describe(size, self.function(digests.ljust(BLOCK_SIZE, b"\0")).digest())

    def digest_files(self, view: memoryview, sizes: list[int]) -> list[ObjectID]:
        """Return the fs-verity digests of small files that are filled up with zeros to whole blocks.

        Args:
            view: The files, one after the other, and nothing else.
            sizes: Their sizes, at most as many blocks as one tree block holds digests of.
        """
        lanes, step = self._lanes, self.digest_size
        if lanes is not None and len(view) >= lanes.min_blocks * BLOCK_SIZE:
            digests = lanes.hash_files(view, sizes)
            return [ObjectID(digests[place : place + step]) for place in range(0, len(digests), step)]
        found = []
        start = 0
        for size in sizes:
            length = -(-size // BLOCK_SIZE) * BLOCK_SIZE
            found.append(self._digest_file(view[start : start + length], size))
            start += length
        return found

    def _digest_file(self, view: memoryview, size: int) -> ObjectID:
        return self.describe_short(size, self.hash_blocks(view, len(view))) if size else self.describe_empty()


_ALGORITHM_SHA256: Final = Algorithm.SHA256
_SUITES: Final[dict[bool, _Suite]] = {}
"""Suites that were asked for, by whether they are for SHA-256."""


def _suite(algorithm: Algorithm) -> _Suite:
    is_sha256 = algorithm is _ALGORITHM_SHA256
    suite = _SUITES.get(is_sha256)
    if suite is None:
        suite = _SUITES[is_sha256] = _make_suite(algorithm)
    return suite


def _make_suite(algorithm: Algorithm) -> _Suite:
    # Loading OpenSSL takes milliseconds, which commands that compute no digest are spared.
    import hashlib

    from cfsctl.fsverity.lanes import find_lanes

    # OpenSSL's constructors, as hashlib exports them; the built-in fallback is 4 to 6 times slower.
    function = hashlib.sha256 if algorithm is _ALGORITHM_SHA256 else hashlib.sha512
    return _Suite(algorithm, function, find_lanes(algorithm))


def _make_block_hash(function: _HashFunction, lanes: Lanes | None) -> _BlockHash:
    """Return what hashes the blocks of a view up to a byte, a multiple of the block size."""
    if lanes is None:
        return lambda view, end: _hash_blocks(function, view, end)
    width, least, run = lanes.width * BLOCK_SIZE, lanes.min_blocks * BLOCK_SIZE, lanes.hash_blocks

    def hash_blocks(view: memoryview, end: int) -> bytes:
        # A few blocks would cost as much as all lanes do, so those go one by one.
        rest = end % width
        whole = end if rest >= least else end - rest
        if not whole:
            return _hash_blocks(function, view, end)
        digests = run(view[:whole])
        return digests if whole == end else digests + _hash_blocks(function, view[whole:], rest)

    return hash_blocks


def compute_digest(data: bytes | bytearray | memoryview, algorithm: Algorithm) -> ObjectID:
    """Return the fs-verity digest of a file with this content."""
    size = len(data)
    suite = _suite(algorithm)
    if 0 < size <= BLOCK_SIZE:
        block = data if size == BLOCK_SIZE else bytes(data) + _ZERO_BLOCK[size:]
        return suite.describe(size, suite.function(block).digest())
    if 0 < size <= READ_SIZE:
        return suite.describe_short(size, _hash_padded(suite, memoryview(data)))
    hasher = Hasher(algorithm)
    hasher.update(data)
    return hasher.digest()


def compute_file_digest(fd: int, algorithm: Algorithm) -> tuple[ObjectID, int]:
    """Return the fs-verity digest and the size in bytes of an open file.

    Reads the whole file, regardless of the descriptor's position, and does not change the position.

    Raises:
        OSError: Reading failed; ESPIPE for a descriptor that cannot be read at an offset.
    """
    return FileDigester(algorithm, may_thread=True).compute(fd)


class _Tree:
    """The levels above the data: takes digests of blocks from left to right, gives the root."""

    __slots__ = ("_digest_size", "_hash_blocks", "_levels", "_suite")

    def __init__(self, suite: _Suite) -> None:
        self._suite = suite
        self._hash_blocks = suite.hash_blocks
        self._digest_size = suite.digest_size
        self._levels: list[bytearray] = [bytearray()]

    def add(self, digests: bytes) -> None:
        """Append digests of data blocks."""
        level = self._levels[0]
        level += digests
        if len(level) > _LEVEL_FLUSH_SIZE:
            self._flush(0)

    def add_zeros(self, count: int, index: int = 0) -> None:
        """Append the digests of so many data blocks of zeros, in steps as few as the tree has levels.

        Args:
            count: How many blocks.
            index: Level that takes their digests; above the first, of tree blocks that stand for them.
        """
        level, digest = self._levels[index], self._suite.hash_zeros(index)
        width = BLOCK_SIZE // self._digest_size
        missing = -(len(level) // self._digest_size) % width
        if count < missing + width:
            level += digest * count
        else:
            level += digest * missing
            above = self._above(index)
            with memoryview(level) as view:
                above += self._hash_blocks(view, len(view))
            level.clear()
            self.add_zeros((count - missing) // width, index + 1)
            level += digest * ((count - missing) % width)
        if len(level) > _LEVEL_FLUSH_SIZE:
            self._flush(index)

    def _above(self, index: int) -> bytearray:
        if index + 1 == len(self._levels):
            self._levels.append(bytearray())
        return self._levels[index + 1]

    def _flush(self, index: int) -> None:
        """Hash the whole blocks of a level into the next one."""
        level = self._levels[index]
        # The last block stays: a level whose only block is all there is must be seen by `root`.
        end = (len(level) - 1) // BLOCK_SIZE * BLOCK_SIZE
        above = self._above(index)
        with memoryview(level) as view:
            above += self._hash_blocks(view, end)
        del level[:end]
        if len(above) > _LEVEL_FLUSH_SIZE:
            self._flush(index + 1)

    def root(self) -> bytes:
        """Return the root hash; at least one digest has been added. The tree is used up."""
        level = bytes(self._levels[0])
        above = self._levels[1:]
        while len(level) > self._digest_size or any(above):
            padded = level.ljust(-(-len(level) // BLOCK_SIZE) * BLOCK_SIZE, b"\0")
            digests = self._hash_blocks(memoryview(padded), len(padded))
            level = bytes(above.pop(0)) + digests if above else digests
        return level


def _hash_blocks(function: _HashFunction, view: memoryview, end: int) -> bytes:
    """Return the digests of the blocks of `view` up to byte `end`, a multiple of the block size."""
    size = BLOCK_SIZE
    return b"".join([function(view[at : at + size]).digest() for at in range(0, end, size)])


def _hash_padded(suite: _Suite, view: memoryview) -> bytes:
    """Return the digests of the blocks of `view`, which is not empty; the last is padded with zeros."""
    end = (len(view) - 1) // BLOCK_SIZE * BLOCK_SIZE
    last = bytes(view[end:]).ljust(BLOCK_SIZE, b"\0")
    return suite.hash_blocks(view, end) + suite.function(last).digest()


class Hasher:
    """Computes the fs-verity digest of data that comes in pieces of any size.

    Attributes:
        algorithm: The hash algorithm.
        size: Bytes taken so far.
    """

    __slots__ = ("_hash", "_suite", "_tail", "_tree", "algorithm", "size")

    def __init__(self, algorithm: Algorithm) -> None:
        """Start with no data."""
        self.algorithm = algorithm
        self.size = 0
        self._suite = _suite(algorithm)
        self._hash = self._suite.function
        self._tree = _Tree(self._suite)
        self._tail = bytearray()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Process the next piece; at most a block of it is kept."""
        length = len(data)
        self.size += length
        tail = self._tail
        if tail or length < BLOCK_SIZE:
            missing = BLOCK_SIZE - len(tail)
            if length < missing:
                tail += data
                return
            view = memoryview(data)
            tail += view[:missing]
            self._tree.add(self._hash(tail).digest())
            tail.clear()
            view = view[missing:]
        else:
            view = memoryview(data)
        self._update_aligned(view)

    def _update_aligned(self, view: memoryview) -> None:
        """Take a piece that starts at a block boundary."""
        end = len(view) // BLOCK_SIZE * BLOCK_SIZE
        hash_blocks = self._suite.hash_blocks
        # In steps, so that the digests of a huge buffer do not pile up.
        for start in range(0, end, READ_SIZE):
            step = min(READ_SIZE, end - start)
            self._tree.add(hash_blocks(view[start : start + step], step))
        if end < len(view):
            self._tail += view[end:]

    def update_zeros(self, count: int) -> None:
        """Take so many zeros, in no time."""
        fill = min(-len(self._tail) % BLOCK_SIZE, count)
        if fill:
            self.update(bytes(fill))
            count -= fill
        self.size += count
        blocks, rest = divmod(count, BLOCK_SIZE)
        self._tree.add_zeros(blocks)
        self._tail += bytes(rest)

    def digest(self) -> ObjectID:
        """Return the digest of all data; no more can be taken afterwards."""
        if not self.size:
            return self._suite.describe_empty()
        if self._tail:
            self._tree.add(self._hash(self._tail.ljust(BLOCK_SIZE, b"\0")).digest())
        return self._suite.describe(self.size, self._tree.root())


class SmallFiles:
    """Computes the digests of small files, many of them together, which is several times as quick.

    Attributes:
        sizes: Bytes of the files that were taken.
    """

    __slots__ = ("_end", "_suite", "_view", "sizes")

    def __init__(self, algorithm: Algorithm) -> None:
        """Make the buffer."""
        self._suite = _suite(algorithm)
        self._view = memoryview(bytearray(_BATCH_SIZE + 1))
        self._end = 0
        self.sizes: list[int] = []

    @property
    def is_full(self) -> bool:
        """Whether `finish` must come before the next file."""
        return self._end > _BATCH_SIZE - READ_SIZE or len(self.sizes) >= _BATCH_FILES

    def take(self, fd: int, size: int = READ_SIZE) -> int:
        """Read a file from its beginning, and take it if it is not larger than `size`.

        Args:
            fd: The file, borrowed.
            size: At most `READ_SIZE`.

        Returns:
            Bytes read; more than `size` if the file is larger, which is not taken then.

        Raises:
            OSError: As pread(2).
        """
        start = self._end
        stop = start + size + 1
        count = more = os.preadv(fd, (self._view[start:stop],), 0)
        while more and count < size:
            more = os.preadv(fd, (self._view[start + count : stop],), count)
            count += more
        if count <= size:
            self._end_file(count)
        return count

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Take the content of a file, at most `READ_SIZE` bytes."""
        self._view[self._end : self._end + len(data)] = data
        self._end_file(len(data))

    def _end_file(self, size: int) -> None:
        """Fill the last block up, and begin the next file behind it."""
        end = self._end + size
        self._end = -(-end // BLOCK_SIZE) * BLOCK_SIZE
        self._view[end : self._end] = _ZERO_BLOCK[: self._end - end]
        self.sizes.append(size)

    def contents(self) -> list[memoryview]:
        """Return the contents of the files that were taken; they stay until `take` or `add`."""
        views = []
        start = 0
        for size in self.sizes:
            views.append(self._view[start : start + size])
            start += -(-size // BLOCK_SIZE) * BLOCK_SIZE
        return views

    def clear(self) -> None:
        """Forget the files that were taken."""
        self.sizes.clear()
        self._end = 0

    def finish(self) -> list[ObjectID]:
        """Return the digests of the files that were taken, in this order, and begin anew."""
        digests = self._suite.digest_files(self._view[: self._end], self.sizes)
        self.clear()
        return digests


class FileDigester:
    """Computes digests of open files one after the other, through one buffer made once."""

    __slots__ = ("_may_thread", "_suite", "_view", "algorithm")

    def __init__(self, algorithm: Algorithm, *, may_thread: bool = False) -> None:
        """Make the buffer.

        Args:
            algorithm: Hash algorithm of the digests.
            may_thread: Whether several threads may read and hash one large file, if there are lanes.
        """
        self.algorithm = algorithm
        self._may_thread = may_thread
        self._suite = _suite(algorithm)
        self._view = memoryview(bytearray(READ_SIZE))

    def compute(self, fd: int, max_bytes: int | None = None) -> tuple[ObjectID, int]:
        """Return the fs-verity digest and the size in bytes of a whole file.

        Args:
            fd: The file, borrowed.
            max_bytes: Stop somewhere after so many bytes, so that a file that never ends is not read for
                ever; the size returned is larger then.

        Raises:
            OSError: Reading failed; ESPIPE for a descriptor that cannot be read at an offset.
        """
        count = self._fill(fd, 0)
        if not count:
            return self._suite.describe_empty(), 0
        if count < READ_SIZE:
            return self._suite.describe_short(count, self._hash_last(count)), count
        return self._compute_long(fd, max_bytes)

    def _compute_long(self, fd: int, max_bytes: int | None) -> tuple[ObjectID, int]:
        """Continue after the first full buffer."""
        tree = _Tree(self._suite)
        status = os.fstat(fd)
        if may_have_holes(status):
            size, is_end = self._add_sparse(tree, fd, status.st_size, max_bytes)
        else:
            tree.add(self._suite.hash_blocks(self._view, READ_SIZE))
            size, is_end = READ_SIZE, False
        if not is_end and max_bytes is None:
            size, is_end = self._add_in_threads(tree, fd, size, status.st_size)
        if not is_end:
            size = self._add_rest(tree, fd, size, max_bytes)
        return self._suite.describe(size, tree.root()), size

    def _add_in_threads(self, tree: _Tree, fd: int, start: int, end: int) -> tuple[int, bool]:
        """Add most of a large file from `start` on; return where that ended, and if nothing follows."""
        if not (self._may_thread and self._suite.has_lanes and end - start >= _THREADED_BYTES):
            return start, False
        # Imported for large files only: it takes longer than hashing most others.
        from cfsctl.fsverity.threaded import CHUNK_BYTES, hash_in_threads
        from cfsctl.workers.threads import thread_count

        count = thread_count()
        if count < 2:
            return start, False
        end -= (end - start) % CHUNK_BYTES
        size = hash_in_threads(fd, start, end, self._suite.hash_blocks, tree.add, count)
        return size, size < end

    def _add_rest(self, tree: _Tree, fd: int, size: int, max_bytes: int | None) -> int:
        """Add what follows the first `size` bytes, a multiple of a block, and return the size of the file."""
        hash_blocks, view = self._suite.hash_blocks, self._view
        count = READ_SIZE
        while count == READ_SIZE:
            count = self._fill(fd, size) if max_bytes is None or size <= max_bytes else 0
            if count == READ_SIZE:
                tree.add(hash_blocks(view, READ_SIZE))
                size += READ_SIZE
        if count:
            tree.add(self._hash_last(count))
        return size + count

    def _add_sparse(self, tree: _Tree, fd: int, end: int, max_bytes: int | None) -> tuple[int, bool]:
        """Add a file up to the end of its last hole without reading any; return that, and if nothing follows.

        The descriptor's position stays what it is.
        """
        position = os.lseek(fd, 0, os.SEEK_CUR)
        size = 0
        try:
            for start, stop in iter_holes(fd, end if max_bytes is None else min(end, max_bytes), READ_SIZE):
                while size < start:
                    count = self._fill(fd, size, min(READ_SIZE, start - size))
                    if count:
                        tree.add(self._hash_last(count))
                    size += count
                    if count < READ_SIZE and size < start:
                        return size, True  # It has become shorter.
                tree.add_zeros(-(-(stop - start) // BLOCK_SIZE))
                size = stop
        finally:
            os.lseek(fd, position, os.SEEK_SET)
        return size, size == end

    def _fill(self, fd: int, position: int, size: int = READ_SIZE) -> int:
        """Fill the buffer from a position of the file, up to the file's end; return bytes held."""
        view = self._view if size == READ_SIZE else self._view[:size]
        count = os.preadv(fd, [view], position)
        more = count
        while more and count < size:
            more = os.preadv(fd, [view[count:]], position + count)
            count += more
        return count

    def _hash_last(self, count: int) -> bytes:
        """Return the digests of the first `count` bytes of the buffer, padded to a whole block."""
        end = -(-count // BLOCK_SIZE) * BLOCK_SIZE
        self._view[count:end] = _ZERO_BLOCK[: end - count]
        return self._suite.hash_blocks(self._view, end)
