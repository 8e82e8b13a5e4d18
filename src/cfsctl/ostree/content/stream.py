"""The content of one file on its way into the repository: verified first, visible afterwards.

    plain content ─▶ SHA-256 after the regular header
                 └─▶ above the inline limit: an object, digested for fs-verity while it is written

Memory is constant. Content of a large file is digested and written in a second thread while the first one
hashes it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from cfsctl.errors import ReceivedDigestError
from cfsctl.ostree.objects import OstreeObjectError
from cfsctl.workers import BackgroundWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.content.file_import import FileImporter
    from cfsctl.ostree.objects import FileHeader
    from cfsctl.repository.objects.store import ObjectWriter

THREADED_BYTES: Final = 8 << 20
"""From this plain size on a second thread pays."""


class ImportedFile(NamedTuple):
    """A verified file.

    Attributes:
        checksum: Its name.
        data: Header as stored in an archive repository, followed by the content if that is inline.
        object_id: The object that is the content, or None.
    """

    checksum: Checksum
    data: bytes
    object_id: ObjectID | None


class ContentStream:
    """Verifies and stores plain content that comes in pieces.

    Attributes:
        size: Bytes taken so far, never more than the header claims.
    """

    def __init__(
        self, importer: FileImporter, checksum: Checksum, header_data: bytes, header: FileHeader
    ) -> None:
        """Start with the header; the content follows in `write`."""
        self.size = 0
        self._importer = importer
        self._checksum = checksum
        self._header_data = header_data
        self._header = header
        self._hash = hashlib.sha256(header.regular_header)
        self._inline: list[bytes] = []
        self._writer: ObjectWriter | None = None
        self._background: BackgroundWriter | None = None
        self._output: Callable[[bytes], object] = self._inline.append
        if header.size_bytes > importer.inline_limit:
            self._open_object(header.size_bytes)

    def _open_object(self, size_bytes: int) -> None:
        self._writer = self._importer.objects.create()
        self._output = self._writer.write
        if size_bytes >= THREADED_BYTES:
            self._background = BackgroundWriter(self._writer.write)
            self._output = self._background.write

    def write(self, content: bytes) -> None:
        """Take the next bytes, of which there may not be more than the header claims.

        Raises:
            OstreeObjectError: There are.
        """
        self.size += len(content)
        if self.size > self._header.size_bytes:
            fail(self._checksum, f"{self._header.size_bytes} bytes of content", "more")
        # The other thread begins with this piece while this one hashes it.
        self._output(content)
        self._hash.update(content)

    def finish(self) -> ImportedFile:
        """Return the file, after its last byte.

        Raises:
            OstreeObjectError: The content is not whole.
            ReceivedDigestError: Another file than the checksum says.
        """
        try:
            return self._finish()
        except BaseException:
            self.abort()
            raise

    def _finish(self) -> ImportedFile:
        if self.size != self._header.size_bytes:
            fail(self._checksum, f"{self._header.size_bytes} bytes of content", str(self.size))
        check_content(self._checksum, self._hash.digest())
        if self._background is not None:
            self._background.finish()
        if self._writer is None:
            return ImportedFile(self._checksum, self._header_data + b"".join(self._inline), None)
        stored = self._writer.commit()
        self._importer.count(stored)
        return ImportedFile(self._checksum, self._header_data, stored.object_id)

    def abort(self) -> None:
        """Release everything; harmless when repeated."""
        if self._background is not None:
            self._background.abort()
            self._background = None
        if self._writer is not None:
            self._writer.abort()
            self._writer = None


def file_name(checksum: Checksum) -> str:
    """Return what messages call a file."""
    return f"file object {checksum.hex()}"


def check_content(checksum: Checksum, actual: bytes) -> None:
    """Compare the SHA-256 of header and content with a file's name.

    Raises:
        ReceivedDigestError: It is another one.
    """
    if actual != checksum:
        raise ReceivedDigestError(file_name(checksum), expected=checksum.hex(), actual=actual.hex())


def fail(checksum: Checksum, expected: str, found: str, *, cause: Exception | None = None) -> NoReturn:
    """Raise the error for a file that is not as it should be."""
    raise OstreeObjectError(f"{file_name(checksum)}: expected {expected}, found {found}") from cause
