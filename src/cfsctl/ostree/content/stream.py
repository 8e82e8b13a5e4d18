"""Import the content of one file: it becomes visible only after it was verified.

    plain content ─▶ SHA-256 after the regular header
                 └─▶ above the inline limit: an object, see `cfsctl.repository.objects.ingest`

Memory is constant.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cfsctl.ostree.content.target import ImportedFile, check_content, fail
from cfsctl.repository.objects.ingest import ContentIngest

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.digest import Checksum
    from cfsctl.ostree.content.target import ImportTarget
    from cfsctl.ostree.objects import FileHeader


class ContentStream:
    """Verifies and stores plain content that comes in pieces.

    Attributes:
        size: Bytes taken so far, never more than the header claims.
    """

    def __init__(
        self, target: ImportTarget, checksum: Checksum, header_data: bytes, header: FileHeader
    ) -> None:
        """Start with the header; the content follows in `write`."""
        self.size = 0
        self._target = target
        self._checksum = checksum
        self._header_data = header_data
        self._header = header
        self._hash = hashlib.sha256(header.regular_header)
        self._inline: list[bytes] = []
        self._ingest: ContentIngest | None = None
        self._output: Callable[[bytes], object] = self._inline.append
        if header.size_bytes > target.inline_limit:
            self._ingest = ContentIngest(target.objects, header.size_bytes, may_thread=True)
            self._output = self._ingest.write

    def write(self, content: bytes) -> None:
        """Process the next bytes, of which there may not be more than the header claims.

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
        if self._ingest is None:
            return ImportedFile(self._checksum, self._header_data + b"".join(self._inline), None)
        stored = self._ingest.finish()
        self._target.count(stored)
        return ImportedFile(self._checksum, self._header_data, stored.object_id)

    def abort(self) -> None:
        """Release everything; may be called again."""
        if self._ingest is not None:
            self._ingest.abort()
