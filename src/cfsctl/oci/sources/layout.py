"""OCI image layouts: ``oci:PATH[:TAG]`` and ``oci-archive:PATH[:TAG]``.

    index.json               names manifests, or further indexes, by tag and platform
    blobs/<hash>/<digits>    everything else

The file ``oci-layout`` says nothing that is needed here, and is not read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cfsctl.json_fields import MAX_DOCUMENT_BYTES
from cfsctl.oci.digest import compute_digest
from cfsctl.oci.manifest import Descriptor, Platform, parse_index, parse_manifest
from cfsctl.oci.media_types import INDEX, INDEXES, MANIFESTS
from cfsctl.oci.source import (
    FoundManifest,
    ImageNotFoundError,
    check_blob,
    read_blob,
    read_document,
)
from cfsctl.oci.sources.platforms import PlatformChoice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.reference import TaggedPath
    from cfsctl.oci.source import BlobReader
    from cfsctl.oci.sources.files import LayoutFiles

_FALLBACK_TAG: Final = re.compile(r"sha(256|384|512)-[0-9a-f]+")
"""Tag of the list of referrers where a registry keeps none, and of copies of such registries."""

_TAG_ANNOTATION: Final = "org.opencontainers.image.ref.name"


class LayoutSource:
    """One image of a layout."""

    def __init__(self, transport: str, files: LayoutFiles, wanted: TaggedPath) -> None:
        """Read nothing yet.

        Args:
            transport: What the reference starts with, for messages.
            files: The layout; closed with this.
            wanted: Which image of it.
        """
        self._files = files
        self._wanted = wanted
        tag = "" if wanted.tag is None else f":{wanted.tag}"
        digest = "" if wanted.digest is None else f"@{wanted.digest}"
        self._subjects: dict[OciDigest, list[Descriptor]] | None = None
        self._name = f"{transport}:{files.path}{tag}{digest}"

    @property
    def name(self) -> str:
        """What messages call the image."""
        return self._name

    def find_manifest(self, platform: Platform) -> FoundManifest:
        """Return the manifest for a platform; see `cfsctl.oci.source.ImageSource`."""
        choice = PlatformChoice(lambda descriptor, what: read_document(self, descriptor, what), platform)
        return choice.choose(self._candidates())

    def read_named(self) -> tuple[Descriptor, bytes]:
        """Return the manifest or index; see `cfsctl.oci.source.IndexedSource`.

        An index that lists several images without a tag is the layout's own.
        """
        candidates = self._candidates()
        if len(candidates) > 1 and self._wanted.tag is None:
            data = self._read_index()
            return Descriptor(INDEX, compute_digest(data), len(data), {}), data
        indexes = [candidate for candidate in candidates if candidate.media_type in INDEXES]
        chosen = (indexes or candidates)[0]
        return chosen, self.read_listed(chosen, "index" if indexes else "manifest")

    def read_listed(self, descriptor: Descriptor, what: str) -> bytes:
        """Return a document; see `cfsctl.oci.source.IndexedSource`."""
        return read_document(self, descriptor, what)

    def list_referrers(self, subject: OciDigest) -> list[Descriptor]:
        """Return what is about a manifest; see `cfsctl.oci.source.IndexedSource`.

        In a layout these are manifests that the index lists and that name it as their subject.
        """
        if self._subjects is None:
            self._subjects = self._find_subjects()
        return self._subjects.get(subject, [])

    def _find_subjects(self) -> dict[OciDigest, list[Descriptor]]:
        found: dict[OciDigest, list[Descriptor]] = {}
        for entry in parse_index(self._read_index(), "index.json"):
            tag = entry.annotations.get(_TAG_ANNOTATION, "")
            entries = [entry]
            if entry.media_type in INDEXES and _FALLBACK_TAG.fullmatch(tag):
                entries = list(parse_index(self.read_listed(entry, "index"), f"index {entry.digest}"))
            for one in entries:
                subject = self._find_subject(one)
                if subject is not None:
                    found.setdefault(subject, []).append(one)
        return found

    def _find_subject(self, descriptor: Descriptor) -> OciDigest | None:
        if descriptor.media_type not in MANIFESTS:
            return None
        try:
            data = self.read_listed(descriptor, "manifest")
        except ImageNotFoundError:
            return None  # of another image of the layout, whose blobs are elsewhere
        subject = parse_manifest(data, f"manifest {descriptor.digest}").subject
        return None if subject is None else subject.digest

    def _candidates(self) -> list[Descriptor]:
        entries = parse_index(self._read_index(), "index.json")
        tag, digest = self._wanted.tag, self._wanted.digest
        if not entries:
            raise ImageNotFoundError("Image index contains no manifests")
        if digest is not None:
            found = [entry for entry in entries if entry.digest == digest]
            if not found:
                raise ImageNotFoundError(f"Digest {digest} not found in image index")
            return found
        if tag is None:
            return list(entries)
        found = [entry for entry in entries if entry.annotations.get(_TAG_ANNOTATION) == tag]
        if not found:
            raise ImageNotFoundError(f"Tag '{tag}' not found in image index", hint=_list_tags(entries))
        return found

    def _read_index(self) -> bytes:
        try:
            reader = self._files.open("index.json")
        except FileNotFoundError as error:
            raise ImageNotFoundError("Cannot find the Image Index (index.json)") from error
        try:
            return read_blob(reader, MAX_DOCUMENT_BYTES)
        finally:
            reader.close()

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a blob; see `cfsctl.oci.source.ImageSource`."""
        digest = descriptor.digest
        try:
            reader = self._files.open(f"blobs/{digest.algorithm}/{digest.encoded}")
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"blob {digest}: no such blob in {self._files.path}") from error
        return check_blob(reader, descriptor)

    def close(self) -> None:
        """Release the layout."""
        self._files.close()


def _list_tags(entries: Iterable[Descriptor]) -> str | None:
    tags = [entry.annotations[_TAG_ANNOTATION] for entry in entries if _TAG_ANNOTATION in entry.annotations]
    return f"tags there: {', '.join(sorted(tags)[:8])}" if tags else None
