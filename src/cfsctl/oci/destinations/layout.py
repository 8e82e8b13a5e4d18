"""Writing OCI layouts: ``oci:DIRECTORY[:TAG]``.

Blobs are complete and on the disk before they have their names, and the index names the image last. Other
images of the layout stay; one with the same tag is replaced. Programs that write at the same time wait for
each other where they change the index.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from typing import IO, TYPE_CHECKING, Final

from cfsctl.json_fields import MAX_DOCUMENT_BYTES, parse_object
from cfsctl.linux.files import AnonymousFile, fsync_directory, open_regular, read_all
from cfsctl.oci.destinations.base import DestinationError
from cfsctl.oci.media_types import INDEX

if TYPE_CHECKING:
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.reference import TaggedPath

TAG_ANNOTATION: Final = "org.opencontainers.image.ref.name"
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_COPY_BYTES: Final = 1 << 20


class LayoutDestination:
    """One tag of a layout, or no tag."""

    def __init__(self, wanted: TaggedPath) -> None:
        """Make the directories that are missing.

        Raises:
            DestinationError: The reference has a digest.
            OSError: They cannot be made.
        """
        if wanted.digest is not None:
            raise DestinationError(f"oci:{wanted.path}: expected a tag, found a digest")
        self._path = wanted.path
        self._tag = wanted.tag
        os.makedirs(f"{wanted.path}/blobs/sha256", exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._dirfd = os.open(wanted.path, flags)
        self._blobs_fd = os.open(f"{wanted.path}/blobs/sha256", flags | os.O_NOFOLLOW)

    @property
    def name(self) -> str:
        """What messages call the place."""
        return f"oci:{self._path}{'' if self._tag is None else f':{self._tag}'}"

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether the layout has a blob of this name and size."""
        try:
            status = os.stat(descriptor.digest.encoded, dir_fd=self._blobs_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return status.st_size == descriptor.size

    def put_blob(self, descriptor: Descriptor, file: IO[bytes]) -> None:
        """Store a blob."""
        self._check(descriptor)
        with AnonymousFile(self._blobs_fd) as new:
            with open(new.fd, "wb", closefd=False) as target:
                shutil.copyfileobj(file, target, _COPY_BYTES)
            os.fsync(new.fd)
            new.replace(self._blobs_fd, descriptor.digest.encoded)

    def _check(self, descriptor: Descriptor) -> None:
        if descriptor.digest.algorithm != "sha256":
            raise DestinationError(f"blob {descriptor.digest}: layouts take sha256 digests only")

    def put_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        """Store the manifest, and name it in the index."""
        self.put_listed(descriptor, data)
        self._list(descriptor, self._tag)

    def put_listed(self, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest that an index refers to."""
        self._check(descriptor)
        with AnonymousFile(self._blobs_fd) as new:
            _write(new.fd, data)
            new.replace(self._blobs_fd, descriptor.digest.encoded)

    def put_referrer(self, subject: OciDigest, descriptor: Descriptor, data: bytes) -> None:  # noqa: ARG002 - which the manifest names
        """Store the manifest of an artifact, and list it without a tag."""
        self.put_listed(descriptor, data)
        self._list(descriptor, None)

    def _list(self, descriptor: Descriptor, tag: str | None) -> None:
        """Have the index name a manifest, which is on the disk before."""
        os.fsync(self._blobs_fd)
        lock = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._dirfd)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._replace("oci-layout", LAYOUT)
            self._replace("index.json", index_with(self._read_index(), descriptor, tag))
            fsync_directory(self._dirfd)
        finally:
            os.close(lock)

    def _replace(self, name: str, data: bytes) -> None:
        with AnonymousFile(self._dirfd) as new:
            _write(new.fd, data)
            new.replace(self._dirfd, name)

    def _read_index(self) -> bytes | None:
        try:
            fd = open_regular(self._dirfd, "index.json")
        except FileNotFoundError:
            return None
        try:
            return read_all(fd, MAX_DOCUMENT_BYTES)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the directories; may be called again."""
        for fd in (self._blobs_fd, self._dirfd):
            if fd >= 0:
                os.close(fd)
        self._blobs_fd = self._dirfd = -1


def _write(fd: int, data: bytes) -> None:
    with open(fd, "wb", closefd=False) as target:
        target.write(data)
    os.fsync(fd)


def index_with(old: bytes | None, descriptor: Descriptor, tag: str | None) -> bytes:
    """Return an index that also names an image, in place of what it named by the same tag.

    Args:
        old: The index, or None if none exists.
        descriptor: The manifest.
        tag: Its tag, or None.

    Raises:
        JsonError: The old one is not valid.
    """
    entry: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.artifact_type is not None:
        entry["artifactType"] = descriptor.artifact_type
    if tag is not None:
        entry["annotations"] = {TAG_ANNOTATION: tag}
    document: dict[str, object] = {"schemaVersion": 2, "mediaType": INDEX}
    kept: list[object] = []
    if old is not None:
        fields = parse_object(old, "index.json")
        kept = [
            other.to_dict()
            for other in fields.get_list_of_fields("manifests")
            if not _is_replaced(other.to_dict(), str(descriptor.digest), tag)
        ]
        document = fields.to_dict()
    document["manifests"] = [*kept, entry]
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _is_replaced(other: dict[str, object], digest: str, tag: str | None) -> bool:
    annotations = other.get("annotations")
    other_tag = annotations.get(TAG_ANNOTATION) if isinstance(annotations, dict) else None
    return other_tag == tag if tag is not None else other_tag is None and other.get("digest") == digest
