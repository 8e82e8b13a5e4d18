"""Cache of fetched documents, for conditional requests.

    DIRECTORY/<SHA-256 of the URL>    JSON (version, URL, ETag, Last-Modified, SHA-256), newline, document

An entry is used only for the URL that it contains, including user name and port, and only if its checksum is
right, so that data of one server is never used for another. It is trusted only if no other user can have
written it (`cfsctl.linux.private_files`). A cache that cannot be written is not an error.

A document is only stored if any later version can be distinguished from it: by a strong entity tag, or by a
date that was in the past when the server answered. Entries of version 1 are ignored, since this was not
checked for them.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from cfsctl.errors import describe
from cfsctl.linux.files import AnonymousFile, write_all
from cfsctl.linux.flags import DIRECTORY_FLAGS
from cfsctl.linux.private_files import NotPrivateError, check_private_directory, read_private
from cfsctl.progress import Message, silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.http.fetcher import Response
    from cfsctl.progress import Reporter

MAX_HEAD_BYTES: Final = 16 << 10
"""Bytes of an entry before the document; longer header fields are not kept."""


_VERSION: Final = 2

DAMAGE: Final = (OSError, ValueError, KeyError, TypeError, RecursionError)
"""What reading an entry that is missing or damaged raises."""


class CachedDocument(NamedTuple):
    """A document that was fetched before.

    Attributes:
        read: Returns the document, or None if it is there no more.
        etag: What the server called this version, or None.
        last_modified: When it says that it was made, or None.
    """

    read: Callable[[], bytes | None]
    etag: str | None
    last_modified: str | None

    def conditions(self) -> dict[str, str]:
        """Return the header fields that ask for anything else than this version."""
        if self.etag is not None:
            return {"If-None-Match": self.etag}
        return {} if self.last_modified is None else {"If-Modified-Since": self.last_modified}


class DocumentCache:
    """Documents in a directory, which is made when it is first needed; each kind has its own."""

    def __init__(self, directory: str, what: str, limit_bytes: int, reporter: Reporter = silent) -> None:
        """Name the directory.

        Args:
            directory: Where the documents are.
            what: What messages call the cache.
            limit_bytes: Bytes of a document at most.
            reporter: Told if other users can write there, because the cache is then not used.
        """
        self._directory = directory
        self._what = what
        self._limit_bytes = limit_bytes
        self._report = reporter
        self._is_explained = False

    def find(self, url: str) -> CachedDocument | None:
        """Return the document that a URL had, or None; what is damaged counts as absent."""
        found = self._load(url)
        # The document is read again when it is needed: it may be large, and so may be its successor.
        return found and CachedDocument(lambda: self._read_body(url), *found[0])

    def _read_body(self, url: str) -> bytes | None:
        found = self._load(url)
        return found and bytes(found[1])

    def _load(self, url: str) -> tuple[list[str | None], memoryview] | None:
        """Return the fields of an entry and the document, or None if it is missing or damaged."""
        try:
            data = self.read(file_name(url), self._limit_bytes + MAX_HEAD_BYTES)
            end = data.index(b"\n")
            entry = json.loads(data[:end])
            body = memoryview(data)[end + 1 :]
            known = (entry["version"], entry["url"], entry["sha256"])
            if known != (_VERSION, identify(url), hashlib.sha256(body).hexdigest()):
                return None
            fields = [entry[name] for name in ("etag", "last_modified")]
        except DAMAGE:
            return None
        if not all(field is None or (isinstance(field, str) and field.isprintable()) for field in fields):
            return None
        return fields, body

    def save(self, url: str, response: Response) -> None:
        """Keep an answer, if the server can be asked for any other one the next time."""
        from cfsctl.http.freshness import can_be_told_apart  # most documents are still the same

        if not can_be_told_apart(response, self.find_time_made(response.body)):
            return
        head = json.dumps(
            {
                "version": _VERSION,
                "url": identify(url),
                "etag": response.etag,
                "last_modified": response.last_modified,
                "sha256": hashlib.sha256(response.body).hexdigest(),
            }
        ).encode()
        if len(head) < MAX_HEAD_BYTES:
            self.write(file_name(url), head + b"\n", response.body)

    def find_time_made(self, _body: bytes) -> int | None:
        """Return when a document says that it was made, in seconds since 1970, or None."""
        return None

    def read(self, name: str, limit_bytes: int) -> bytes:
        """Return a file of the directory.

        Raises:
            OSError: It is missing, too large, or may be another user's.
        """
        dirfd = os.open(self._directory, DIRECTORY_FLAGS)
        try:
            return read_private(dirfd, name, limit_bytes)
        except NotPrivateError as error:
            self._explain(error)
            raise
        finally:
            os.close(dirfd)

    def write(self, name: str, *pieces: bytes) -> None:
        """Write a file into the directory, if possible."""
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            dirfd = os.open(self._directory, DIRECTORY_FLAGS)
        except OSError:
            return
        try:
            check_private_directory(dirfd, self._directory)
            with AnonymousFile(dirfd, 0o600) as file:
                for piece in pieces:
                    write_all(file.fd, piece)
                file.replace(dirfd, name)
        except NotPrivateError as error:
            self._explain(error)
        except OSError:
            return
        finally:
            os.close(dirfd)

    def _explain(self, error: NotPrivateError) -> None:
        """Report once why the cache is not used."""
        if not self._is_explained:
            self._is_explained = True
            self._report(Message(f"the {self._what} {self._directory} is not used: {describe(error)}"))


def identify(url: str) -> str:
    """Return what an entry is for: the URL with its user name, but without password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    return parts._replace(netloc=user + host).geturl()


def file_name(url: str) -> str:
    """Return the name of the file of an entry."""
    return hashlib.sha256(identify(url).encode()).hexdigest()
