"""One directory with images: its lists, its documents and the files of its layers."""

from __future__ import annotations

import base64
import errno
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.compression import CompressionError, iter_decoded
from cfsctl.compression.base import Compression
from cfsctl.errors import CfsError, ExitCode
from cfsctl.json_fields import MAX_DOCUMENT_BYTES, JsonFields, parse_value
from cfsctl.linux.files import open_handle, open_regular, read_all
from cfsctl.linux.syscalls import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)
from cfsctl.oci.containers_storage.locks import lock_shared
from cfsctl.oci.containers_storage.tar_split import SplitFile, TarSplitError, iter_tar_split
from cfsctl.oci.source import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.oci.containers_storage.configuration import StoreLocation

_FILES_OF: Final = {
    "overlay": "overlay/{}/diff",
    "overlay2": "overlay2/{}/diff",
    "vfs": "vfs/dir/{}",
    "btrfs": "btrfs/subvolumes/{}",
}
"""Where each driver has the files of a layer."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RESOLVE: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_MAX_LIST_BYTES: Final = 64 << 20
"""Most bytes of a list; one of 10,000 images has about 15 MiB."""

_READ_BYTES: Final = 1 << 18
_MAX_SPLIT_BYTES: Final = 1 << 36
"""Most bytes that a file of ``tar-split`` may unpack to."""


class StorageUnreadableError(CfsError):
    """A storage, or files in it, that this user cannot read."""

    exit_code = ExitCode.POLICY


class ImageRecord(NamedTuple):
    """An image in the list.

    Attributes:
        id: Its ID.
        digest: Digest of its manifest, or empty.
        names: Its names in full, with tags or digests.
        layer: ID of its top layer, or empty for one without layers.
        documents: Names of the documents that are kept with it.
    """

    id: str
    digest: str
    names: tuple[str, ...]
    layer: str
    documents: tuple[str, ...]


class LayerRecord(NamedTuple):
    """A layer in the list.

    Attributes:
        id: Its ID.
        parent: ID of the layer below, or empty.
        size: Bytes of its archive, or 0 if the list does not say.
    """

    id: str
    parent: str
    size: int


class Store:
    """An open directory with images.

    Attributes:
        path: The directory.
        driver: The driver that its layers are of.
        directory: Descriptor of the directory, owned by this.
    """

    def __init__(self, path: str, driver: str, directory: int) -> None:
        """Take the descriptor; see `open_store`."""
        self.path = path
        self.driver = driver
        self.directory = directory
        self._images = self._layers = -1
        self._lock: int | None = None
        try:
            self._images = self._open_directory(f"{driver}-images")
            self._layers = self._open_directory(f"{driver}-layers")
        except BaseException:
            self.close()
            raise
        self._layer_records: dict[str, LayerRecord] | None = None

    def _open_directory(self, name: str) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=self.directory)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{self.path}/{name}") from None

    def close(self) -> None:
        """Release the lock and close everything; may be called again."""
        for fd in (self._lock, self._images, self._layers, self.directory):
            if fd is not None and fd >= 0:
                os.close(fd)
        self._lock = None
        self._images = self._layers = self.directory = -1

    # Lists

    def read_images(self) -> list[ImageRecord]:
        """Return the images, read under their lock.

        Raises:
            FormatError: The list is not valid.
            OSError: It cannot be read.
        """
        lock = lock_shared(self._images, "images.lock", f"{self.path}/{self.driver}-images/images.lock")
        try:
            return [_parse_image(fields) for fields in self._read_list(self._images, "images")]
        finally:
            if lock is not None:
                os.close(lock)

    def lock_layers(self) -> None:
        """Wait for a shared lock on the layers, which ends when this is closed."""
        if self._lock is None:
            where = f"{self.path}/{self.driver}-layers/layers.lock"
            self._lock = lock_shared(self._layers, "layers.lock", where)

    def find_layer(self, layer_id: str) -> LayerRecord | None:
        """Return a layer, or None if it is not in this store; the list is read under the lock."""
        if self._layer_records is None:
            self.lock_layers()
            records = map(_parse_layer, self._read_list(self._layers, "layers"))
            self._layer_records = {record.id: record for record in records}
        return self._layer_records.get(layer_id)

    def _read_list(self, directory: int, name: str) -> Iterator[JsonFields]:
        what = f"{self.path}/{self.driver}-{name}/{name}.json"
        try:
            fd = open_regular(directory, f"{name}.json")
        except FileNotFoundError:
            return
        try:
            data = read_all(fd, _MAX_LIST_BYTES)
        finally:
            os.close(fd)
        value = parse_value(data, what, limit_bytes=_MAX_LIST_BYTES) if data.strip() else []
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(item, dict):
                raise SourceError(f"{what}: expected a list of objects")
            yield JsonFields(item, f"{what}[{index}]")

    # Documents

    def read_document(self, image_id: str, name: str) -> bytes:
        """Return a document that is kept with an image.

        Raises:
            FileNotFoundError: None exists.
            OSError: It cannot be read, or is too large.
        """
        file_name = name if _ID.fullmatch(name) else "=" + base64.b64encode(name.encode()).decode()
        fd = self._open_beneath(self._images, f"{image_id}/{file_name}", os.O_PATH)
        try:
            file = open_handle(fd, file_name)
        finally:
            os.close(fd)
        try:
            return read_all(file, MAX_DOCUMENT_BYTES)
        finally:
            os.close(file)

    def _open_beneath(self, directory: int, path: str | bytes, flags: int) -> int:
        return openat2(directory, path, flags | os.O_NOFOLLOW, resolve=_RESOLVE)

    # Layers

    def iter_archive(self, layer_id: str) -> Iterator[bytes | SplitFile]:
        """Yield the segments of a layer's archive, and the files whose contents belong between them.

        Raises:
            SourceError: The storage has no record of the archive.
            TarSplitError: The record is not valid.
        """
        name = f"{layer_id}.tar-split.gz"
        try:
            fd = open_regular(self._layers, name)
        except FileNotFoundError as error:
            raise SourceError(
                f"layer {layer_id}: {self.path}/{self.driver}-layers/{name} is missing, without which the"
                " original archive cannot be restored",
                hint="pull or commit the image again with podman",
            ) from error
        try:
            yield from iter_tar_split(_unpack(fd, layer_id))
        finally:
            os.close(fd)

    def layer_path(self, layer_id: str) -> str:
        """Return where the files of a layer are, below `directory`."""
        return _FILES_OF[self.driver].format(layer_id)

    def open_layer(self, layer_id: str) -> int:
        """Open the directory that has the files of a layer; the descriptor is only good to open them.

        Raises:
            OSError: It cannot be opened.
        """
        return self._open_beneath(self.directory, self.layer_path(layer_id), os.O_PATH | os.O_DIRECTORY)


def open_layer_file(layer: int, path: bytes) -> int:
    """Open a regular file of a layer; no link is followed and nothing leads out.

    Args:
        layer: Directory of the layer, borrowed.
        path: Path as an archive may have it.

    Raises:
        OSError: It cannot be opened, or is not a regular file; EXDEV if the path would leave the layer.
    """
    clean = os.path.normpath(b"/" + path).lstrip(b"/")  # what the storage's library does before it unpacks
    if b"\0" in path or b".." in path.split(b"/") or not clean:
        raise OSError(errno.EXDEV, "path leads out of the layer", path)
    handle = openat2(layer, clean, os.O_PATH | os.O_NOFOLLOW, resolve=_RESOLVE)
    try:
        return open_handle(handle, path)
    finally:
        os.close(handle)


def _unpack(fd: int, layer_id: str) -> Iterator[bytes | memoryview]:
    def read() -> Iterator[bytes]:
        while data := os.read(fd, _READ_BYTES):
            yield data

    try:
        yield from iter_decoded(read(), Compression.GZIP, _MAX_SPLIT_BYTES)
    except CompressionError as error:
        raise TarSplitError(f"layer {layer_id}: tar-split: {error}") from error


def open_store(location: StoreLocation) -> Store | None:
    """Open a directory with images, or return None if nothing is there.

    Raises:
        SourceError: It has images of a driver that is not known.
        OSError: It cannot be opened.
    """
    try:
        directory = os.open(location.path, _DIRECTORY & ~os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        driver = _find_driver(directory, location)
        return None if driver is None else Store(location.path, driver, os.dup(directory))
    finally:
        os.close(directory)


def _find_driver(directory: int, location: StoreLocation) -> str | None:
    drivers = [location.driver] if location.driver else list(_FILES_OF)
    for driver in drivers:
        if not all(_exists(directory, f"{driver}-{kind}") for kind in ("images", "layers")):
            continue  # nothing was stored so far, or it was begun only
        if driver not in _FILES_OF:
            raise SourceError(
                f"{location.path}: cannot read images of the storage driver {driver};"
                f" expected one of {', '.join(_FILES_OF)}",
                hint="copy the image with `skopeo copy` to oci:DIRECTORY:TAG first",
            )
        return driver
    return None


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _check_id(fields: JsonFields, key: str, value: str) -> str:
    """Return an ID that can be part of a path."""
    if not _ID.fullmatch(value):
        fields.fail(key, "an ID", repr(value[:80]))
    return value


def _parse_image(fields: JsonFields) -> ImageRecord:
    layer = fields.find_string("layer")
    return ImageRecord(
        _check_id(fields, "id", fields.get_string("id")),
        fields.find_string("digest") or "",
        _strings(fields, "names"),
        _check_id(fields, "layer", layer) if layer else "",
        _strings(fields, "big-data-names"),
    )


def _parse_layer(fields: JsonFields) -> LayerRecord:
    parent = fields.find_string("parent")
    return LayerRecord(
        _check_id(fields, "id", fields.get_string("id")),
        _check_id(fields, "parent", parent) if parent else "",
        fields.find_size("diff-size") or 0,
    )


def _strings(fields: JsonFields, key: str) -> tuple[str, ...]:
    return () if fields.find_list(key) is None else tuple(fields.get_list_of_strings(key))
