"""Import content objects from the plain output of a delta program.

The guarantees are those of `cfsctl.ostree.content.file_import`, but the input is uncompressed: the
checksum covers header and content, the size is the one announced, and nothing is allocated for it in advance.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from cfsctl.errors import ReceivedDigestError
from cfsctl.ostree.content.target import ImportedFile, inline_limit
from cfsctl.ostree.delta.format import fail
from cfsctl.ostree.objects import format_regular_header, format_zlib_header

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Xattrs
    from cfsctl.repository.objects.store import ObjectStore, ObjectWriter

_MEMORY_BYTES: Final = 1 << 20
"""Files up to this size are held in memory until they are complete."""


class FileOutput:
    """One regular file or symbolic link under construction."""

    def __init__(
        self,
        objects: ObjectStore,
        checksum: Checksum,
        attributes: tuple[int, int, int],
        xattrs: Xattrs,
        size_bytes: int,
        target: bytes = b"",
    ) -> None:
        """Begin with everything but the content.

        Args:
            objects: Where content goes.
            checksum: What the file must be.
            attributes: Owner, group, and mode with type bits.
            xattrs: Extended attributes.
            size_bytes: Size of the content, 0 for a symbolic link.
            target: Target of a symbolic link.

        Raises:
            OstreeObjectError: No file has such attributes.
        """
        self._objects = objects
        self._checksum = checksum
        self._header = format_zlib_header(size_bytes, *attributes, target, xattrs)
        self._hash = hashlib.sha256(format_regular_header(*attributes, target, xattrs))
        self._left = size_bytes
        self._is_inline = size_bytes <= inline_limit(objects.algorithm)
        self._pieces: list[bytes] = []
        self._writer: ObjectWriter | None = None
        self.size_bytes = size_bytes
        if size_bytes > _MEMORY_BYTES:
            self._writer = objects.create()

    @property
    def left_bytes(self) -> int:
        """How much content is still to come."""
        return self._left

    def write(self, data: bytes) -> None:
        """Process the next bytes of the content.

        Raises:
            DeltaError: More than announced.
            OSError: As write(2).
        """
        self._left -= len(data)
        if self._left < 0:
            fail(f"file object {self._checksum.hex()}", f"{self.size_bytes} bytes of content", "more")
        self._hash.update(data)
        if self._writer is not None:
            self._writer.write(data)
        else:
            self._pieces.append(data)

    def finish(self) -> ImportedFile:
        """Return the file, after its last byte.

        Raises:
            DeltaError: Less than announced.
            ReceivedDigestError: Another file than it should be.
            OSError: It could not be stored.
        """
        name = f"file object {self._checksum.hex()}"
        if self._left:
            fail(name, f"{self.size_bytes} bytes of content", self.size_bytes - self._left)
        actual = self._hash.digest()
        if actual != self._checksum:
            raise ReceivedDigestError(name, expected=self._checksum.hex(), actual=actual.hex())
        if self._writer is not None:
            stored = self._writer.commit()
            return ImportedFile(self._checksum, self._header, stored.object_id)
        content = b"".join(self._pieces)
        if self._is_inline:
            return ImportedFile(self._checksum, self._header + content, None)
        return ImportedFile(self._checksum, self._header, self._objects.ensure_bytes(content).object_id)

    def abort(self) -> None:
        """Release everything; may be called again."""
        self._pieces.clear()
        if self._writer is not None:
            self._writer.abort()
