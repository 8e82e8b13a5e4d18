"""Images in registries: ``docker://NAME[:TAG][@DIGEST]``.

The configured mirrors are asked one after the other, and then the registry itself. Whatever they send is
compared with its digest; a tag means what the first of them says that it means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from cfsctl.errors import FetchError, FormatError, IntegrityError
from cfsctl.json_fields import MAX_DOCUMENT_BYTES, parse_object
from cfsctl.oci.digest import OciDigest, OciDigestError, compute_digest, parse_digest
from cfsctl.oci.docker import convert_manifest
from cfsctl.oci.manifest import Descriptor, Platform, parse_index
from cfsctl.oci.media_types import INDEX, INDEXES, MANIFEST, MANIFESTS
from cfsctl.oci.registry.blobs import RemoteBlob
from cfsctl.oci.registry.client import RegistryClient
from cfsctl.oci.registry.configuration import find_endpoints, read_registries
from cfsctl.oci.registry.names import parse_image_name
from cfsctl.oci.source import FoundManifest, ImageNotFoundError, SourceError, check_size, read_document
from cfsctl.oci.sources.platforms import PlatformChoice

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.http.fetcher import Response
    from cfsctl.oci.registry.settings import RegistrySettings
    from cfsctl.oci.source import BlobReader

T = TypeVar("T")

_DIGEST_HEADER: Final = "docker-content-digest"
_OLD_TYPES: Final = "application/vnd.docker.distribution.manifest.v1"


class RegistrySource:
    """One image of a registry."""

    def __init__(self, text: str, settings: RegistrySettings) -> None:
        """Connect to nothing yet.

        Args:
            text: The image's name.
            settings: How registries are accessed.

        Raises:
            ImageReferenceError: It is not a name.
            RegistryConfigError: A configuration file is not valid.
            RegistryBlockedError: The configuration forbids it.
        """
        self._name = parse_image_name(text)
        registries = read_registries(settings.registries_files)
        endpoints = find_endpoints(registries, self._name)
        self._clients = [RegistryClient(endpoint, settings) for endpoint in endpoints]

    @property
    def name(self) -> str:
        """What messages call the image."""
        return f"docker://{self._name}"

    @property
    def caution(self) -> str | None:
        """Say that nothing proves which image this is: neither a digest nor the server, or None."""
        if self._name.digest is not None or all(client.is_proven for client in self._clients):
            return None
        return (
            f"{self.name}: nothing proves that this is the image that was meant: name it with its digest, or"
            " demand a certificate of the registry (--tls-verify=true)"
        )

    def find_manifest(self, platform: Platform) -> FoundManifest:
        """Return the manifest for a platform; see `cfsctl.oci.source.ImageSource`."""
        descriptor, data = self.read_named()
        if descriptor.media_type not in INDEXES:
            return convert_manifest(descriptor, data)
        entries = parse_index(data, f"index {descriptor.digest}")
        return PlatformChoice(self.read_listed, platform).choose(entries, 1)

    def _first(self, ask: Callable[[RegistryClient], T]) -> T:
        """Return what the first place gives that can; it is the first to be asked from now on.

        Raises:
            CfsError: What the last one, which is the registry itself, says.
        """
        for client in self._clients[:-1]:
            try:
                found = ask(client)
            except (FetchError, ImageNotFoundError, FormatError, IntegrityError):
                continue  # any error of a mirror: the registry itself may work
            self._clients.sort(key=lambda other: other is not client)
            return found
        last = self._clients[-1]
        found = ask(last)
        self._clients.sort(key=lambda other: other is not last)
        return found

    def _get_named(self, client: RegistryClient) -> tuple[Descriptor, bytes]:
        """Return the manifest or index that the name stands for."""
        reference = self._name.reference
        response = client.get_manifest(reference, MAX_DOCUMENT_BYTES)
        return _describe(response, self._name.digest, f"manifest {reference}"), response.body

    def read_named(self) -> tuple[Descriptor, bytes]:
        """Return the manifest or index; see `cfsctl.oci.source.IndexedSource`."""
        return self._first(self._get_named)

    def list_referrers(self, subject: OciDigest) -> list[Descriptor]:
        """Return what is about a manifest; see `cfsctl.oci.source.IndexedSource`."""
        from cfsctl.oci.registry.referrers import list_referrers  # few pulls ask for them

        failure: Exception | None = None
        for client in self._clients:  # mirrors need not have what is about their images
            try:
                found = list_referrers(client, subject)
            except (FetchError, FormatError, IntegrityError) as error:
                failure = error
                continue
            if found:
                return found
        if failure is not None:
            raise failure
        return []

    def read_listed(self, descriptor: Descriptor, what: str) -> bytes:
        """Return a document that an index or manifest refers to; see `cfsctl.oci.source.IndexedSource`."""
        if descriptor.media_type not in MANIFESTS | INDEXES:
            return read_document(self, descriptor, what)
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise SourceError(
                f"{what} {descriptor.digest}: expected at most {MAX_DOCUMENT_BYTES} bytes,"
                f" found {descriptor.size}"
            )
        return self._first(lambda client: _read_by_digest(client, descriptor, what))

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a blob; see `cfsctl.oci.source.ImageSource`."""
        return RemoteBlob(self._clients, descriptor)

    def open_blob_at(self, descriptor: Descriptor, offset: int) -> BlobReader:
        """Open a blob at an offset; see `cfsctl.oci.source.ResumableSource`."""
        return RemoteBlob(self._clients, descriptor, offset)

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()


def _read_by_digest(client: RegistryClient, descriptor: Descriptor, what: str) -> bytes:
    data = client.get_manifest(str(descriptor.digest), MAX_DOCUMENT_BYTES).body
    check_size(what, descriptor, len(data))
    descriptor.digest.check_bytes(data, what)
    return data


def _describe(response: Response, digest: OciDigest | None, what: str) -> Descriptor:
    """Return the descriptor of a document that was requested by name.

    Raises:
        ReceivedDigestError: It is not what the digest says, ours or that of the server.
        SourceError: It is neither manifest nor index.
    """
    data = response.body
    named = digest or _find_named_digest(response)
    if named is not None:
        named.check_bytes(data, what)
    return Descriptor(_find_type(response, what), named or compute_digest(data), len(data), {})


def _find_named_digest(response: Response) -> OciDigest | None:
    text = response.fields.get(_DIGEST_HEADER)
    if text is None:
        return None
    try:
        return parse_digest(text)
    except OciDigestError:
        return None


def _find_type(response: Response, what: str) -> str:
    """Return what a document is: what it says itself, or else what the server says, or what it looks like."""
    fields = parse_object(response.body, what)
    has_layers, has_manifests = (fields.find_list(key) is not None for key in ("layers", "manifests"))
    said = (response.fields.get("content-type") or "").partition(";")[0].strip().lower()
    found = fields.find_string("mediaType") or said
    if has_layers and has_manifests:
        raise SourceError(f"{what}: expected layers or manifests, found both")
    if found.startswith(_OLD_TYPES) or (not has_layers and not has_manifests):
        raise SourceError(
            f"{what}: expected an image manifest or index, found {found or 'another document'}",
            hint="images of Docker's manifest schema 1 cannot be pulled" if _OLD_TYPES in found else None,
        )
    allowed, usual = (INDEXES, INDEX) if has_manifests else (MANIFESTS, MANIFEST)
    if found in allowed:
        return found
    if found in INDEXES | MANIFESTS:
        raise SourceError(f"{what}: expected what its media type {found} says, found another document")
    return usual
