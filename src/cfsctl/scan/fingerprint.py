"""A digest of everything that a scan has found.

Two scans have the same fingerprint only if they found the same: paths, metadata, attributes, link targets,
small content, object IDs, and which names are hard links of each other. Walkers digest each directory that
they list; the digests are sorted, so it does not matter which walker listed what.
"""

from __future__ import annotations

import hashlib
import marshal
from typing import TYPE_CHECKING, Final

from cfsctl.scan.records import EXTERNAL
from cfsctl.tree.model import Directory, ExternalFile

if TYPE_CHECKING:
    from cfsctl.scan.records import Entry, ListedDirectory

_ENCODING: Final = 2
"""A version of marshal that writes values only, not which of them are one object. Equal values give equal
bytes; different values give different bytes, since they can be read again."""


def digest_directory(path: bytes, listed: ListedDirectory, entries: list[Entry] | None = None) -> bytes:
    """Return a digest of a directory and of its entries that are not directories.

    Args:
        path: Of the directory, below the root.
        listed: What was found.
        entries: Replaces its entries.
    """
    found = listed.entries if entries is None else entries
    metadata = (listed.mode, listed.uid, listed.gid, listed.mtime_ns, listed.xattrs)
    return hashlib.sha256(marshal.dumps((path, metadata, found), _ENCODING)).digest()


class Fingerprint:
    """Collects the digests of a scan's directories."""

    def __init__(self) -> None:
        """Start without any."""
        self._digests: list[bytes] = []
        self._unread: list[tuple[ListedDirectory, Directory]] = []

    def add(self, digest: bytes) -> None:
        """Take the digest of a directory whose files have been read."""
        self._digests.append(digest)

    def add_later(self, listed: ListedDirectory, directory: Directory) -> None:
        """Take a directory with files that are still to be read, whose object IDs its node will have."""
        self._unread.append((listed, directory))

    def complete(self) -> None:
        """Digest the directories that were added for later; all files have been read."""
        for listed, directory in self._unread:
            entries = [_fill_in(entry, directory) for entry in listed.entries]
            self._digests.append(digest_directory(listed.unread[0].directory, listed, entries))
        self._unread.clear()

    def digest(self) -> bytes:
        """Return the fingerprint; the scan has ended."""
        return hashlib.sha256(b"".join(sorted(self._digests))).digest()


def _fill_in(entry: Entry, directory: Directory) -> Entry:
    """Return an entry with the object ID that is known by now."""
    if entry[0] != EXTERNAL or entry[8]:
        return entry
    leaf = directory.entries[entry[1]]
    assert isinstance(leaf, ExternalFile)
    return (*entry[:8], leaf.object_id, entry[9])
