"""Content that shares its blocks with the file it comes from, where the file system can (Btrfs, XFS).

It then takes no space next to an OSTree repository in one of the bare modes. What is verified is the clone:
whoever can write to the source may do so at any time.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

from cfsctl.fsverity.merkle import Hasher
from cfsctl.linux.ioctls import try_clone
from cfsctl.ostree.content.stream import THREADED_BYTES, ImportedFile, check_content, fail
from cfsctl.workers import BackgroundWriter

if TYPE_CHECKING:
    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.content.file_import import FileImporter
    from cfsctl.ostree.objects import FileHeader

_READ_BYTES: Final = 1 << 17


def import_reflink(
    importer: FileImporter, checksum: Checksum, header_data: bytes, header: FileHeader, source: int
) -> ImportedFile | None:
    """Verify and store a file as a clone of an open one.

    Args:
        importer: Where it goes.
        checksum: Its name.
        header_data: The header that an archive repository would have.
        header: The same, parsed.
        source: The open file that has the content, borrowed.

    Returns:
        None if blocks cannot be shared; nothing has been stored then.

    Raises:
        OstreeObjectError: The content has another size than the header claims.
        ReceivedDigestError: Another file than the checksum says.
        OSError: As read(2), or the clone could not be stored.
    """
    with importer.objects.begin() as file:
        if not try_clone(file.fd, source):
            return None
        size = os.fstat(file.fd).st_size
        if size != header.size_bytes:
            fail(checksum, f"{header.size_bytes} bytes of content", str(size))
        object_id = _verify(importer, checksum, header, file.fd)
        stored = importer.objects.publish(file, object_id, size)
    importer.received_bytes += size
    importer.count(stored)
    return ImportedFile(checksum, header_data, object_id)


def _verify(importer: FileImporter, checksum: Checksum, header: FileHeader, fd: int) -> ObjectID:
    """Return the object ID of an open file, which is what its checksum says."""
    content = hashlib.sha256(header.regular_header)
    hasher = Hasher(importer.objects.algorithm)
    background = BackgroundWriter(hasher.update) if header.size_bytes >= THREADED_BYTES else None
    update = hasher.update if background is None else background.write
    try:
        position = 0
        while chunk := os.pread(fd, _READ_BYTES, position):
            update(chunk)
            content.update(chunk)
            position += len(chunk)
    finally:
        if background is not None:
            background.finish()
    check_content(checksum, content.digest())
    return hasher.digest()
