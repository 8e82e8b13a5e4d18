"""One image in one directory, as skopeo writes it: ``dir:PATH``.

manifest.json    the manifest, or a list of manifests
<digits>         a blob, by its digest without the algorithm
<digits>.manifest.json    a manifest of the list
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.json_fields import MAX_DOCUMENT_BYTES, parse_object
from cfsctl.oci.digest import compute_digest
from cfsctl.oci.docker import convert_manifest
from cfsctl.oci.manifest import Descriptor, Platform, matches, parse_index
from cfsctl.oci.media_types import INDEX, INDEXES, MANIFEST, MANIFESTS
from cfsctl.oci.source import (
    FoundManifest,
    ImageNotFoundError,
    check_blob,
    check_size,
    read_blob,
)
from cfsctl.oci.sources.files import DirectoryFiles

if TYPE_CHECKING:
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.source import BlobReader


class DirectorySource:
    """The image in a directory."""

    def __init__(self, path: str) -> None:
        """Open the directory.

        Raises:
            ImageNotFoundError: None exists.
        """
        self._files = DirectoryFiles(path)

    @property
    def name(self) -> str:
        """What messages call the image."""
        return f"dir:{self._files.path}"

    def read_named(self) -> tuple[Descriptor, bytes]:
        """Return the manifest or index; see `cfsctl.oci.source.IndexedSource`."""
        data = self._read("manifest.json")
        fields = parse_object(data, "manifest.json")
        usual = MANIFEST if fields.find_list("manifests") is None else INDEX
        media_type = fields.find_string("mediaType") or usual
        if usual == INDEX and media_type not in INDEXES:
            media_type = INDEX
        return Descriptor(media_type, compute_digest(data), len(data), {}), data

    def read_listed(self, descriptor: Descriptor, what: str) -> bytes:
        """Return a document; see `cfsctl.oci.source.IndexedSource`."""
        data = self._read(f"{descriptor.digest.encoded}.manifest.json")
        check_size(what, descriptor, len(data))
        descriptor.digest.check_bytes(data, what)
        return data

    def list_referrers(self, subject: OciDigest) -> list[Descriptor]:  # noqa: ARG002 - there are none
        """Return nothing: such a directory has one image."""
        return []

    def find_manifest(self, platform: Platform) -> FoundManifest:
        """Return the manifest for a platform; see `cfsctl.oci.source.ImageSource`."""
        descriptor, data = self.read_named()
        if descriptor.media_type not in INDEXES:
            return convert_manifest(descriptor, data)
        entries = parse_index(data, "manifest.json")
        for entry in entries:
            if entry.media_type in MANIFESTS and entry.platform and matches(entry.platform, platform):
                found = self.read_listed(entry, "manifest")
                return convert_manifest(entry, found)._replace(is_chosen=True)
        available = ", ".join(str(entry.platform or "(no platform info)") for entry in entries)
        raise ImageNotFoundError(
            f"No manifest found for platform {platform}; available: {available or 'nothing'}",
            hint="choose another one with --platform",
        )

    def _read(self, name: str) -> bytes:
        try:
            reader = self._files.open(name)
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"{name}: no such file in {self._files.path}") from error
        try:
            return read_blob(reader, MAX_DOCUMENT_BYTES)
        finally:
            reader.close()

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a blob; see `cfsctl.oci.source.ImageSource`."""
        try:
            reader = self._files.open(descriptor.digest.encoded)
        except FileNotFoundError as error:
            raise ImageNotFoundError(
                f"blob {descriptor.digest}: no such blob in {self._files.path}"
            ) from error
        return check_blob(reader, descriptor)

    def close(self) -> None:
        """Close the directory."""
        self._files.close()
