"""A registry that lies, stalls, truncates, throttles and sends elsewhere: what a pull makes of it.

Whatever happens, nothing that was not verified has a name, no credentials leave their origin, and the same
pull from an honest registry succeeds afterwards.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import pytest

from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError, FetchError, ReceivedDigestError
from cfsctl.http import Transport
from cfsctl.http.auth import AuthenticationError
from cfsctl.http.errors import FetchTimeoutError, HTTPStatusError, RedirectError, TooLargeError, TransferError
from cfsctl.json_fields import MAX_DOCUMENT_BYTES, JsonError
from cfsctl.oci.manifest import ManifestError, Platform
from cfsctl.oci.media_types import INDEX, MANIFEST
from cfsctl.oci.pull import pull
from cfsctl.oci.registry.client import AccessDeniedError
from cfsctl.oci.registry.settings import RegistrySettings
from cfsctl.oci.source import ImageNotFoundError, SourceError
from cfsctl.oci.sources.opening import open_source
from cfsctl.repository.check.fsck import check_repository
from tests.fakes.faulty_server import FaultyServer, announce, endless, redirect, reset, respond, stall
from tests.integration.http.jobs import BRIEF, QUICK, SILENT
from tests.support.certificates import make_certificate
from tests.support.oci import Layout, digest_of, directory, file, make_tar, to_json
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.http.fetcher import Limits
    from cfsctl.oci.pull import PullResult
    from cfsctl.repository import Repository
    from tests.fakes.faulty_server import Reaction

AMD64 = Platform("linux", "amd64")
LAYER = make_tar([directory("usr"), file("usr/large", bytes(range(256)) * 200)])
BASIC = "Basic " + base64.b64encode(b"user:SECRET").decode()
CHALLENGE = 'Basic realm="x"'


class Image(NamedTuple):
    """An image in a registry that answers properly unless it is told otherwise."""

    server: FaultyServer
    manifest: bytes
    config: bytes

    @property
    def host(self) -> str:
        return self.server.url.partition("://")[2]

    @property
    def manifest_path(self) -> str:
        return "/v2/team/image/manifests/t"

    @property
    def blob_path(self) -> str:
        return f"/v2/team/image/blobs/{digest_of(LAYER)}"

    def on_blob(self, *reactions: Reaction) -> str:
        return self.server.on(self.blob_path, *reactions)

    def on_manifest(self, *reactions: Reaction) -> str:
        return self.server.on(self.manifest_path, *reactions)

    def answer_properly(self) -> None:
        self.on_manifest(respond(self.manifest, Content_Type=MANIFEST))
        self.on_blob(respond(LAYER))
        self.server.on(f"/v2/team/image/blobs/{digest_of(self.config)}", respond(self.config))


@pytest.fixture(params=Transport, ids=lambda transport: transport.value)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    if chosen is Transport.CURL:
        pytest.importorskip("pycurl")
    return chosen


def make_image(server: FaultyServer, path: Path) -> Image:
    layout = Layout(path)
    layout.add_image("t", [LAYER])
    blobs = {blob.name: blob.read_bytes() for blob in (path / "blobs" / "sha256").iterdir()}
    entry: Any = layout.entries[0]
    manifest = blobs[entry["digest"].partition(":")[2]]
    image = Image(server, manifest, blobs[json.loads(manifest)["config"]["digest"].partition(":")[2]])
    image.answer_properly()
    return image


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    with FaultyServer() as server:
        yield make_image(server, tmp_path / "layout")


@pytest.fixture
def elsewhere() -> Iterator[FaultyServer]:
    """Return a server of another origin."""
    with FaultyServer() as server:
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", Algorithm.SHA256) as made:
        yield made


class Puller:
    """Pulls the image, with credentials for its registry."""

    def __init__(self, image: Image, repository: Repository, tmp_path: Path, transport: Transport) -> None:
        authfile = tmp_path / "auth.json"
        text = base64.b64encode(b"user:SECRET").decode()
        authfile.write_text(json.dumps({"auths": {image.host: {"auth": text}}}))
        self.image = image
        self.repository = repository
        self.settings = RegistrySettings(
            auth_files=(str(authfile),), verifies_tls=False, limits=QUICK, transport=transport
        )

    def pull(self, reference: str = ":t") -> PullResult:
        source = open_source(f"docker://{self.image.host}/team/image{reference}", self.settings)
        try:
            return pull(self.repository, source, "t", platform=AMD64)
        finally:
            source.close()

    def fail(
        self, error: type[CfsError], text: str, reference: str = ":t", *, limits: Limits = QUICK
    ) -> None:
        """Pull in vain, look at what is left, and pull again from an honest registry, with patience."""
        patient = self.settings
        self.settings = replace(patient, limits=limits)
        with pytest.raises(error, match=text):
            self.pull(reference)
        self.settings = patient
        assert self.repository.streams.list_streams() == []
        assert check_repository(self.repository, deep=True).is_ok
        self.image.answer_properly()
        assert self.pull().image is not None
        assert check_repository(self.repository, deep=True).is_ok


@pytest.fixture
def puller(image: Image, repository: Repository, tmp_path: Path, transport: Transport) -> Puller:
    return Puller(image, repository, tmp_path, transport)


def rest(start: int, body: bytes = LAYER) -> Reaction:
    """Answer with the rest of a body."""
    span = f"bytes {start}-{len(body) - 1}/{len(body)}"
    return respond(body[start:], 206, Content_Range=span)


HALF = len(LAYER) // 2
OTHER = bytes(len(LAYER))
REFUSED: dict[str, tuple[list[Reaction], type[CfsError], str]] = {
    "another body": ([respond(OTHER)], ReceivedDigestError, "layer .*: blob: expected digest"),
    "a longer body": ([respond(LAYER + b"x")], TooLargeError, "larger than the limit"),
    "a longer body without a length": ([endless(LAYER)], TooLargeError, "larger than the limit"),
    "a shorter body": ([respond(LAYER[:-1])], SourceError, "Expected size"),
    "a body that breaks off every time": ([announce(len(LAYER), LAYER[:9])], TransferError, "shorter|closed"),
    "a body that stalls": ([stall(LAYER[:9], len(LAYER))], FetchTimeoutError, "less than|too slow|timed out"),
    "no answer": ([stall()], FetchTimeoutError, "time|slow"),
    "a connection that is reset": ([reset()], FetchError, "reset|closed|Recv|Connection"),
    "a rest of another body": (
        [announce(len(LAYER), LAYER[:HALF]), rest(HALF, OTHER), respond(OTHER)],
        ReceivedDigestError,
        "expected digest",
    ),
    "no such blob": ([respond(b"{}", 404)], ImageNotFoundError, "blob sha256:.*: not found in"),
    "an error for ever": ([respond(b"", 503)], HTTPStatusError, "503"),
    "too many requests for ever": ([respond(b"", 429, Retry_After="1")], HTTPStatusError, "429"),
    "forbidden": ([respond(b"", 403)], AccessDeniedError, "denies access"),
    "a challenge for ever": ([respond(b"", 401, WWW_Authenticate=CHALLENGE)], AccessDeniedError, "denies"),
    "a challenge of no scheme": ([respond(b"", 401, WWW_Authenticate='="')], AccessDeniedError, "denies"),
    "a challenge without a place": (
        [respond(b"", 401, WWW_Authenticate="Bearer realm=x")],
        AuthenticationError,
        "where to get a token",
    ),
    "a redirect to another scheme": ([redirect("file:///etc/passwd")], RedirectError, "refused to follow"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_blob_that_is_not_taken(puller: Puller, case: str) -> None:
    reactions, error, text = REFUSED[case]
    puller.image.on_blob(*reactions)
    puller.fail(error, text, limits=SILENT if error is FetchTimeoutError else QUICK)


SURVIVED: dict[str, tuple[list[Reaction], list[str | None]]] = {
    "an error now": ([respond(b"", 503), respond(LAYER)], [None, None]),
    "too many requests now": ([respond(b"", 429, Retry_After="0"), respond(LAYER)], [None, None]),
    "a body that breaks off": ([announce(len(LAYER), LAYER[:HALF]), rest(HALF)], [None, f"bytes={HALF}-"]),
    "a body that is reset": ([reset(), respond(LAYER)], [None, None]),
    "a server without ranges": (
        [announce(len(LAYER), LAYER[:HALF]), respond(LAYER), respond(LAYER)],
        [None, f"bytes={HALF}-", None],
    ),
}


@pytest.mark.parametrize("case", SURVIVED)
def test_a_blob_that_comes_in_the_end(puller: Puller, case: str) -> None:
    reactions, ranges = SURVIVED[case]
    puller.image.on_blob(*reactions)
    assert puller.pull().image is not None
    assert [fields.get("range") for fields in puller.image.server.seen[puller.image.blob_path]] == ranges


def test_a_stalled_body_goes_on_where_it_was(puller: Puller) -> None:
    puller.settings = replace(puller.settings, limits=replace(BRIEF, attempts=60, timeout_attempts=60))
    # So few bytes that they are not taken for a fast transfer some seconds later.
    puller.image.on_blob(stall(LAYER[:1500], len(LAYER)), rest(1500))
    assert puller.pull().image is not None


def manifests(image: Image) -> dict[str, tuple[Reaction, type[CfsError], str]]:
    document = json.loads(image.manifest)
    both = to_json(document | {"manifests": []})
    as_index = to_json(document | {"mediaType": INDEX})
    return {
        "no JSON": (respond(b"<html>"), JsonError, "expected JSON"),
        "a list": (respond(b"[]"), JsonError, "expected a JSON object"),
        "another document": (respond(b"{}"), SourceError, "expected an image manifest or index"),
        "both": (respond(both), SourceError, "found both"),
        "a manifest that says that it is an index": (
            respond(as_index),
            SourceError,
            "found another document",
        ),
        "schema 1": (
            respond(to_json({"schemaVersion": 1, "fsLayers": []})),
            SourceError,
            "expected an image manifest or index",
        ),
        "too much": (respond(b" " * (MAX_DOCUMENT_BYTES + 1)), TooLargeError, "larger than the limit"),
        "another digest": (
            respond(image.manifest, Docker_Content_Digest=digest_of(b"")),
            ReceivedDigestError,
            "expected digest",
        ),
        "not there": (respond(b"", 404), ImageNotFoundError, "manifest t: not found in"),
        "an index of what is not there": (
            respond(
                to_json(
                    {
                        "schemaVersion": 2,
                        "manifests": [{"mediaType": MANIFEST, "digest": digest_of(b"x"), "size": 1}],
                    }
                )
            ),
            ImageNotFoundError,
            "not found in",
        ),
    }


@pytest.mark.parametrize(
    "case",
    [
        "no JSON",
        "a list",
        "another document",
        "both",
        "a manifest that says that it is an index",
        "schema 1",
        "too much",
        "another digest",
        "not there",
        "an index of what is not there",
    ],
)
def test_a_manifest_that_is_not_taken(puller: Puller, case: str) -> None:
    reaction, error, text = manifests(puller.image)[case]
    puller.image.on_manifest(reaction)
    puller.fail(error, text)


def test_another_manifest_under_a_digest(puller: Puller) -> None:
    digest = digest_of(puller.image.manifest)
    puller.image.server.on(f"/v2/team/image/manifests/{digest}", respond(puller.image.manifest + b"\n"))
    puller.fail(ReceivedDigestError, "expected digest", f"@{digest}")


class TestCredentials:
    """They are for the registry, once it has asked for them, and for no other server."""

    def test_are_sent_after_a_challenge_only(self, puller: Puller) -> None:
        image = puller.image
        image.on_manifest(
            respond(b"", 401, WWW_Authenticate=CHALLENGE), respond(image.manifest, Content_Type=MANIFEST)
        )
        puller.pull()
        sent = [fields.get("authorization") for fields in image.server.seen[image.manifest_path]]
        assert sent == [None, BASIC]
        assert image.server.seen[image.blob_path][0]["authorization"] == BASIC

    def test_stay_where_a_redirect_leads_away(self, puller: Puller, elsewhere: FaultyServer) -> None:
        image = puller.image
        image.on_manifest(
            respond(b"", 401, WWW_Authenticate=CHALLENGE), respond(image.manifest, Content_Type=MANIFEST)
        )
        image.on_blob(redirect(elsewhere.on("/blob", respond(LAYER)), 307))
        assert puller.pull().image is not None
        (fields,) = elsewhere.seen["/blob"]
        assert "authorization" not in fields
        assert image.server.seen[image.blob_path][0]["authorization"] == BASIC

    def test_are_not_given_to_who_asks_there(self, puller: Puller, elsewhere: FaultyServer) -> None:
        target = elsewhere.on("/blob", respond(b"", 401, WWW_Authenticate=CHALLENGE))
        puller.image.on_blob(redirect(target, 307))
        puller.fail(AccessDeniedError, "denies access")
        assert [fields.get("authorization") for fields in elsewhere.seen["/blob"]] == [None]

    def test_go_to_the_service_that_the_registry_names_and_the_token_comes_back(
        self, puller: Puller, elsewhere: FaultyServer
    ) -> None:
        image = puller.image
        query = "account=user&service=s&scope=repository%3Ateam%2Fimage%3Apull"
        elsewhere.on(f"/token?{query}", respond(to_json({"access_token": "T", "expires_in": 600})))
        challenge = f'Bearer realm="{elsewhere.url}/token",service="s"'
        image.on_manifest(
            respond(b"", 401, WWW_Authenticate=challenge), respond(image.manifest, Content_Type=MANIFEST)
        )
        image.on_blob(redirect(elsewhere.on("/blob", respond(LAYER)), 307))
        assert puller.pull().image is not None
        assert [fields.get("authorization") for fields in elsewhere.seen[f"/token?{query}"]] == [BASIC]
        assert image.server.seen[image.blob_path][0]["authorization"] == "Bearer T"
        assert "authorization" not in elsewhere.seen["/blob"][0]

    def test_an_identity_token_goes_to_that_service_in_a_form(
        self, puller: Puller, elsewhere: FaultyServer, tmp_path: Path
    ) -> None:
        image = puller.image
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {image.host: {"identitytoken": "IT"}}}))
        elsewhere.on("/token", respond(to_json({"access_token": "T", "expires_in": 600})))
        challenge = f'Bearer realm="{elsewhere.url}/token",service="s"'
        image.on_manifest(
            respond(b"", 401, WWW_Authenticate=challenge), respond(image.manifest, Content_Type=MANIFEST)
        )
        assert puller.pull().image is not None
        (form,) = elsewhere.bodies["/token"]
        assert dict(parse_qsl(form.decode())) == {
            "client_id": "cfsctl",
            "grant_type": "refresh_token",
            "refresh_token": "IT",
            "scope": "repository:team/image:pull",
            "service": "s",
        }
        assert "authorization" not in elsewhere.seen["/token"][0]
        assert image.server.seen[image.blob_path][0]["authorization"] == "Bearer T"

    def test_an_identity_token_that_is_refused(self, puller: Puller, elsewhere: FaultyServer) -> None:
        authfile = puller.settings.auth_files[0]
        with open(authfile, "w", encoding="utf-8") as file:
            json.dump({"auths": {puller.image.host: {"identitytoken": "IT"}}}, file)
        elsewhere.on("/token", respond(b"", 401))
        challenge = f'Bearer realm="{elsewhere.url}/token"'
        puller.image.on_manifest(respond(b"", 401, WWW_Authenticate=challenge))
        puller.fail(AuthenticationError, "gives no token to user .identity token.: HTTP status 401")

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (b"<html>", "expected JSON"),
            (b"{}", "access_token"),
            (to_json({"token": "a\r\nX: y"}), "printable ASCII"),
            (to_json({"token": "a", "expires_in": "soon"}), "expires_in"),
            (b" " * ((1 << 20) + 1), "larger than the limit"),
        ],
    )
    def test_a_service_that_gives_no_token(
        self, puller: Puller, elsewhere: FaultyServer, answer: bytes, text: str
    ) -> None:
        path = "/token?account=user&scope=repository%3Ateam%2Fimage%3Apull"
        elsewhere.on(path, respond(answer))
        challenge = f'Bearer realm="{elsewhere.url}/token"'
        puller.image.on_manifest(respond(b"", 401, WWW_Authenticate=challenge))
        puller.fail(FetchError, text)

    def test_a_secure_registry_cannot_send_them_to_an_insecure_service(
        self, tmp_path: Path, repository: Repository, transport: Transport, elsewhere: FaultyServer
    ) -> None:
        with FaultyServer(certificate=make_certificate(tmp_path)) as server:
            image = make_image(server, tmp_path / "layout")
            challenge = f'Bearer realm="{elsewhere.url}/token"'
            image.on_manifest(respond(b"", 401, WWW_Authenticate=challenge))
            puller = Puller(image, repository, tmp_path, transport)
            puller.fail(AuthenticationError, "which is not https")
        assert not elsewhere.counts


def test_a_mirror_that_lies_about_a_digest_is_passed_over(
    puller: Puller, elsewhere: FaultyServer, tmp_path: Path
) -> None:
    image = puller.image
    digest = digest_of(image.manifest)
    image.server.on(f"/v2/team/image/manifests/{digest}", respond(image.manifest))
    elsewhere.on(f"/v2/copy/image/manifests/{digest}", respond(b"{}"))
    configuration = tmp_path / "registries.conf"
    configuration.write_text(f"""
        [[registry]]
        prefix = "{image.host}/team"
        location = "{image.host}/team"
        [[registry.mirror]]
        location = "{elsewhere.url.partition("://")[2]}/copy"
        pull-from-mirror = "digest-only"
    """)
    puller.settings = replace(puller.settings, registries_files=(str(configuration),))
    assert puller.pull(f"@{digest}").image is not None
    assert elsewhere.counts[f"/v2/copy/image/manifests/{digest}"] == 1
    assert all("authorization" not in fields for seen in elsewhere.seen.values() for fields in seen)


def test_a_blob_that_a_mirror_does_not_have_comes_from_the_registry(
    puller: Puller, elsewhere: FaultyServer, tmp_path: Path
) -> None:
    image = puller.image
    elsewhere.on("/v2/copy/image/manifests/t", respond(image.manifest, Content_Type=MANIFEST))
    elsewhere.on(f"/v2/copy/image/blobs/{digest_of(LAYER)}", announce(len(LAYER), LAYER[:HALF]))
    configuration = tmp_path / "registries.conf"
    configuration.write_text(f"""
        [[registry]]
        location = "{image.host}/team"
        [[registry.mirror]]
        location = "{elsewhere.url.partition("://")[2]}/copy"
    """)
    puller.settings = replace(puller.settings, registries_files=(str(configuration),))
    assert puller.pull().image is not None
    assert image.server.counts[image.manifest_path] == 0
    # The registry is asked for the rest, which it does not know, and then for all of it.
    assert image.server.counts[image.blob_path] in {1, 2}


class TestForeignLayers:
    """Layers that an image says are elsewhere as well."""

    def prepare(self, puller: Puller, *urls: str) -> None:
        """Have the registry lack the layer, and its manifest name other places."""
        document = json.loads(puller.image.manifest)
        document["layers"][0]["urls"] = list(urls)
        puller.image.on_manifest(respond(to_json(document), Content_Type=MANIFEST))
        puller.image.on_blob(respond(b"{}", 404))

    def test_they_come_from_there(self, puller: Puller, elsewhere: FaultyServer) -> None:
        good = elsewhere.on("/good", respond(LAYER))
        bad = elsewhere.on("/bad", respond(b"", 404))
        self.prepare(puller, "file:///etc/passwd", bad, good)
        assert puller.pull().image is not None
        for path in ("/good", "/bad"):
            assert not any("authorization" in fields for fields in elsewhere.seen[path])

    def test_the_registry_is_asked_first(self, puller: Puller, elsewhere: FaultyServer) -> None:
        self.prepare(puller, elsewhere.on("/good", respond(LAYER)))
        puller.image.on_blob(respond(LAYER))
        puller.pull()
        assert not elsewhere.counts

    def test_other_data_is_refused(self, puller: Puller, elsewhere: FaultyServer) -> None:
        self.prepare(puller, elsewhere.on("/bad", respond(OTHER)))
        puller.fail(ReceivedDigestError, "blob: expected digest")

    def test_challenges_are_not_answered(self, puller: Puller, elsewhere: FaultyServer) -> None:
        place = elsewhere.on("/wants", respond(b"", 401, WWW_Authenticate=CHALLENGE))
        self.prepare(puller, place)
        puller.fail(HTTPStatusError, "blob sha256:.*401")
        assert not any("authorization" in fields for fields in elsewhere.seen["/wants"])

    @pytest.mark.parametrize("url", ["ftp://host/x", "http://user:SECRET@host/x", "https:///x", "x"])
    def test_other_places_are_refused(self, puller: Puller, url: str) -> None:
        self.prepare(puller, url)
        with pytest.raises(SourceError, match="expected an http or https URL") as found:
            puller.pull()
        assert "SECRET" not in str(found.value)

    def test_the_number_is_limited(self, puller: Puller) -> None:
        self.prepare(puller, *["http://host/x"] * 17)
        puller.fail(ManifestError, "urls: expected at most 16")
