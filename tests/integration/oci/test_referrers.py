"""Artifacts about an image: pulled from layouts and registries, copied, and pushed to either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cfsctl import OciPullOptions, RegistryOptions, Repository
from cfsctl.errors import CfsError, FormatError
from cfsctl.oci.media_types import INDEX, MANIFEST
from cfsctl.oci.pull import pull
from cfsctl.oci.referrers import add_referrers
from cfsctl.oci.registry.settings import RegistrySettings
from cfsctl.oci.source import SourceError
from cfsctl.oci.sources.opening import open_source
from cfsctl.oci.store.referrers import list_referrers
from tests.fakes.faulty_server import FaultyServer, respond
from tests.integration.http.jobs import QUICK
from tests.support.certificates import make_certificate
from tests.support.indexes import MultiImage, list_blobs
from tests.support.oci import to_json
from tests.support.programs import cfsctl, run_cfsctl
from tests.support.registry import Registry, run_registry
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.oci.pull import PullResult
    from cfsctl.progress import Event

WITH_REFERRERS = OciPullOptions(platform="linux/amd64", with_referrers=True)


@pytest.fixture(scope="module")
def full(multi: MultiImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository that has the index as ``app``, and all that is about it; not to be changed."""
    path = tmp_path_factory.mktemp("full") / "repo"
    with Repository.init(path, insecure=True) as opened:
        assert opened.oci.pull_index(f"oci:{multi.layout.path}:multi", "app", WITH_REFERRERS) is not None
    return path


def digest(described: dict[str, object]) -> str:
    return str(described["digest"])


def about(store: Repository, name: str) -> set[str]:
    """Return what is known to be about an image or index."""
    index = store.oci.find_index(name)
    found = store.oci.inspect(name).referrers if index is None else store.oci.inspect_index(index).referrers
    return {str(one) for one in found}


def test_from_a_layout(multi: MultiImage, store: Repository) -> None:
    result = store.oci.pull(f"oci:{multi.layout.path}:one", "app", WITH_REFERRERS)
    assert [str(one) for one in result.referrers] == [digest(multi.referrers["amd64"])]
    assert about(store, "app") == {digest(multi.referrers["amd64"])}
    store.gc()
    assert store.oci.fsck(deep=True).is_ok
    assert about(store, "app") == {digest(multi.referrers["amd64"])}
    (listed,) = store.oci.images()
    assert listed.referrer_count == 1


def test_of_an_index_and_of_referrers(multi: MultiImage, pulled: Repository) -> None:
    assert about(pulled, "app") == {digest(multi.referrers["index"])}
    assert about(pulled, digest(multi.images["amd64"])) == {digest(multi.referrers["amd64"])}
    assert about(pulled, digest(multi.referrers["index"])) == {digest(multi.referrers["signature"])}
    pulled.gc()
    assert pulled.oci.fsck(deep=True).is_ok
    assert about(pulled, "app") == {digest(multi.referrers["index"])}
    pulled.oci.untag("app")
    pulled.gc()
    pulled.gc()  # what is about an image goes once the image has gone
    pulled.gc()
    assert [path.name for path in (Path(pulled.path) / "streams").iterdir()] == ["refs"]


@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_pushed_to_a_layout(multi: MultiImage, pulled: Repository, tmp_path: Path, transport: str) -> None:
    target = f"{transport}:{tmp_path}/out:t"
    assert pulled.oci.push("app", target, with_referrers=True).referrers == 3
    with make_repository(tmp_path / "again"):
        pass
    with Repository.open(tmp_path / "again") as again:
        found = again.oci.pull_index(target, "app", WITH_REFERRERS)
        assert found is not None
        assert {str(one) for one in found.referrers} == {digest(one) for one in multi.referrers.values()}


def test_a_directory_has_no_place_for_them(pulled: Repository, tmp_path: Path) -> None:
    with pytest.raises(CfsError, match="no place"):
        pulled.oci.push("app", f"dir:{tmp_path}/out", with_referrers=True)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_copied(multi: MultiImage, pulled: Repository, store: Repository) -> None:
    copy = ["oci", "copy", "--from", pulled.path, "--with-referrers", "--json"]
    one = json.loads(cfsctl("--repo", store.path, *copy, digest(multi.images["amd64"]), "--name", "one"))
    assert one["referrers"] == [digest(multi.referrers["amd64"])]
    copied = json.loads(cfsctl("--repo", store.path, *copy, "app", "--name", "app"))
    assert set(copied["referrers"]) == {digest(one) for one in multi.referrers.values()}
    store.gc()
    assert store.oci.fsck(deep=True).is_ok
    assert about(store, "app") == {digest(multi.referrers["index"])}


def test_left_out_if_the_manifest_changes(multi: MultiImage, store: Repository, tmp_path: Path) -> None:
    """A signature of another manifest than the one that is pushed proves nothing."""
    store.oci.pull(f"oci:{multi.layout.path}:one", "app", WITH_REFERRERS)
    push = ["oci", "push", "app", f"oci:{tmp_path}/out:t", "--with-referrers", "--json"]
    done = run_cfsctl("--repo", store.path, *push)
    assert json.loads(done.stdout)["referrers"] == 0
    assert "left out" in done.stderr


@pytest.fixture(scope="module", params=["basic", "token"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with run_registry(work, make_certificate(work), request.param) as running:
        yield running


def test_a_registry_without_the_api(
    multi: MultiImage, pulled: Repository, registry: Registry, tmp_path: Path
) -> None:
    """Lists of referrers have tags of their own there, which clients keep."""
    options = RegistryOptions(auth_file=registry.authfile, certificate_directory=registry.certificates)
    name = f"docker://{registry.host}/private/multi"
    for _ in range(2):  # the second time, all is there
        done = pulled.oci.push(
            "app", f"{name}:t", preserve_digests=True, with_referrers=True, registry=options
        )
        assert (str(done.manifest_digest), done.referrers) == (digest(multi.listed), 3)
    raw = registry.skopeo("inspect", "--raw", f"{name}:t").encode()
    assert raw == list_blobs(multi.layout.path)[digest(multi.listed)[7:]]
    tag = digest(multi.listed).replace(":", "-")
    listed = json.loads(registry.skopeo("inspect", "--raw", f"{name}:{tag}"))
    assert [entry["digest"] for entry in listed["manifests"]] == [digest(multi.referrers["index"])]
    with make_repository(tmp_path / "again"):
        pass
    with Repository.open(tmp_path / "again") as again:
        found = again.oci.pull_index(f"{name}:t", "app", WITH_REFERRERS, registry=options)
        assert found is not None
        assert {str(one) for one in found.referrers} == {digest(one) for one in multi.referrers.values()}
        assert again.oci.fsck(deep=True).is_ok


class Listing:
    """A registry on plain HTTP that has the referrers API, and says what a test wants it to say."""

    def __init__(self, server: FaultyServer, multi: MultiImage) -> None:
        self.server = server
        self.host = server.url.partition("://")[2]
        self.subject = multi.images["amd64"]
        blobs = list_blobs(multi.layout.path)
        for name, data in blobs.items():
            server.on(f"/v2/app/blobs/sha256:{name}", respond(data))
            server.on(f"/v2/app/manifests/sha256:{name}", respond(data, Content_Type=MANIFEST))
        server.on("/v2/app/manifests/t", respond(blobs[digest(self.subject)[7:]], Content_Type=MANIFEST))

    def say(self, entries: list[Any], path: str = "", link: str | None = None) -> None:
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        where = path or f"/v2/app/referrers/{digest(self.subject)}"
        body = to_json(document)
        self.server.on(
            where,
            respond(body, Content_Type=INDEX)
            if link is None
            else respond(body, Content_Type=INDEX, Link=link),
        )

    def pull(self, path: Path) -> tuple[PullResult, list[str], set[str]]:
        """Return what was pulled, what was said, and what is noted to be about it."""
        told: list[Event] = []
        settings = RegistrySettings(verifies_tls=False, limits=QUICK)
        source = open_source(f"docker://{self.host}/app:t", settings)
        try:
            with make_repository(path) as repository:
                result = pull(repository, source, reporter=told.append)
                result = add_referrers(repository, source, result, told.append)
                noted = {str(one) for one in list_referrers(repository, result.manifest_digest)}
                return result, [str(event) for event in told], noted
        finally:
            source.close()


@pytest.fixture
def listing(multi: MultiImage) -> Iterator[Listing]:
    with FaultyServer() as server:
        yield Listing(server, multi)


def test_pages(multi: MultiImage, listing: Listing, tmp_path: Path) -> None:
    second = f"/v2/app/referrers/{digest(listing.subject)}?last=1"
    listing.say([], link=f'<{second}>; rel="next"')
    listing.say([multi.referrers["amd64"]], second)
    assert listing.pull(tmp_path / "repo")[2] == {digest(multi.referrers["amd64"])}


def test_what_is_about_something_else_is_left_out(
    multi: MultiImage, listing: Listing, tmp_path: Path
) -> None:
    """Whoever lists artifacts could list any, also in circles."""
    listing.say([multi.referrers["index"], multi.images["arm64"], listing.subject, multi.referrers["amd64"]])
    listing.say(
        [listing.subject, multi.referrers["amd64"]], f"/v2/app/referrers/{digest(multi.referrers['amd64'])}"
    )
    result, told, noted = listing.pull(tmp_path / "repo")
    assert noted == {digest(multi.referrers["amd64"])} == {str(one) for one in result.referrers}
    assert sum("left out" in text for text in told) == 2


def test_what_is_gone_is_left_out(multi: MultiImage, listing: Listing, tmp_path: Path) -> None:
    gone = {"mediaType": MANIFEST, "digest": "sha256:" + "7" * 64, "size": 7}
    listing.say([gone, multi.referrers["amd64"]])
    _, told, noted = listing.pull(tmp_path / "repo")
    assert noted == {digest(multi.referrers["amd64"])}
    assert any("77777" in text and "left out" in text for text in told)


@pytest.mark.parametrize(
    ("link", "error"),
    [
        ('<https://elsewhere.example/v2/x>; rel="next"', SourceError),
        ('<http://[>; rel="next"', SourceError),
        ('<ftp://x/>; rel="next"', CfsError),
        ('<?>; rel="next"', FormatError),
    ],
    ids=["another server", "no URL", "another scheme", "the same page for ever"],
)
def test_pages_that_lead_astray(
    multi: MultiImage, listing: Listing, tmp_path: Path, link: str, error: type[Exception]
) -> None:
    entries = [multi.referrers["amd64"]]
    listing.say(entries, link=link)
    listing.say(entries, f"/v2/app/referrers/{digest(listing.subject)}?", link=link)
    with pytest.raises(error):
        listing.pull(tmp_path / "repo")


def test_more_than_are_taken(listing: Listing, tmp_path: Path) -> None:
    listing.say(
        [{"mediaType": MANIFEST, "digest": f"sha256:{number:064x}", "size": 7} for number in range(1100)]
    )
    with pytest.raises(FormatError, match="referrers"):
        listing.pull(tmp_path / "repo")


def test_artifacts_share_the_empty_config(multi: MultiImage, pulled: Repository) -> None:
    """Its stream has the layers of one of them; the others are found by their manifests."""
    for name in multi.referrers.values():
        assert pulled.oci.inspect(digest(name)).manifest
    refs = {digest(one)[7:12] for one in multi.referrers.values()}
    assert len(refs) == 3
    assert pulled.oci.fsck(deep=True).is_ok
