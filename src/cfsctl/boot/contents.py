"""Contents of files of a tree whose objects are in a repository, verified while they are read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.boot.content import BootFileError
from cfsctl.boot.directory import NewFile
from cfsctl.digest import qualified
from cfsctl.errors import DigestMismatchError
from cfsctl.fsverity.merkle import Hasher, compute_digest
from cfsctl.tree.model import ExternalFile, InlineFile, SparseFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.boot.content import ContentReader
    from cfsctl.boot.plan import PlannedFile
    from cfsctl.digest import ObjectID
    from cfsctl.repository import Repository
    from cfsctl.tree.model import Leaf

_PIECE_BYTES: Final = 1 << 20
_ZEROS: Final = bytes(_PIECE_BYTES)


def content_reader(repository: Repository) -> ContentReader:
    """Return what reads files of a tree whose objects are in a repository."""

    def read(_path: bytes, node: ExternalFile) -> bytes:
        content = repository.objects.read(node.object_id)
        if not repository.is_secure:
            # In a secure repository the kernel has checked every byte.
            _check(node.object_id, compute_digest(content, repository.algorithm))
        return content

    return read


def _check(expected: ObjectID, actual: ObjectID) -> None:
    if actual != expected:
        raise DigestMismatchError(
            f"object {qualified(expected)}",
            expected=expected.hex(),
            actual=actual.hex(),
            hint="run `cfsctl fsck --deep`, and restore it with `cfsctl fsck --repair`",
        )


def new_file(repository: Repository, planned: PlannedFile) -> NewFile:
    """Return a planned file with its content.

    Raises:
        BootFileError: It is not a regular file.
    """
    content = planned.content
    if isinstance(content, bytes):
        return NewFile(planned.path, len(content), lambda: (content,))
    node = content.node
    return NewFile(planned.path, size_of(node), lambda: iter_content(repository, node))


def size_of(node: Leaf) -> int:
    """Return the size of a regular file.

    Raises:
        BootFileError: It is none.
    """
    match node:
        case InlineFile(data=data):
            return len(data)
        case ExternalFile(size=size) | SparseFile(size=size):
            return size
        case _:
            raise BootFileError("a boot entry needs a regular file")


def iter_content(repository: Repository, node: Leaf) -> Iterator[bytes]:
    """Yield the content of a regular file in pieces; after the last one it is known to be right.

    Raises:
        DigestMismatchError: It is not what its name says.
        ObjectMissingError: It is missing.
    """
    if isinstance(node, InlineFile):
        yield node.data
    elif isinstance(node, ExternalFile):
        yield from _iter_object(repository, node.object_id)
    elif isinstance(node, SparseFile):
        left = node.size
        while left > 0:
            yield _ZEROS[:left]
            left -= len(_ZEROS)


def _iter_object(repository: Repository, object_id: ObjectID) -> Iterator[bytes]:
    fd = repository.objects.open(object_id)
    try:
        hasher = None if repository.is_secure else Hasher(repository.algorithm)
        while piece := os.read(fd, _PIECE_BYTES):
            if hasher is not None:
                hasher.update(piece)
            yield piece
        if hasher is not None:
            _check(object_id, hasher.digest())
    finally:
        os.close(fd)
