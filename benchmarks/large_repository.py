"""Makes a repository of as many objects as asked for, for measuring what grows with them.

    python -m benchmarks.large_repository DIR [--objects 1000000] [--refs 2000]

A quarter of the refs are images, a quarter plain streams, and half tags of OSTree commits. Each names objects
of its own and those of the ref before it, so that every object is named twice. Images, streams and commits
are real; the objects that they name are empty files, whose content is not that of their names. Nothing but a
check of contents reads them, so everything else works as on a real repository: `fsck --metadata-only` too.

A file system needs an inode for each object, and ext4 has one for 16 KiB as a rule: `mkfs.ext4 -N 11000000`.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cfsctl.digest import Checksum, ObjectID
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.ostree.objects import (
    Commit,
    Dirmeta,
    format_commit,
    format_dirmeta,
    format_dirtree,
    format_zlib_header,
)
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.repository import Repository, init_repository
from cfsctl.repository.gc.sweep import FAN_OUT
from cfsctl.repository.names.names import object_link_text, ref_link_text
from cfsctl.splitstream import SplitstreamWriter
from cfsctl.tree.model import Directory, ExternalFile, FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE: Final = 1000
"""What images, streams and commits say that each object has, in bytes."""

_PLAIN: Final = 1
"""Content type of streams that are of no known kind."""

_FILES_OF_A_DIRECTORY: Final = 100
_FILE: Final = stat.S_IFREG | 0o644
_KINDS: Final = ("image", "stream", "commit", "commit")


def object_number(number: int) -> ObjectID:
    """Return the name of one of the objects."""
    return ObjectID(hashlib.sha512(b"%d" % number).digest())


def make_large_repository(path: Path, objects: int, refs: int, workers: int = 4) -> None:
    """Make the repository; its directory must not exist."""
    init_repository(str(path), insecure=True)
    for fan_out in FAN_OUT:
        (path / "objects" / fan_out).mkdir(parents=True, exist_ok=True)
    run_all([functools.partial(make_objects, path, part) for part in _split(objects, workers)])
    run_all([functools.partial(_write_names, path, part, objects, refs) for part in _split(refs, workers)])
    with Repository.open(str(path)) as repository:
        repository.sync()


def _split(count: int, parts: int) -> list[range]:
    step = -(-count // parts)
    return [range(start, min(start + step, count)) for start in range(0, count, step)]


def run_all(jobs: list[Callable[[], None]]) -> None:
    """Run each job in a process of its own."""
    children = []
    for job in jobs:
        child = os.fork()
        if not child:
            status = 1
            try:
                job()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    if any([os.waitpid(child, 0)[1] for child in children]):  # noqa: C419 - waits for all of them
        raise SystemExit("not all could be made: is there room, and are there inodes?")


def make_objects(path: Path, numbers: range) -> None:
    """Make empty objects."""
    directories = [os.open(path / "objects" / fan_out, os.O_PATH) for fan_out in FAN_OUT]
    for number in numbers:
        object_id = object_number(number)
        os.mknod(object_id[1:].hex(), _FILE, dir_fd=directories[object_id[0]])


def _write_names(path: Path, indices: range, objects: int, refs: int) -> None:
    """Write what some of the refs name; each has so many objects of its own, the last one also the rest."""
    share = objects // refs
    with Repository.open(str(path)) as repository:
        for index in indices:
            last = objects if index == refs - 1 else (index + 1) * share
            own = [object_number(number) for number in range(max(0, index - 1) * share, last)]
            _write_one(path, repository, index, own)


def _write_one(path: Path, repository: Repository, index: int, object_ids: list[ObjectID]) -> None:
    kind = _KINDS[index % len(_KINDS)]
    if kind == "image":
        image = build_image(_make_tree(object_ids), FormatVersion.V1)
        image_id = repository.objects.ensure_bytes(image).object_id
        _link(path, "images", image_id.hex(), image_id, f"image-{index}")
    elif kind == "stream":
        with SplitstreamWriter(repository.objects, repository.algorithm, _PLAIN) as writer:
            for object_id in object_ids:
                writer.write_external(object_id, SIZE)
            stream_id = writer.finish()
        _link(path, "streams", f"stream-{index}", stream_id, f"stream-{index}")
    else:
        _write_commit(path, repository, index, object_ids)


def _make_tree(object_ids: list[ObjectID]) -> FileSystem:
    root = Directory(0o755)
    for start in range(0, len(object_ids), _FILES_OF_A_DIRECTORY):
        directory = root.entries[b"d%07d" % start] = Directory(0o755)
        for number, object_id in enumerate(object_ids[start : start + _FILES_OF_A_DIRECTORY]):
            directory.entries[b"f%03d" % number] = ExternalFile(object_id, SIZE, 0o644)
    return FileSystem(root)


def _write_commit(path: Path, repository: Repository, index: int, object_ids: list[ObjectID]) -> None:
    stored: dict[Checksum, tuple[bytes, ObjectID | None]] = {}

    def add(data: bytes) -> Checksum:
        checksum = Checksum(hashlib.sha256(data).digest())
        stored[checksum] = (data, None)
        return checksum

    header = format_zlib_header(SIZE, 0, 0, _FILE)
    dirmeta = add(format_dirmeta(Dirmeta(0, 0, stat.S_IFDIR | 0o755, ())))
    dirs = []
    for start in range(0, len(object_ids), _FILES_OF_A_DIRECTORY):
        files = []
        for number, object_id in enumerate(object_ids[start : start + _FILES_OF_A_DIRECTORY]):
            checksum = Checksum(object_id[:32])
            stored[checksum] = (header, object_id)
            files.append((b"f%03d" % number, checksum))
        dirs.append((b"d%07d" % start, add(format_dirtree(files, [])), dirmeta))
    root = add(format_dirtree([], dirs))
    commit = add(format_commit(Commit((), None, f"number {index}", "", index, root, dirmeta)))
    stream_id = write_commit_stream(repository.objects, repository.algorithm, commit, stored)
    _link(path, "streams", f"ostree-commit-{commit.hex()}", stream_id, f"ostree/commit-{index}")


def _link(path: Path, category: str, entry: str, object_id: ObjectID, ref: str) -> None:
    """Name an object as the repository does, without waiting for the disk each time."""
    place = path / category / "refs" / ref
    place.parent.mkdir(parents=True, exist_ok=True)
    (path / category / entry).symlink_to(object_link_text(object_id))
    place.symlink_to(ref_link_text(ref, entry))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, metavar="DIR")
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--refs", type=int, default=2000)
    arguments = parser.parse_args()
    start = time.perf_counter()
    make_large_repository(arguments.path, arguments.objects, arguments.refs)
    print(f"{arguments.path}: {arguments.objects} objects made in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
