"""Content that shares its blocks with the file it comes from, where the file system can (Btrfs, XFS).

It then takes no space next to an OSTree repository in one of the bare modes.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from cfsctl.ostree.content.target import ImportedFile, check_content, fail
from cfsctl.repository.objects.ingest import WrongSizeError, ingest_clone

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.content.target import ImportTarget
    from cfsctl.ostree.objects import FileHeader


def import_reflink(
    target: ImportTarget, checksum: Checksum, header_data: bytes, header: FileHeader, source: int
) -> ImportedFile | None:
    """Verify and store a file as a clone of an open one.

    Args:
        target: Where it goes.
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
    content = hashlib.sha256(header.regular_header)

    def confirm() -> None:
        check_content(checksum, content.digest())

    try:
        stored = ingest_clone(target.objects, source, header.size_bytes, content.update, confirm)
    except WrongSizeError as error:
        found = str(os.fstat(source).st_size)
        fail(checksum, f"{header.size_bytes} bytes of content", found, cause=error)
    if stored is None:
        return None
    target.received_bytes += stored.size
    target.count(stored)
    return ImportedFile(checksum, header_data, stored.object_id)
