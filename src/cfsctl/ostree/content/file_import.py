"""Import content objects: ``.filez`` bytes become an object, or a header with inline content.

Guarantees for every imported file:

* The SHA-256 over regular header and content is the file's checksum, and the content has exactly the
  size that the header claims. The checksum does not cover that size, so it is never trusted for more
  than a ceiling: inflating stops one byte after it, and nothing is allocated for it in advance.
* Content above the inline limit is an object of the repository, stored after it was verified.
* A small file is handled in memory in one go; a large one in constant memory, see
  `cfsctl.ostree.content.stream`.

Bytes after the end of the compressed content are refused, which also ends a body without end. A
symbolic link has no body at all; a regular file without content still has an (empty) deflate stream.

Content of repositories in other modes comes plain, with a header made up for it; the same holds for it.

Format: OSTree archive repositories, ``.filez``: sized header, then raw deflate.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NoReturn

from cfsctl import heartbeat
from cfsctl.compression.inflate import Inflate, Inflater, load_inflate
from cfsctl.ostree.content.stream import ContentStream
from cfsctl.ostree.content.target import ImportedFile, ImportTarget, check_content, fail, file_name
from cfsctl.ostree.objects import (
    SIZED_PREFIX,
    FileHeader,
    OstreeObjectError,
    parse_header_length,
    parse_zlib_file_header,
)

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.repository.objects.store import ObjectStore

ONE_SHOT_BYTES: Final = 1 << 20
"""Files up to this size, stored and plain, are handled in memory in one go."""

_SHARED_BYTES: Final = 32 << 10
"""Plain files from this size on are worth the calls that sharing their blocks takes."""

INFLATE_STEP_BYTES: Final = 1 << 18
"""Plain bytes inflated at a time; much larger pieces leave the fast caches."""

_RAW_DEFLATE: Final = -15
"""`wbits` of deflate data without a wrapper, window of 32 KiB."""


class FileImporter(ImportTarget):
    """Imports the files of one worker.

    Attributes:
        may_share: Whether files are not known to be unable to share blocks with where they come from.
    """

    def __init__(self, objects: ObjectStore, inflate: Inflate | None = None) -> None:
        """Import into `objects`; None is the fastest inflate that is installed."""
        super().__init__(objects)
        self.inflate = inflate or load_inflate()
        self.may_share = True

    def open_sink(self, checksum: Checksum) -> FileImportSink:
        """Return a sink for the bytes of one file."""
        return FileImportSink(self, checksum)

    def import_bytes(self, checksum: Checksum, data: bytes) -> ImportedFile:
        """Import a file from complete bytes.

        Raises:
            OstreeObjectError: Not a valid file object.
            DigestMismatchError: Another file than the checksum says.
        """
        header = _parse_header(checksum, data)
        self.received_bytes += len(data)
        header_data = data[: header.length_bytes]
        if header.is_symlink or header.size_bytes <= ONE_SHOT_BYTES:
            return self._import_content(
                checksum, header_data, header, self._read_content(checksum, header, data)
            )
        stream = InflatingStream(self, checksum, header_data, header)
        try:
            stream.write(data[header.length_bytes :])
        except BaseException:
            stream.abort()
            raise
        return stream.finish()

    def import_plain(self, checksum: Checksum, header_data: bytes, content: bytes) -> ImportedFile:
        """Import a file whose content comes as it is.

        Args:
            checksum: Its name.
            header_data: The header that an archive repository would have.
            content: All of the content; none for a symbolic link.

        Raises:
            OstreeObjectError: Not a valid file object.
            DigestMismatchError: Another file than the checksum says.
        """
        header = _parse_header(checksum, header_data)
        self.received_bytes += len(content)
        if len(content) != header.size_bytes:
            fail(checksum, f"{header.size_bytes} bytes of content", str(len(content)))
        return self._import_content(checksum, header_data, header, content)

    def _import_content(
        self, checksum: Checksum, header_data: bytes, header: FileHeader, content: bytes
    ) -> ImportedFile:
        """Verify and store a small file, whose content has the size that the header claims."""
        digest = hashlib.sha256(header.regular_header)
        digest.update(content)
        check_content(checksum, digest.digest())
        if len(content) <= self.inline_limit:
            return ImportedFile(checksum, header_data + content, None)
        stored = self.objects.ensure_bytes(content)
        self.count(stored)
        return ImportedFile(checksum, header_data, stored.object_id)

    def _read_content(self, checksum: Checksum, header: FileHeader, data: bytes) -> bytes:
        """Return the plain content of a small file, which has the size that the header claims."""
        body = memoryview(data)[header.length_bytes :]
        if header.is_symlink:
            if body:
                fail(checksum, "nothing after the header of a symbolic link", f"{len(body)} bytes")
            return b""
        inflater = self.inflate.make(_RAW_DEFLATE)
        try:
            content = inflater.decompress(body, header.size_bytes + 1)
        except self.inflate.error as error:
            fail(checksum, "raw deflate data", str(error), cause=error)
        if len(content) != header.size_bytes or not inflater.eof or inflater.unused_data:
            _refuse_content(checksum, header, len(content), inflater)
        return content


class FileImportSink:
    """Takes one file in pieces; see `cfsctl.ostree.source.FileSink`."""

    __slots__ = ("_checksum", "_chunks", "_held", "_importer", "_plain_header", "_shared", "_stream")

    def __init__(self, importer: FileImporter, checksum: Checksum) -> None:
        """Hold nothing yet."""
        self._importer = importer
        self._checksum = checksum
        self._chunks: list[bytes] = []
        self._held = 0
        self._plain_header: bytes | None = None
        self._shared: ImportedFile | None = None
        self._stream: ContentStream | InflatingStream | None = None

    def begin_plain(self, header: bytes, /) -> None:
        """Take plain content from now on instead of the stored form."""
        self._plain_header = header

    def share(self, fd: int, size_bytes: int, /) -> bool:
        """Take all content from an open file by sharing its blocks; see `ContentSink`.

        Raises:
            OstreeObjectError, DigestMismatchError: As `finish`.
        """
        assert self._plain_header is not None
        if size_bytes < _SHARED_BYTES or not self._importer.may_share:
            return False
        from cfsctl.ostree.content.reflink import import_reflink  # for local repositories only

        header = _parse_header(self._checksum, self._plain_header)
        self._shared = import_reflink(self._importer, self._checksum, self._plain_header, header, fd)
        self._importer.may_share = self._shared is not None
        return self._importer.may_share

    def write(self, chunk: bytes, /) -> None:
        """Process the next bytes.

        Raises:
            OstreeObjectError: Not a valid file object, as far as can be seen yet.
        """
        if self._stream is not None:
            self._importer.received_bytes += len(chunk)
            self._stream.write(chunk)
            heartbeat.beat()
            return
        self._chunks.append(chunk)
        self._held += len(chunk)
        if self._held > ONE_SHOT_BYTES:
            self._start_stream()

    def _start_stream(self) -> None:
        """Switch to processing the file piece by piece, as soon as the header is complete."""
        data = self._join()
        if self._plain_header is not None:
            header = _parse_header(self._checksum, self._plain_header)
            self._stream = ContentStream(self._importer, self._checksum, self._plain_header, header)
        else:
            length = _parse_header_length(self._checksum, data)
            if len(data) < length:
                return
            header = _parse_header(self._checksum, data)
            self._stream = InflatingStream(self._importer, self._checksum, data[:length], header)
            data = data[length:]
        self._importer.received_bytes += self._held
        self._chunks = []
        self._stream.write(data)

    def _join(self) -> bytes:
        if len(self._chunks) != 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0]

    def finish(self) -> ImportedFile:
        """Return the file, after its last byte.

        Raises:
            OstreeObjectError: Not a valid file object.
            DigestMismatchError: Another file than the checksum says.
        """
        if self._shared is not None:
            return self._shared
        if self._stream is not None:
            return self._stream.finish()
        if self._plain_header is not None:
            return self._importer.import_plain(self._checksum, self._plain_header, self._join())
        return self._importer.import_bytes(self._checksum, self._join())

    def abort(self) -> None:
        """Release everything."""
        self._chunks = []
        if self._stream is not None:
            self._stream.abort()


class InflatingStream:
    """Inflates the content of a large file in constant memory, and passes it on to be verified and stored."""

    def __init__(
        self, importer: FileImporter, checksum: Checksum, header_data: bytes, header: FileHeader
    ) -> None:
        """Start with the header; the deflate stream follows in `write`."""
        if header.is_symlink:
            fail(checksum, "nothing after the header of a symbolic link", "more than 1 MiB")
        self._importer = importer
        self._checksum = checksum
        self._header = header
        self._content = ContentStream(importer, checksum, header_data, header)
        self._inflater = importer.inflate.make(_RAW_DEFLATE)

    def write(self, data: bytes) -> None:
        """Process the next bytes of the deflate stream.

        Raises:
            OstreeObjectError: No deflate data, or more content than the header claims.
        """
        inflater = self._inflater
        if inflater.eof and data:
            self._refuse(len(data))
        while data and not inflater.eof:
            self._take(self._decompress(data))
            # After the end zlib may leave here what is in `unused_data` as well.
            data = inflater.unconsumed_tail
        if inflater.unused_data:
            self._refuse()

    def _decompress(self, data: bytes) -> bytes:
        room = min(INFLATE_STEP_BYTES, self._header.size_bytes + 1 - self._content.size)
        try:
            return self._inflater.decompress(data, room)
        except self._importer.inflate.error as error:
            fail(self._checksum, "raw deflate data", str(error), cause=error)

    def _take(self, content: bytes) -> None:
        if content:
            self._content.write(content)

    def _refuse(self, trailing: int = 0) -> NoReturn:
        _refuse_content(self._checksum, self._header, self._content.size, self._inflater, trailing)

    def finish(self) -> ImportedFile:
        """Return the file, after its last byte.

        Raises:
            OstreeObjectError: The content is not whole.
            DigestMismatchError: Another file than the checksum says.
        """
        try:
            while content := self._decompress(b""):  # What did not fit into the last step.
                self._take(content)
            if self._content.size != self._header.size_bytes or not self._inflater.eof:
                self._refuse()
            return self._content.finish()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Release everything; may be called again."""
        self._content.abort()


def _parse_header_length(checksum: Checksum, data: bytes) -> int:
    try:
        return parse_header_length(data[:SIZED_PREFIX])
    except OstreeObjectError as error:
        raise error.about(file_name(checksum)) from error


def _parse_header(checksum: Checksum, data: bytes) -> FileHeader:
    try:
        return parse_zlib_file_header(data)
    except OstreeObjectError as error:
        raise error.about(file_name(checksum)) from error


def _refuse_content(
    checksum: Checksum, header: FileHeader, size: int, inflater: Inflater, trailing: int = 0
) -> NoReturn:
    """Raise the error for content that does not end as it should."""
    expected = f"{header.size_bytes} bytes of content"
    if size > header.size_bytes:
        fail(checksum, expected, "more")
    if not inflater.eof:
        fail(checksum, "the end of the compressed content", f"the end of the object after {size} bytes")
    if size < header.size_bytes:
        fail(checksum, expected, str(size))
    trailing += len(inflater.unused_data)
    fail(checksum, "nothing after the compressed content", f"{trailing} bytes or more")
