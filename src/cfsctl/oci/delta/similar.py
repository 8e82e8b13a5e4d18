"""Files of an image that files of another are likely to be versions of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.oci.tar_diff.format import MAX_PATH_BYTES
from cfsctl.tree.model import Directory, ExternalFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.tree.model import FileSystem

_NUMBER: Final = re.compile(rb"[0-9]+")
_MAX_SIZE_RATIO: Final = 4
"""Files of which one is larger than that, compared with the other, have little in common."""


class BaseFile(NamedTuple):
    """A file of the image that a delta starts from.

    Attributes:
        path: Its path, without a slash at the start.
        object_id: Its content.
        size: Its size in bytes.
    """

    path: bytes
    object_id: ObjectID
    size: int


class BaseFiles:
    """The files of the image that a delta starts from, by content and by name."""

    def __init__(self, filesystem: FileSystem) -> None:
        """Index the tree of the image, as it is after the changes for OCI: only what it has can be opened."""
        self._by_content: dict[ObjectID, BaseFile] = {}
        self._by_path: dict[bytes, BaseFile] = {}
        self._by_name: dict[bytes, list[BaseFile]] = {}
        for file in sorted(_iter_files(filesystem.root)):
            self._by_content.setdefault(file.object_id, file)
            self._by_path[file.path] = file
            for key in _keys(file.path):
                self._by_name.setdefault(key, []).append(file)

    def find_same(self, object_id: ObjectID) -> BaseFile | None:
        """Return a file with this content."""
        return self._by_content.get(object_id)

    def find_similar(self, path: bytes, size: int) -> BaseFile | None:
        """Return a file that this one may be a version of.

        That is one of the same path; or one whose path or name differs in numbers only, as those of libraries
        and kernel modules do, the one of the nearest size.

        Args:
            path: Path of the new file, as an archive has it.
            size: Size of the new file in bytes.
        """
        name = b"/".join(part for part in path.split(b"/") if part not in {b"", b"."})
        if (same := self._by_path.get(name)) is not None:
            return same
        for key in _keys(name):
            found = [file for file in self._by_name.get(key, ()) if _is_near(file.size, size)]
            if found:
                return min(found, key=lambda file: (abs(file.size - size), file.path))
        return None


def _keys(path: bytes) -> tuple[bytes, bytes]:
    """Return path and name without numbers; only the path has a slash."""
    plain = _NUMBER.sub(b"0", path)
    return b"/" + plain, plain.rpartition(b"/")[2]


def _is_near(first: int, second: int) -> bool:
    return max(first, second) <= _MAX_SIZE_RATIO * min(first, second)


def _iter_files(root: Directory) -> Iterator[BaseFile]:
    """Yield the files that patches can name."""
    pending = [(b"", root)]
    while pending:
        prefix, directory = pending.pop()
        for name, node in directory.entries.items():
            path = prefix + name
            if len(path) > MAX_PATH_BYTES:
                continue
            if isinstance(node, Directory):
                pending.append((path + b"/", node))
            elif isinstance(node, ExternalFile) and _is_text(path):
                yield BaseFile(path, node.object_id, node.size)


def _is_text(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False  # other programs take paths in UTF-8 only
    return True
