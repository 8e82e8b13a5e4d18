"""A directory of a tree as a tar archive."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.inspection.contents.reading import unavailable
from cfsctl.oci.tar.write import TreeWriter
from cfsctl.progress import Message
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.model import FileSystem
from cfsctl.tree.walk import iter_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.inspection.contents.reading import ContentReader
    from cfsctl.progress import Reporter
    from cfsctl.tree.model import Directory, ExternalFile


def iter_archive(directory: Directory, reader: ContentReader, reporter: Reporter) -> Iterator[bytes]:
    """Yield the archive in pieces.

    Args:
        directory: What it contains.
        reader: Reads the contents of files.
        reporter: Told of sockets, which no archive can have.

    Raises:
        ContentUnavailableError: A file's content is not in the repository; nothing was yielded.
        TarWriteError: An attribute is too large, or has a name that is not text.
        ObjectMissingError, IntegrityError: An object is missing or damaged.
    """
    filesystem = FileSystem(directory)
    if any(isinstance(node, RedirectedFile) for node in iter_nodes(filesystem)):
        raise unavailable(b"a file")

    def read(file: ExternalFile) -> Iterator[bytes]:
        return reader.iter_content(b"", file)

    writer = TreeWriter(read, is_layer=False)
    yield from writer.write(filesystem)
    for path in writer.skipped:
        reporter(Message(f"{os.fsdecode(path)}: left out, a tar archive cannot have sockets"))
