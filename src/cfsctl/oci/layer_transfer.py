"""Layers on their way to and from other processes on this machine, which share the files of large objects."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import object_path
from cfsctl.dirfdstream import DirfdStreamError, FileReference, StreamDecoder, encode_inline, encode_reference
from cfsctl.errors import FormatError
from cfsctl.linux.syscalls import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from cfsctl.oci.context import naming
from cfsctl.oci.store.layer_writer import MAX_LAYER_BYTES, ImportCounts, LayerWriter
from cfsctl.oci.store.layers import open_layer
from cfsctl.oci.store.names import LAYER
from cfsctl.repository.objects.sharing import FileSharer, Sharing
from cfsctl.splitstream.reader import External

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import Hash, OciDigest
    from cfsctl.oci.store.layers import StoredLayer
    from cfsctl.repository import Repository

_READ_BYTES: Final = 1 << 18
_RESOLVE: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class SentFileError(FormatError):
    """A file that a sender refers to, and that is not there or not a regular file."""


class ReceivedLayer(NamedTuple):
    """A layer that was received.

    Attributes:
        stream_id: Its stream.
        is_new: Whether it was not stored before.
        counts: What became of its contents.
    """

    stream_id: ObjectID
    is_new: bool
    counts: ImportCounts


def iter_sent(layer: StoredLayer, directory: int) -> Iterator[bytes | memoryview]:
    """Yield a layer as a splitdirfdstream.

    Args:
        layer: The layer.
        directory: The number that the receiver knows the directory of the objects by.

    Raises:
        FormatError, IntegrityError: It is damaged.
    """
    objects = layer.repository.objects
    with layer.open() as reader:
        for chunk in reader.iter_chunks():
            if isinstance(chunk, External):
                fd = objects.open(chunk.object_id)
                try:
                    size = os.fstat(fd).st_size
                finally:
                    os.close(fd)
                yield encode_reference(size, directory, object_path(chunk.object_id).encode())
            else:
                yield from encode_inline(chunk.data)


def receive_layer(
    repository: Repository,
    digest: OciDigest,
    read: Callable[[int], bytes],
    directories: Sequence[int],
    *,
    must_share: bool = False,
) -> ReceivedLayer:
    """Store a layer that comes as a splitdirfdstream, unless it is stored already.

    Files become objects by a reflink or hard link where that is possible.

    Args:
        repository: Where.
        digest: What the layer must have.
        read: Returns the next bytes of the stream, at most so many; none at its end.
        directories: Descriptors of the directories by number, borrowed.
        must_share: Fail where a file can only be copied.

    Raises:
        DirfdStreamError, SentFileError: The stream is not valid.
        ReceivedDigestError: It is another layer; it has no name then.
        FormatError: It is not an archive.
        CannotShareError: A file can only be copied.
        OSError: Something could not be read or stored.
    """
    name = f"{LAYER}{digest}"
    stream_id = repository.streams.find(name)
    if stream_id is not None:
        present = open_layer(repository, str(digest)).measure().external_objects
        return ReceivedLayer(stream_id, False, ImportCounts(present=present))  # noqa: FBT003 - is_new
    sharing = Sharing.REQUIRED if must_share else Sharing.AUTO
    with naming(f"layer {digest}"):
        receiver = _Receiver(repository, digest.new_hash(), directories, sharing)
        with receiver.writer as writer:
            receiver.run(read)
            imported = writer.finish()
    digest.check(receiver.computed, "layer")
    repository.sync()
    repository.streams.link(name, imported.stream_id)
    return ReceivedLayer(imported.stream_id, True, imported.counts)  # noqa: FBT003 - is_new


class _Receiver:
    def __init__(
        self, repository: Repository, computed: Hash, directories: Sequence[int], sharing: Sharing
    ) -> None:
        self.writer = LayerWriter(repository.objects)
        self.computed = computed
        self._directories = directories
        self._sharer = FileSharer(repository.objects, sharing)
        self._size = 0

    def run(self, read: Callable[[int], bytes]) -> None:
        decoder = StreamDecoder()
        while data := read(_READ_BYTES):
            for piece in decoder.feed(data):
                if isinstance(piece, FileReference):
                    self._count(piece.size)
                    self._take_file(piece)
                else:
                    self._count(len(piece))
                    self.computed.update(piece)
                    self.writer.write(piece)
        decoder.finish()

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_LAYER_BYTES:
            raise DirfdStreamError(f"expected at most {MAX_LAYER_BYTES} bytes of a layer, found more")

    def _take_file(self, file: FileReference) -> None:
        what = os.fsdecode(file.name)
        if file.directory >= len(self._directories):
            raise SentFileError(
                f"{what}: expected a directory below {len(self._directories)}, found {file.directory}"
            )
        fd = _open_file(self._directories[file.directory], file.name, what)
        try:
            with naming(what):
                self.writer.write_file(fd, file.size, self._sharer, self.computed.update)
        finally:
            os.close(fd)


def _open_file(directory: int, name: bytes, what: str) -> int:
    """Open a regular file below a directory; no links are followed."""
    if b"\0" in name:
        raise SentFileError(f"{what!r}: expected a path, found a NUL in it")
    try:
        fd = openat2(directory, name, _FILE_FLAGS, resolve=_RESOLVE)
    except OSError as error:
        raise SentFileError(f"{what}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SentFileError(f"{what}: expected a regular file")
    return fd
