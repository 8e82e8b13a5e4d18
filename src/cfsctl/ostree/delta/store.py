"""Sources of deltas: the interface that a pull needs, and deltas in local files."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from cfsctl.digest import Checksum
from cfsctl.errors import ExitCode
from cfsctl.linux.files import open_regular
from cfsctl.linux.syscalls import openat2
from cfsctl.ostree.delta.format import DeltaError, delta_directory, describe_delta, encode_id
from cfsctl.ostree.delta.views import ByteView

if TYPE_CHECKING:
    from cfsctl.repository.objects.store import ObjectStore

MAX_OFFERS: Final = 1000
"""Deltas to one commit that are looked at."""

_DIRECTORY_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW


class DeltaInfo(NamedTuple):
    """A delta that is said to be there.

    Attributes:
        from_checksum: The commit it starts from, or None.
        to_checksum: The commit it leads to.
        digest: SHA-256 of the file that is the superblock, as a summary has it, or None.
    """

    from_checksum: Checksum | None
    to_checksum: Checksum
    digest: bytes | None = None

    @property
    def description(self) -> str:
        """What messages call it."""
        return describe_delta(self.from_checksum, self.to_checksum)


class Readable(Protocol):
    """Bytes that were fetched, or opened; `cfsctl.ostree.delta.views.Scratch` is one."""

    def view(self) -> ByteView:
        """Return them; the view is good until `close`."""

    def close(self) -> None:
        """Release them."""


class DeltaStore(Protocol):
    """A place with deltas. Like a `Source` it believes and checks nothing, but bounds what it takes."""

    def find(self, to_checksum: Checksum) -> list[DeltaInfo]:
        """Return the deltas that lead to a commit, as far as the place says.

        Raises:
            CfsError: What it says cannot be had, or is not valid.
        """

    def fetch_superblock(self, offer: DeltaInfo, objects: ObjectStore) -> Readable:
        """Return the superblock of a delta; `objects` has room for it.

        Raises:
            CfsError: It cannot be had, or is too large.
        """

    def fetch_part(self, offer: DeltaInfo, number: int, limit_bytes: int, objects: ObjectStore) -> Readable:
        """Return a part; usable in a forked worker, as `Source.fetch_files` is.

        Raises:
            CfsError: It cannot be had, or is too large.
        """

    def close(self) -> None:
        """Release connections and descriptors of this process; see `Source.close`."""


class DeltaNotFoundError(DeltaError):
    """A missing delta, or a missing part of one."""

    exit_code = ExitCode.NOT_FOUND


class _OpenFile:
    """An open file as `Readable`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def view(self) -> ByteView:
        return ByteView.of_file(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LocalDeltas:
    """The deltas of a repository in a directory; see `DeltaStore`."""

    def __init__(self, path: str) -> None:
        """Name the repository; it is opened when it is needed."""
        self._path = path

    def find(self, to_checksum: Checksum) -> list[DeltaInfo]:
        """Return the existing deltas, without using the repository's summary."""
        offers = []
        target = encode_id(to_checksum)
        if self._exists(delta_directory(None, to_checksum)):
            offers.append(DeltaInfo(None, to_checksum))
        for prefix in self._list("deltas"):
            if len(prefix) != 2:
                continue
            for name in self._list(f"deltas/{prefix}"):
                start = _decode_id(prefix + name.removesuffix(f"-{target}"))
                if name.endswith(f"-{target}") and start is not None:
                    offers.append(DeltaInfo(start, to_checksum))
                if len(offers) > MAX_OFFERS:
                    return offers
        return offers

    def _list(self, name: str) -> list[str]:
        try:
            return sorted(os.listdir(os.path.join(self._path, name)))
        except OSError:
            return []

    def _exists(self, name: str) -> bool:
        return os.path.isfile(os.path.join(self._path, name, "superblock"))

    def fetch_superblock(self, offer: DeltaInfo, objects: ObjectStore) -> Readable:
        """Return the superblock, which is read where it is."""
        del objects
        return self._open(offer, "superblock")

    def fetch_part(self, offer: DeltaInfo, number: int, limit_bytes: int, objects: ObjectStore) -> Readable:
        """Return a part, which is read where it is."""
        del objects
        return _limited(self._open(offer, str(number)), number, limit_bytes)

    def _open(self, offer: DeltaInfo, name: str) -> Readable:
        path = f"{delta_directory(offer.from_checksum, offer.to_checksum)}/{name}"
        root = os.open(self._path, _DIRECTORY_FLAGS)
        try:
            return _open_file(openat2(root, path, _FILE_FLAGS), f"{self._path}/{path}")
        except OSError as error:
            raise DeltaNotFoundError(f"{self._path}/{path}: {error.strerror}") from error
        finally:
            os.close(root)

    def close(self) -> None:
        """Do nothing, since nothing stays open."""


def _open_file(fd: int, where: str) -> _OpenFile:
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return _OpenFile(fd)
    os.close(fd)
    raise DeltaNotFoundError(f"{where}: expected a regular file, found something else")


def _limited(held: Readable, number: int, limit_bytes: int) -> Readable:
    """Return a part that is no larger than announced; a sparse file may have any size."""
    size = held.view().size
    if size > limit_bytes:
        held.close()
        raise DeltaError(f"part {number}: expected {limit_bytes} bytes, found {size}")
    return held


def _decode_id(text: str) -> Checksum | None:
    """Return the checksum that `encode_id` writes like this, or None."""
    import base64  # the only use here
    import binascii

    try:
        data = base64.b64decode(f"{text}=", b"+_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return Checksum(data) if len(data) == 32 and encode_id(Checksum(data)) == text else None


class DeltaFile:
    """A single delta that the user has: a file, or the directory of one; see `DeltaStore`.

    Parts that are not in the superblock lie next to it under their numbers.
    """

    def __init__(self, path: str) -> None:
        """Open the delta.

        Raises:
            DeltaNotFoundError: None exists.
        """
        self._path = path
        if os.path.isdir(path):
            directory, name = path, "superblock"
        else:
            directory, name = os.path.split(path)
        self._where = os.path.join(directory, name)
        try:
            self._directory = os.open(directory or ".", _DIRECTORY_FLAGS)
            try:
                self._superblock = open_regular(self._directory, os.path.realpath(self._where))
            except BaseException:
                os.close(self._directory)
                raise
        except OSError as error:
            raise DeltaNotFoundError(f"cannot open delta {self._where}: {error.strerror}") from error

    @property
    def description(self) -> str:
        """Its path as the user named it."""
        return self._path

    def find(self, to_checksum: Checksum) -> list[DeltaInfo]:
        """Return the delta; where it starts from, only its superblock says."""
        return [DeltaInfo(None, to_checksum)]

    def fetch_superblock(self, offer: DeltaInfo, objects: ObjectStore) -> Readable:
        """Return the superblock, which is read where it is."""
        del offer, objects
        return self.open_superblock()

    def open_superblock(self) -> Readable:
        """Return the superblock."""
        return _OpenFile(os.dup(self._superblock))

    def fetch_part(self, offer: DeltaInfo, number: int, limit_bytes: int, objects: ObjectStore) -> Readable:
        """Return a part that lies next to the superblock."""
        del offer, objects
        try:
            held = _OpenFile(open_regular(self._directory, str(number)))
        except OSError as error:
            where = os.path.join(os.path.dirname(self._where), str(number))
            raise DeltaNotFoundError(
                f"cannot open delta part {where}: {error.strerror}",
                hint="create the delta with --inline, or keep its parts next to it",
            ) from error
        return _limited(held, number, limit_bytes)

    def close(self) -> None:
        """Do nothing, since the two descriptors are needed until the end."""

    def release(self) -> None:
        """Close the files; the delta cannot be used afterwards."""
        os.close(self._superblock)
        os.close(self._directory)
