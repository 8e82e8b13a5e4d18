"""Hash the blocks of one large file in several threads, in constant memory.

    file     [ chunk ][ chunk ][ chunk ][ chunk ] ...      each taken by the thread that is free
    digests  given on in the order of the file, as soon as all before them are there

This pays where reading and hashing run without the interpreter lock for long, which is with lanes
(`cfsctl.fsverity.lanes`). Files are read, never mapped: one that becomes shorter would kill the process.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from cfsctl.workers.threads import join

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES: Final = 2 << 20
"""What a thread takes at a time; a multiple of a block."""

_READ_BYTES: Final = 1 << 17
"""Each call then takes longer than the threads need to hand the interpreter lock over."""

_AHEAD_BYTES: Final = 32 << 20
"""How far ahead of the first unfinished chunk others may be taken; bounds what is held of their digests."""

_BLOCK_BYTES: Final = 4096
_LEAVE_TIMEOUT_S: Final = 5.0


def hash_in_threads(
    fd: int,
    start: int,
    end: int,
    hash_blocks: Callable[[memoryview, int], bytes],
    add: Callable[[bytes], object],
    count: int,
) -> int:
    """Hash a range of a file, and return where it ended.

    Args:
        fd: The file, borrowed; its position is not used.
        start: First byte, a multiple of a block.
        end: Last byte; a whole number of chunks after `start`.
        hash_blocks: Returns the digests of whole blocks at the beginning of a buffer.
        add: Takes the digests, in the order of the file, from one thread at a time.
        count: Threads, with the calling one.

    Returns:
        `end`; less if the file is shorter. Its last block was filled up with zeros then.

    Raises:
        OSError: As pread(2).
    """
    work = _Work(fd, start, end, hash_blocks, add)
    threads: list[threading.Thread] = []
    try:
        for _ in range(count - 1):
            thread = threading.Thread(target=work.run, name="hashing", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # as many as this user may have; the work is done without it
                break
            threads.append(thread)
        work.run()
    finally:
        work.stop()
        for thread in threads:
            join(thread, _LEAVE_TIMEOUT_S)
    return work.result()


class _Work:
    """What the threads share."""

    def __init__(
        self,
        fd: int,
        start: int,
        end: int,
        hash_blocks: Callable[[memoryview, int], bytes],
        add: Callable[[bytes], object],
    ) -> None:
        self._fd = fd
        self._end = end
        self._hash_blocks = hash_blocks
        self._add = add
        self._changed = threading.Condition()
        self._next = start
        self._done = start
        self._ready: dict[int, tuple[bytes, int]] = {}
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Process chunks until there are none; what goes wrong is raised by `result`."""
        try:
            view = memoryview(bytearray(_READ_BYTES))
            while (position := self._take()) is not None:
                self._give(position, *self._hash(position, view))
        except Exception as error:  # noqa: BLE001 - raised again in the calling thread
            self._failure = self._failure or error
            self.stop()

    def stop(self) -> None:
        """Give out no more chunks."""
        with self._changed:
            self._end = min(self._end, self._next)
            self._next = self._end
            self._changed.notify_all()

    def result(self) -> int:
        """Return the end of what was hashed, or raise what went wrong."""
        if self._failure is not None:
            raise self._failure
        return self._done

    def _take(self) -> int | None:
        """Return where the next chunk starts; waits while too many digests are held."""
        with self._changed:
            while self._next < self._end and self._next - self._done >= _AHEAD_BYTES:
                self._changed.wait()
            if self._next >= self._end:
                return None
            position = self._next
            self._next += CHUNK_BYTES
            return position

    def _hash(self, position: int, view: memoryview) -> tuple[bytes, int]:
        """Return the digests of a chunk, and its bytes, fewer than usual at the end of the file."""
        digests = []
        size = 0
        while size < CHUNK_BYTES:
            wanted = min(_READ_BYTES, CHUNK_BYTES - size)
            count = self._fill(position + size, view[:wanted])
            end = -(-count // _BLOCK_BYTES) * _BLOCK_BYTES
            view[count:end] = bytes(end - count)
            digests.append(self._hash_blocks(view[:end], end))
            size += count
            if count < wanted:
                break
        return b"".join(digests), size

    def _fill(self, position: int, view: memoryview) -> int:
        """Fill a buffer from a position of the file, up to the file's end; return bytes held."""
        count = more = os.preadv(self._fd, [view], position)
        while more and count < len(view):
            more = os.preadv(self._fd, [view[count:]], position + count)
            count += more
        return count

    def _give(self, position: int, digests: bytes, size: int) -> None:
        """Pass digests on, and those that had to wait for them."""
        with self._changed:
            self._ready[position] = digests, size
            while self._done in self._ready:
                digests, size = self._ready.pop(self._done)
                self._add(digests)
                self._done += size
                if size < CHUNK_BYTES:  # what comes after the end was read before the file became shorter
                    self._end = self._next = self._done
                    self._ready.clear()
            self._changed.notify_all()
