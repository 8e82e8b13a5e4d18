"""Pushing to registries: ``docker://NAME[:TAG]``."""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import quote, urlencode, urljoin

from cfsctl.errors import CfsError, FetchError
from cfsctl.http.errors import HTTPStatusError, TransferError
from cfsctl.http.upload import Uploader
from cfsctl.http.urls import check_url
from cfsctl.oci.destinations.base import DestinationError
from cfsctl.oci.destinations.layout import index_with
from cfsctl.oci.digest import compute_digest
from cfsctl.oci.manifest import Descriptor
from cfsctl.oci.media_types import INDEX
from cfsctl.oci.registry.client import MAX_ANSWERS, RegistryClient, explain
from cfsctl.oci.registry.configuration import Endpoint, find_endpoints, read_registries
from cfsctl.oci.registry.names import parse_image_name
from cfsctl.oci.registry.referrers import fallback_tag, read_fallback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.http.fetcher import Response
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.registry.settings import RegistrySettings

_MISSING: Final = 404
_ACCEPTED: Final = 202
_CREATED: Final = 201
_DIGEST_HEADER: Final = "docker-content-digest"
_SUBJECT_HEADER: Final = "oci-subject"


class RegistryDestination:
    """One name in a registry; mirrors are for pulls only."""

    def __init__(self, text: str, settings: RegistrySettings) -> None:
        """Connect to nothing yet.

        Raises:
            ImageReferenceError: The text is not a name.
            RegistryConfigError: A configuration file is not valid.
            RegistryBlockedError: The configuration forbids it.
        """
        self._name = parse_image_name(text)
        *_, endpoint = find_endpoints(read_registries(settings.registries_files), self._name)
        self._client = RegistryClient(endpoint, settings, "pull,push")
        self._uploader = Uploader(settings.limits, self._client.options)

    @property
    def name(self) -> str:
        """What messages call the place."""
        return f"docker://{self._name}"

    @property
    def _endpoint(self) -> Endpoint:
        return self._client.endpoint

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether the registry has a blob in this repository."""
        url = self._client.url(f"blobs/{descriptor.digest}")
        what = f"blob {descriptor.digest}"
        return self._uploader.retry(lambda: self._send("HEAD", url, what)).status != _MISSING

    @property
    def host(self) -> str:
        """The registry; see `cfsctl.oci.destinations.base.MountingDestination`."""
        return self._name.host

    def try_mount(self, descriptor: Descriptor, path: str) -> bool:
        """Take a blob from another repository; see `cfsctl.oci.destinations.base.MountingDestination`."""
        if path == self._endpoint.path or self._name.host != self._endpoint.host:
            return False
        query = urlencode({"mount": str(descriptor.digest), "from": path})
        what = f"blob {descriptor.digest}"
        try:
            with self._client.reading(path):  # the token has to allow it
                done = self._send("POST", self._client.url(f"blobs/uploads/?{query}"), what)
        except (CfsError, OSError):
            return False  # then it is sent, and what is wrong will show
        if done.status == _CREATED:
            self._check_created(done, descriptor, what)
            return True
        self._cancel(done, what)
        return False

    def _cancel(self, began: Response, what: str) -> None:
        """End an upload that the registry has begun in place of taking the blob from there."""
        place = began.fields.get("location")
        if began.status == _ACCEPTED and place:
            with contextlib.suppress(CfsError, OSError):  # the registry forgets it after some time
                self._send("DELETE", self._check_place(place, what), what)

    def put_blob(self, descriptor: Descriptor, file: IO[bytes]) -> None:
        """Upload a blob in one piece."""
        start = file.tell()

        def upload() -> None:
            file.seek(start)
            self._upload(descriptor, file)

        self._uploader.retry(upload)

    def _upload(self, descriptor: Descriptor, file: IO[bytes]) -> None:
        what = f"blob {descriptor.digest}"
        began = self._send("POST", self._client.url("blobs/uploads/"), what)
        place = began.fields.get("location")
        if began.status != _ACCEPTED or not place:
            raise DestinationError(
                f"{what}: {self._endpoint.host} does not take uploads (HTTP status {began.status})"
            )
        url = self._check_place(place, what)
        separator = "&" if "?" in url else "?"
        target = f"{url}{separator}digest={quote(str(descriptor.digest))}"
        headers = {"Content-Type": "application/octet-stream"}
        done = self._send("PUT", target, what, headers, file, descriptor.size)
        self._check_created(done, descriptor, what)

    def _check_place(self, place: str, what: str) -> str:
        """Return where to send a blob; never from TLS to plain HTTP."""
        url = urljoin(self._client.url("blobs/uploads/"), place)
        check_url(url)
        if self._client.base.startswith("https:") and not url.startswith("https:"):
            raise DestinationError(f"{what}: {self._endpoint.host} refused to upload over plain HTTP")
        return url

    def _check_created(self, response: Response, descriptor: Descriptor, what: str) -> None:
        if response.status != _CREATED:
            raise DestinationError(
                f"{what}: expected HTTP status {_CREATED} from {self._endpoint.host}, found {response.status}"
            )
        stored = response.fields.get(_DIGEST_HEADER)
        if stored is not None and stored != str(descriptor.digest):
            raise DestinationError(f"{what}: {self._endpoint.host} has stored {stored} instead")

    def put_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        """Store the manifest under the tag, or under its digest if there is no tag."""
        if self._name.digest is not None and self._name.digest != descriptor.digest:
            raise DestinationError(
                f"manifest {descriptor.digest}: cannot be stored under {self._name.digest}"
            )
        self._put_document(descriptor, data, self._name.tag or str(descriptor.digest))

    def put_listed(self, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest under its digest."""
        self._put_document(descriptor, data, str(descriptor.digest))

    def put_referrer(self, subject: OciDigest, descriptor: Descriptor, data: bytes) -> None:
        """Store the manifest of an artifact; a registry that does not list such gets a list of them."""
        done = self._put_document(descriptor, data, str(descriptor.digest))
        if done.fields.get(_SUBJECT_HEADER) is not None:
            return
        old = read_fallback(self._client, subject)
        new = index_with(old, descriptor, None)
        if new != old:
            listed = Descriptor(INDEX, compute_digest(new), len(new), {})
            self._put_document(listed, new, fallback_tag(subject))

    def _put_document(self, descriptor: Descriptor, data: bytes, reference: str) -> Response:
        """Store a manifest or index under a tag or digest."""
        what = f"manifest {descriptor.digest}"
        url = self._client.url(f"manifests/{reference}")
        headers = {"Content-Type": descriptor.media_type}
        done = self._uploader.retry(lambda: self._send("PUT", url, what, headers, data, len(data)))
        self._check_created(done, descriptor, what)
        return done

    def _send(
        self,
        method: str,
        url: str,
        what: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] | None = None,
        size: int = 0,
    ) -> Response:
        start = body.tell() if body is not None and not isinstance(body, bytes) else 0
        answers = 0
        while True:
            if body is not None and not isinstance(body, bytes):
                body.seek(start)
            is_home = url.startswith(f"{self._client.base}/")
            try:
                return self._uploader.send(
                    method,
                    url,
                    headers=headers,
                    authorization=self._client.authorization if is_home else None,
                    body=body,
                    size=size,
                )
            except TransferError as error:
                answers += 1
                if answers <= MAX_ANSWERS and self._client.answer(error):
                    continue
                raise self._explain(error, what) from error

    def _explain(self, error: TransferError, what: str) -> Exception:
        """Return what a failure means; one of the moment stays as it is, so that it is tried again."""
        if error.is_transient:
            return error
        explained = explain(error, what, self._endpoint)
        if isinstance(explained, FetchError) and isinstance(error, HTTPStatusError):
            explained.hint = error.hint or explained.hint
        return explained

    def close(self) -> None:
        """Close all connections."""
        self._uploader.close()
        self._client.close()
