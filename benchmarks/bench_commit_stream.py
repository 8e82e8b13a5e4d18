"""How fast a commit of 63,000 files is stored, read back and made a tree: seconds, best of five.

    python benchmarks/bench_commit_stream.py

Processor time, so that a busy machine matters less.
"""

from __future__ import annotations

import hashlib
import resource
import stat
import tempfile
import time
from random import Random
from typing import TYPE_CHECKING

from cfsctl.digest import Algorithm, Checksum, ObjectID
from cfsctl.ostree.objects import (
    Commit,
    Dirmeta,
    format_commit,
    format_dirmeta,
    format_dirtree,
    format_regular_header,
    format_zlib_header,
)
from cfsctl.ostree.store.commit_stream import CommitStream
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.repository import Repository, init_repository
from cfsctl.splitstream import SplitstreamReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

_FILES = 63_000
_FILES_OF_A_DIRECTORY = 9
_LABEL = ((b"security.selinux\0", b"system_u:object_r:lib_t:s0\0"),)
_REGULAR = stat.S_IFREG | 0o644
_LINK = stat.S_IFLNK | 0o777

_random = Random(1)
_objects: dict[Checksum, tuple[bytes, ObjectID | None]] = {}


def _add(data: bytes) -> Checksum:
    checksum = Checksum(hashlib.sha256(data).digest())
    _objects[checksum] = (data, None)
    return checksum


def _add_file(number: int) -> Checksum:
    """Add a file: one in ten is small, one in ten a link."""
    if number % 10 == 0:
        content = b"%d" % number
        checksum = Checksum(hashlib.sha256(format_regular_header(0, 0, _REGULAR) + content).digest())
        _objects[checksum] = (format_zlib_header(len(content), 0, 0, _REGULAR) + content, None)
    elif number % 10 == 1:
        target = b"lib%d.so" % number
        checksum = Checksum(hashlib.sha256(format_regular_header(0, 0, _LINK, target)).digest())
        _objects[checksum] = (format_zlib_header(0, 0, 0, _LINK, target), None)
    else:
        checksum = Checksum(_random.randbytes(32))
        header = format_zlib_header(_random.randrange(200, 1 << 20), 0, 0, _REGULAR, b"", _LABEL)
        _objects[checksum] = (header, ObjectID(_random.randbytes(64)))
    return checksum


def _make_commit() -> Checksum:
    dirmeta = _add(format_dirmeta(Dirmeta(0, 0, stat.S_IFDIR | 0o755, _LABEL)))
    dirs = []
    for start in range(0, _FILES, _FILES_OF_A_DIRECTORY):
        files = [(b"file%d" % n, _add_file(n)) for n in range(start, start + _FILES_OF_A_DIRECTORY)]
        dirs.append((b"dir%d" % start, _add(format_dirtree(files, [])), dirmeta))
    root = _add(format_dirtree([], dirs))
    return _add(format_commit(Commit((), None, "", "", 0, root, dirmeta)))


def _best(name: str, action: Callable[[], T]) -> T:
    """Print how long an action takes, and return what it returned last."""
    times = []
    results: list[T] = []
    for _ in range(5):
        results.clear()
        start = time.process_time()
        results.append(action())
        times.append(time.process_time() - start)
    print(f"{name:24}{min(times):8.3f} s")
    return results[0]


def main() -> None:
    """Print all times."""
    commit = _make_commit()
    with tempfile.TemporaryDirectory() as path:
        init_repository(path, insecure=True)
        with Repository.open(path) as repository:
            object_id = _best(
                f"store {len(_objects)} objects",
                lambda: write_commit_stream(repository.objects, Algorithm.SHA512, commit, _objects),
            )

            def read() -> CommitStream:
                with SplitstreamReader(repository.objects.open(object_id), Algorithm.SHA512) as reader:
                    return CommitStream.read(reader, commit)

            stream = _best("read them back", read)
    _best("make a tree of them", lambda: commit_to_filesystem(stream))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
