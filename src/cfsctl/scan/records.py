"""What a scan's processes tell each other.

Tuples, since they come by the hundred thousand and pickle fastest. A walker visits directories and
reports what is in them; it sends back what it does not get done: directories still to be visited, and
files too large to be read on the way. The scanning process owns the tree and hands that work out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.scan.directories import Identity
    from cfsctl.scan.files import State

INLINE: Final = 0
EXTERNAL: Final = 1
SYMLINK: Final = 2
CHAR_DEVICE: Final = 3
BLOCK_DEVICE: Final = 4
FIFO: Final = 5
SOCKET: Final = 6

Pairs = tuple[tuple[bytes, bytes], ...]
"""Extended attributes: name and value of each."""

Entry = tuple[int, bytes, int, int, int, int, Pairs | None, "State | None", bytes, int]
"""An entry that is not a directory: kind, name, mode, uid, gid, mtime in nanoseconds, attributes, state,
payload, number.

The state is given where the file has more than one name. The payload is content, link target or object ID,
which is empty for a file that is still to be read. The number is a size in bytes or a device."""


class Place(NamedTuple):
    """A directory to visit.

    Attributes:
        parent: The directory above it: the number that the scanning process gave it or, in a report,
            the complement of its position among that report's directories.
        identity: What that directory was when it was listed.
        path: The path below the root.
    """

    parent: int
    identity: Identity
    path: bytes


class ListedDirectory(NamedTuple):
    """A directory that was visited.

    Attributes:
        parent: As in `Place`; meaningless for the root.
        name: Its name there.
        mode: Permission bits.
        uid: Owner.
        gid: Group.
        mtime_ns: Modification time in nanoseconds.
        xattrs: Extended attributes.
        entries: What is in it, except for directories.
        unread: The files among them whose content is left for later.
    """

    parent: int
    name: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: Pairs | None
    entries: list[Entry]
    unread: list[FileToRead]


class VisitTask(NamedTuple):
    """Directories to visit, with what is below them, until the budget is used up."""

    places: list[Place]
    max_entries: int
    max_bytes: int


class VisitReport(NamedTuple):
    """What was found, in an order in which parents come first.

    Attributes:
        directories: The directories that were visited.
        waiting: The directories that were not.
        news: Records for the file cache.
        digests: Of the visited directories, see `cfsctl.scan.fingerprint`; empty for those with files that
            are left for later. None at all if they are not wanted.
    """

    directories: list[ListedDirectory]
    waiting: list[Place]
    news: bytes
    digests: list[bytes]


class FileToRead(NamedTuple):
    """A file whose content was left for later.

    Attributes:
        directory: Path of its directory below the root.
        identity: What that directory was when it was listed.
        name: Its name there.
        state: What it was when it was listed.
        is_plain: Whether it has no extended attributes.
    """

    directory: bytes
    identity: Identity
    name: bytes
    state: State
    is_plain: bool

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.state[2]

    @property
    def path(self) -> bytes:
        """Path below the root."""
        return self.directory + b"/" + self.name if self.directory else self.name


class ReadTask(NamedTuple):
    """Files to read."""

    number: int
    files: list[FileToRead]


class ReadReport(NamedTuple):
    """The object IDs of the files of the task with this number, in its order, and news for the cache."""

    number: int
    object_ids: list[ObjectID]
    news: bytes


Task = VisitTask | ReadTask
Report = VisitReport | ReadReport
