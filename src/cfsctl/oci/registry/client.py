"""One repository of one registry, asked by the protocol of the distribution specification."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cfsctl.errors import ExitCode, FetchError
from cfsctl.http import open_fetcher
from cfsctl.http.auth import UNAUTHORIZED, Authenticator
from cfsctl.http.errors import OK, HTTPStatusError, NotTLSError, TLSError, TransferError
from cfsctl.http.urls import named_origins
from cfsctl.oci.media_types import DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST
from cfsctl.oci.registry.certificates import find_certificates, read_certificates
from cfsctl.oci.registry.credentials import find_credentials
from cfsctl.oci.registry.names import server_of
from cfsctl.oci.source import ImageNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cfsctl.errors import CfsError
    from cfsctl.http.auth import Credentials
    from cfsctl.http.fetcher import Fetcher, Options, Response
    from cfsctl.oci.registry.configuration import Endpoint
    from cfsctl.oci.registry.settings import RegistrySettings

MAX_ANSWERS: Final = 2
"""Challenges that are answered for one request: a token may have ended, and the next may need more."""

_ACCEPT: Final = f"{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_MAX_PROBE_BYTES: Final = 1 << 20


class AccessDeniedError(FetchError):
    """A registry that requires a login, or denies access."""

    exit_code = ExitCode.POLICY


_TLS_HINT: Final = (
    "check the name; --cert-dir names a directory with the certificate of the registry's authority (*.crt);"
    " --tls-verify=false does without a proof"
)
_NO_TLS_HINT: Final = "the registry does not speak TLS on this port: --tls-verify=false allows plain HTTP"
"""What to do about servers; the options of other commands mean nothing to those that use registries."""

_HERE: Final = ("localhost:", "localhost/", "127.", "[::1]")
"""Begins the names of servers that are this machine."""


class RegistryClient:
    """Reads from one repository of a registry. May be used in forked processes, which connect again.

    Attributes:
        endpoint: The repository.
        fetcher: Reaches its server.
        is_proven: Whether it is certain which server answers: it proves it, or is this machine.
    """

    def __init__(self, endpoint: Endpoint, settings: RegistrySettings, actions: str = "pull") -> None:
        """Connect to nothing yet.

        Args:
            endpoint: The repository.
            settings: How servers are reached.
            actions: What will be done, as tokens have it.
        """
        self.endpoint = endpoint
        self._settings = settings
        self._scopes: tuple[str, ...] = (f"repository:{endpoint.path}:{actions}",)
        verifies = settings.verifies_tls
        self._is_insecure = endpoint.insecure if verifies is None else not verifies
        self.is_proven = not self._is_insecure or server_of(endpoint.host).startswith(_HERE)
        self.options = self._make_options()
        self.fetcher = open_fetcher(settings.limits, self.options, transport=settings.transport)
        self._base: str | None = None
        self._authenticator: Authenticator | None = None

    def _make_options(self) -> Options:
        server = server_of(self.endpoint.host)
        settings = self._settings
        options = settings.options
        certificates = (
            find_certificates(settings.certificate_directories, self.endpoint.host)
            if settings.certificate_directory is None
            else read_certificates(settings.certificate_directory)
        )
        return replace(
            options,
            more_authorities=(*options.more_authorities, *certificates.authorities),
            verifies_tls=not self._is_insecure,
            client_certificate=certificates.certificate,
            client_key=certificates.key,
            origins=named_origins([f"https://{server}/"]),
        )

    @property
    def base(self) -> str:
        """The server's URL; if that is allowed, plain HTTP if the server does not support TLS."""
        if self._base is None:
            server = server_of(self.endpoint.host)
            scheme = "http" if self._is_insecure and not self._speaks_tls(server) else "https"
            self._base = f"{scheme}://{server}"
        return self._base

    def open_plain_fetcher(self) -> Fetcher:
        """Return a fetcher for other servers, without this registry's credentials and certificates."""
        settings = self._settings
        return open_fetcher(settings.limits, settings.options, transport=settings.transport)

    def _speaks_tls(self, server: str) -> bool:
        limits = replace(self._settings.limits, attempts=1)
        fetcher = open_fetcher(limits, self.options, transport=self._settings.transport)
        try:
            fetcher.get(f"https://{server}/v2/", limit_bytes=_MAX_PROBE_BYTES)
        except HTTPStatusError:
            return True
        except TransferError:
            return False
        finally:
            fetcher.close()
        return True

    def url(self, path: str) -> str:
        """Return the URL of a path below the repository."""
        return f"{self.base}/v2/{self.endpoint.path}/{path}"

    @property
    def authenticator(self) -> Authenticator:
        """What answers the server's challenges."""
        if self._authenticator is None:
            self._authenticator = Authenticator(
                self.fetcher, self.base, self._find_credentials, self._post_form
            )
        return self._authenticator

    def _post_form(self, url: str, form: bytes) -> bytes:
        from cfsctl.http.upload import Uploader  # few have such a token

        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        uploader = Uploader(self._settings.limits, self.options, answer_timeout_s=0)
        try:
            answer = uploader.retry(
                lambda: uploader.send("POST", url, headers=headers, body=form, size=len(form))
            )
        finally:
            uploader.close()
        if answer.status != OK:
            raise HTTPStatusError(url, answer.status)
        return answer.body

    def _find_credentials(self) -> Credentials | None:
        settings = self._settings
        return find_credentials(settings.auth_files, self.endpoint.repository, settings.helper_path)

    @property
    def authorization(self) -> str | None:
        """The header field's value for requests to the server, as far as it is known."""
        return self.authenticator.find_authorization(self._scopes)

    def answer(self, error: TransferError) -> bool:
        """Answer a challenge; return whether to ask again."""
        return self.authenticator.answer(error, self._scopes)

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Have requests in the block authorised to read another repository as well."""
        before = self._scopes
        self._scopes = (*before, f"repository:{path}:pull")
        try:
            yield
        finally:
            self._scopes = before

    def get_manifest(self, reference: str, limit_bytes: int) -> Response:
        """Return a manifest or index by its tag or digest; nothing of it was checked.

        Raises:
            ImageNotFoundError: It does not exist.
            AccessDeniedError: It is not for us.
            TransferError: It could not be had.
        """
        what = f"manifest {reference}"
        return self.get(self.url(f"manifests/{reference}"), what, limit_bytes, {"Accept": _ACCEPT})

    def get(
        self, url: str, what: str, limit_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return a document; see `get_manifest`."""
        answers = 0
        while True:
            authorization = self.authorization
            try:
                return self.fetcher.get(
                    url, limit_bytes=limit_bytes, headers=headers, authorization=authorization
                )
            except TransferError as error:
                answers += 1
                if answers > MAX_ANSWERS or not self.answer(error):
                    raise explain(error, what, self.endpoint) from error

    def close(self) -> None:
        """Close all connections of this process."""
        self.fetcher.close()


def explain(error: TransferError, what: str, endpoint: Endpoint) -> CfsError:
    """Return what the failure of a request means.

    Args:
        error: The failure.
        what: What was wanted.
        endpoint: From where.
    """
    status = error.status if isinstance(error, HTTPStatusError) else 0
    if status == _NOT_FOUND:
        return ImageNotFoundError(f"{what}: not found in {endpoint.repository}")
    if status in {UNAUTHORIZED, _FORBIDDEN}:
        return AccessDeniedError(
            f"{what}: {endpoint.host} denies access to {endpoint.repository} (HTTP status {status})",
            hint="log in with `podman login`, `skopeo login` or `docker login`, and check the name",
        )
    if isinstance(error, TLSError):
        error.hint = _NO_TLS_HINT if isinstance(error, NotTLSError) else _TLS_HINT
    return error.about(what)
