"""Cache of fetched summaries, for conditional requests.

    DIRECTORY/<SHA-256 of the URL>    a line of JSON (version, URL, ETag, Last-Modified, SHA-256), the summary
    DIRECTORY/<SHA-256 of the URL>.time    JSON: URL, and when the latest verified summary was made, seconds

An entry is used only for the URL that it contains, including user name and port, and only if its checksum is
right, so that data of one server is never used for another. It is trusted only if no other user can have
written it (`cfsctl.linux.private_files`). A cache that cannot be written is not an error.

A summary is only stored if any later version can be distinguished from it: by a strong entity tag, or by a
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
from cfsctl.http.freshness import can_be_told_apart
from cfsctl.linux.files import AnonymousFile, write_all
from cfsctl.linux.private_files import NotPrivateError, check_private_directory, read_private
from cfsctl.ostree.summary.format import MAX_SUMMARY_SIZE, find_time_made
from cfsctl.progress import Message, silent

if TYPE_CHECKING:
    from cfsctl.http.fetcher import Response
    from cfsctl.progress import Reporter

_MAX_HEAD_BYTES: Final = 16 << 10
"""Bytes of an entry before the summary; longer header fields are not kept."""

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_VERSION: Final = 2

_TIME_SUFFIX: Final = ".time"

_DAMAGE: Final = (OSError, ValueError, KeyError, TypeError, RecursionError)
"""What reading an entry that is missing or damaged raises."""


class CachedSummary(NamedTuple):
    """A summary that was fetched before.

    Attributes:
        body: The summary.
        etag: What the server called this version, or None.
        last_modified: When it says that it was made, or None.
    """

    body: bytes
    etag: str | None
    last_modified: str | None

    def conditions(self) -> dict[str, str]:
        """Return the header fields that ask for anything else than this version."""
        if self.etag is not None:
            return {"If-None-Match": self.etag}
        return {} if self.last_modified is None else {"If-Modified-Since": self.last_modified}


class SummaryCache:
    """Summaries in a directory, which is made when it is first needed."""

    def __init__(self, directory: str, reporter: Reporter = silent) -> None:
        """Name the directory.

        Args:
            directory: Where the summaries are.
            reporter: Told if other users can write there, because the cache is then not used.
        """
        self._directory = directory
        self._report = reporter
        self._is_explained = False

    def find(self, url: str) -> CachedSummary | None:
        """Return the summary that a URL had, or None; what is damaged counts as absent."""
        try:
            data = self._read(_file_name(url), MAX_SUMMARY_SIZE + _MAX_HEAD_BYTES)
            head, _, body = data.partition(b"\n")
            entry = json.loads(head)
            known = (entry["version"], entry["url"], entry["sha256"])
            if known != (_VERSION, _identify(url), hashlib.sha256(body).hexdigest()):
                return None
            fields = [entry[name] for name in ("etag", "last_modified")]
        except _DAMAGE:
            return None
        if not all(field is None or (isinstance(field, str) and field.isprintable()) for field in fields):
            return None
        return CachedSummary(body, *fields)

    def save(self, url: str, response: Response) -> None:
        """Keep an answer, if the server can be asked for any other one the next time."""
        if not can_be_told_apart(response, find_time_made(response.body)):
            return
        head = json.dumps(
            {
                "version": _VERSION,
                "url": _identify(url),
                "etag": response.etag,
                "last_modified": response.last_modified,
                "sha256": hashlib.sha256(response.body).hexdigest(),
            }
        ).encode()
        if len(head) < _MAX_HEAD_BYTES:
            self._write(_file_name(url), head + b"\n" + response.body)

    def find_time(self, url: str) -> int | None:
        """Return when the latest verified summary of a URL was made, in seconds since 1970, or None."""
        try:
            entry = json.loads(self._read(_file_name(url) + _TIME_SUFFIX, _MAX_HEAD_BYTES))
            made_s = entry["made_s"] if entry["url"] == _identify(url) else None
        except _DAMAGE:
            return None
        return made_s if isinstance(made_s, int) and made_s >= 0 else None

    def save_time(self, url: str, made_s: int) -> None:
        """Keep when a verified summary was made, in place of what was kept before."""
        entry = {"url": _identify(url), "made_s": made_s}
        self._write(_file_name(url) + _TIME_SUFFIX, json.dumps(entry).encode())

    def _read(self, name: str, limit_bytes: int) -> bytes:
        dirfd = os.open(self._directory, _DIRECTORY_FLAGS)
        try:
            return read_private(dirfd, name, limit_bytes)
        except NotPrivateError as error:
            self._explain(error)
            raise
        finally:
            os.close(dirfd)

    def _write(self, name: str, data: bytes) -> None:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            dirfd = os.open(self._directory, _DIRECTORY_FLAGS)
        except OSError:
            return
        try:
            check_private_directory(dirfd, self._directory)
            with AnonymousFile(dirfd, 0o600) as file:
                write_all(file.fd, data)
                file.replace(dirfd, name)
        except NotPrivateError as error:
            self._explain(error)
        except OSError:
            return
        finally:
            os.close(dirfd)

    def _explain(self, error: NotPrivateError) -> None:
        """Say once why the cache is not used: without it an old summary is not recognised as old."""
        if not self._is_explained:
            self._is_explained = True
            self._report(Message(f"the summary cache {self._directory} is not used: {describe(error)}"))


def _identify(url: str) -> str:
    """Return what an entry is for: the URL with its user name, but without password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    return parts._replace(netloc=user + host).geturl()


def _file_name(url: str) -> str:
    return hashlib.sha256(_identify(url).encode()).hexdigest()
