"""Images on their way out: to layouts, archives, directories and registries, read again by others."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from cfsctl.digest import Algorithm
from cfsctl.errors import IntegrityError, ReceivedDigestError
from cfsctl.http.errors import HTTPStatusError
from cfsctl.oci.destinations.base import DestinationError
from cfsctl.oci.destinations.opening import open_destination
from cfsctl.oci.manifest import Platform
from cfsctl.oci.pull import pull
from cfsctl.oci.push import DigestChangedError, PushResult, push
from cfsctl.oci.reference import UnsupportedTransportError
from cfsctl.oci.registry.client import AccessDeniedError
from cfsctl.oci.registry.settings import RegistrySettings
from cfsctl.oci.sources.opening import open_source
from cfsctl.oci.store.blobs import KeptSource
from cfsctl.oci.store.documents import find_only_object
from cfsctl.oci.store.images import open_found, resolve, set_tag
from cfsctl.oci.store.names import TAGS
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc.collect import collect_garbage
from tests.fakes.faulty_server import FaultyServer, respond
from tests.integration.http.jobs import QUICK
from tests.support import schemas
from tests.support.certificates import make_certificate
from tests.support.oci import LAYER, Layout, digest_of, directory, example_layers, file, make_tar
from tests.support.programs import require, run_cfsctl
from tests.support.registry import Registry, run_registry
from tests.support.repositories import flip_bit, make_repository, object_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.pull import PullResult
    from cfsctl.oci.source import BlobReader
    from cfsctl.repository import Repository

AMD64 = Platform("linux", "amd64")
LARGE = make_tar([directory("usr"), file("usr/large", bytes(range(256)) * 12_000)])
LAYERS = [*example_layers(), LARGE]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", Algorithm.SHA256) as made:
        yield made


def pull_image(
    repository: Repository, reference: str, settings: RegistrySettings | None = None
) -> PullResult:
    source = open_source(reference, settings)
    try:
        return pull(repository, source, "t", platform=AMD64)
    finally:
        source.close()


def push_image(
    repository: Repository,
    reference: str,
    settings: RegistrySettings | None = None,
    *,
    preserve_digests: bool = False,
) -> PushResult:
    image = open_found(repository, resolve(repository, "t"))
    destination = open_destination(reference, settings)
    try:
        return push(repository, image, destination, preserve_digests=preserve_digests)
    finally:
        destination.close()


def store(repository: Repository, tmp_path: Path, kind: str = "plain") -> PullResult:
    """Store an image whose layers are compressed in some way."""
    layout = Layout(tmp_path / f"layout-{kind}")
    if kind == "plain":
        layout.add_image("t", LAYERS)
    elif kind == "gzip":
        packed = [(gzip.compress(layer, 1), f"{LAYER}+gzip") for layer in LAYERS]
        layout.add_image("t", LAYERS, packed=packed)
    else:
        packed = [(zstandard.compress(layer, 1), f"{LAYER}+zstd") for layer in LAYERS]
        layout.add_image("t", LAYERS, packed=packed)
    return pull_image(repository, f"oci:{layout.path}:t")


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "dir"])
class TestFiles:
    def place(self, transport: str, tmp_path: Path) -> str:
        return f"{transport}:{tmp_path}/out" + ("" if transport == "dir" else ":tag")

    @pytest.mark.parametrize("kind", ["plain", "gzip", "zstd"])
    def test_round_trip(self, transport: str, kind: str, repository: Repository, tmp_path: Path) -> None:
        stored = store(repository, tmp_path, kind)
        pushed = push_image(repository, self.place(transport, tmp_path))
        assert pushed.stored_digest == stored.manifest_digest
        assert (pushed.manifest_digest == stored.manifest_digest) == (kind == "plain")
        assert pushed.sent == len(LAYERS) + 1
        with make_repository(tmp_path / "r2", Algorithm.SHA256) as other:
            again = pull_image(other, self.place(transport, tmp_path))
        assert again.manifest_digest == pushed.manifest_digest
        assert (again.image, again.config_digest) == (stored.image, stored.config_digest)

    @pytest.mark.parametrize("kind", ["plain", "gzip"])
    def test_skopeo_reads_it(self, transport: str, kind: str, repository: Repository, tmp_path: Path) -> None:
        require("skopeo")
        store(repository, tmp_path, kind)
        pushed = push_image(repository, self.place(transport, tmp_path))
        place = self.place(transport, tmp_path)
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "--preserve-digests", place, f"oci:{tmp_path}/copy:t"],
            check=True,
        )
        index = json.loads((tmp_path / "copy" / "index.json").read_bytes())
        assert index["manifests"][0]["digest"] == str(pushed.manifest_digest)

    def test_twice_is_the_same(self, transport: str, repository: Repository, tmp_path: Path) -> None:
        store(repository, tmp_path, "gzip")
        first = push_image(repository, self.place(transport, tmp_path))
        before = (tmp_path / "out").read_bytes() if transport == "oci-archive" else None
        second = push_image(repository, self.place(transport, tmp_path))
        assert second.manifest_digest == first.manifest_digest
        if before is None:
            assert second.sent == 0
        else:
            assert (tmp_path / "out").read_bytes() == before

    def test_nothing_damaged_leaves(self, transport: str, repository: Repository, tmp_path: Path) -> None:
        store(repository, tmp_path)
        files = [path for path in (tmp_path / "r" / "objects").rglob("*") if path.is_file()]
        large = max(files, key=lambda path: path.stat().st_size)
        flip_bit(large, 1000)
        with pytest.raises(IntegrityError):
            push_image(repository, self.place(transport, tmp_path))
        for name in ("index.json", "manifest.json"):
            assert not (tmp_path / "out" / name).exists()
        assert not (tmp_path / "out").is_file()


def test_preserve_digests(repository: Repository, tmp_path: Path) -> None:
    store(repository, tmp_path, "gzip")
    with pytest.raises(DigestChangedError, match="which is not kept"):
        push_image(repository, f"oci:{tmp_path}/out:t", preserve_digests=True)
    assert not (tmp_path / "out" / "index.json").exists()
    # A place that has the blobs needs nothing compressed again.
    pushed = push_image(repository, f"oci:{tmp_path}/layout-gzip:new", preserve_digests=True)
    assert (pushed.manifest_digest, pushed.sent) == (pushed.stored_digest, 0)


def test_annotations_about_compressed_bytes_are_dropped(repository: Repository, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    packed = gzip.compress(LARGE, 1)
    layer = layout.add_blob(packed, f"{LAYER}+gzip")
    layer["annotations"] = {"containerd.io/snapshot/stargz/toc.digest": "sha256:x", "kept": "y"}
    document = {"architecture": "amd64", "os": "linux"}
    rootfs = {"rootfs": {"type": "layers", "diff_ids": [digest_of(LARGE)]}}
    config = layout.add_blob(
        json.dumps(document | rootfs).encode(), "application/vnd.oci.image.config.v1+json"
    )
    layout.add_manifest("t", config, [layer])
    pull_image(repository, f"oci:{layout.path}:t")
    push_image(repository, f"dir:{tmp_path}/out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert manifest["layers"][0]["annotations"] == {"kept": "y"}
    assert manifest["layers"][0]["digest"] != layer["digest"]


def test_an_artifact_is_the_same(repository: Repository, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    config = layout.add_blob(b"{}", "application/vnd.oci.empty.v1+json")
    blobs = [layout.add_blob(data, "text/plain") for data in (b"x", b"large" * 1000)]
    digest = layout.add_manifest("t", config, blobs)
    pull_image(repository, f"oci:{layout.path}:t")
    assert str(push_image(repository, f"oci:{tmp_path}/out:t").manifest_digest) == digest
    out = tmp_path / "out" / "blobs" / "sha256"
    for path in (layout.path / "blobs" / "sha256").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


class TestKeptBlobs:
    """Layers that are also kept as they came leave as they came."""

    def pull(self, repository: Repository, layout: Layout, *, keep: bool) -> PullResult:
        source = open_source(f"oci:{layout.path}:t")
        try:
            return pull(repository, source, "t", platform=AMD64, keep_compressed=keep)
        finally:
            source.close()

    @pytest.fixture
    def layout(self, tmp_path: Path) -> Layout:
        layout = Layout(tmp_path / "layout")
        # The order of the digests is not that of the layers.
        levels = range(1, 10)
        second = max((gzip.compress(LAYERS[1], level, mtime=0) for level in levels), key=digest_of)
        third = min((zstandard.compress(LAYERS[2], level) for level in levels), key=digest_of)
        packed = [(LAYERS[0], LAYER), (second, f"{LAYER}+gzip"), (third, f"{LAYER}+zstd")]
        layout.add_image("t", LAYERS, packed=packed)
        return layout

    @pytest.mark.parametrize("is_there_before", [False, True])
    def test_survive_collections_and_other_pulls(
        self,
        repository: Repository,
        layout: Layout,
        tmp_path: Path,
        is_there_before: bool,  # noqa: FBT001 - a parameter
    ) -> None:
        if is_there_before:
            self.pull(repository, layout, keep=False)
        stored = self.pull(repository, layout, keep=True)
        assert self.pull(repository, layout, keep=False).manifest_id == stored.manifest_id
        assert collect_garbage(repository).objects_removed == (1 if is_there_before else 0)
        assert check_repository(repository, deep=True).is_ok
        shutil.rmtree(layout.path)
        pushed = push_image(repository, f"oci:{tmp_path}/out:t", preserve_digests=True)
        assert pushed.manifest_digest == stored.manifest_digest
        with make_repository(tmp_path / "r2", Algorithm.SHA256) as other:
            assert pull_image(other, f"oci:{tmp_path}/out:t").image == stored.image

    def test_go_with_their_image(self, repository: Repository, layout: Layout) -> None:
        self.pull(repository, layout, keep=True)
        repository.streams.remove_ref(TAGS.ref("t"))
        collect_garbage(repository)
        assert repository.streams.list_streams() == []

    def test_are_not_fetched_twice(self, repository: Repository, layout: Layout) -> None:
        source = open_source(f"oci:{layout.path}:t")
        opened: list[str] = []

        class Counting(KeptSource):
            def open_blob(self, descriptor: Descriptor) -> BlobReader:
                opened.append(descriptor.media_type)
                return super().open_blob(descriptor)

        counting = Counting(repository, source)
        pull(repository, counting, "t", platform=AMD64, keep_compressed=True, workers=0)
        source.close()
        assert sorted(name for name in opened if "tar" in name) == [LAYER, f"{LAYER}+gzip", f"{LAYER}+zstd"]

    def test_are_compared_with_their_digests(self, repository: Repository, layout: Layout) -> None:
        index = json.loads((layout.path / "index.json").read_bytes())
        blobs = layout.path / "blobs" / "sha256"
        manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
        flip_bit(blobs / manifest["layers"][1]["digest"][7:], 40)
        with pytest.raises(ReceivedDigestError, match="blob: expected digest"):
            self.pull(repository, layout, keep=True)
        names = [stream.name for stream in repository.streams.list_streams()]
        assert f"oci-blob-{manifest['layers'][1]['digest']}" not in names
        assert all(name.startswith("oci-blob-") for name in names)  # others may be complete by then

    def test_one_that_is_damaged_is_not_sent(
        self, repository: Repository, layout: Layout, tmp_path: Path
    ) -> None:
        self.pull(repository, layout, keep=True)
        with repository.streams.open_object(
            next(s.object_id for s in repository.streams.list_streams() if "oci-blob" in s.name)
        ) as reader:
            flip_bit(object_file(repository, find_only_object(reader)), 40)
        pushed = push_image(repository, f"oci:{tmp_path}/out:t")
        assert pushed.manifest_digest != pushed.stored_digest
        with make_repository(tmp_path / "r2", Algorithm.SHA256) as other:
            assert pull_image(other, f"oci:{tmp_path}/out:t").image


class TestLayouts:
    def test_other_images_stay_and_a_tag_moves(self, repository: Repository, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "out")
        layout.add_image("other", [LARGE])
        layout.add_image("t", [LARGE])
        stored = store(repository, tmp_path)
        push_image(repository, f"oci:{layout.path}:t")
        index = json.loads((layout.path / "index.json").read_bytes())
        tags = {
            e["annotations"]["org.opencontainers.image.ref.name"]: e["digest"] for e in index["manifests"]
        }
        assert set(tags) == {"other", "t"}
        assert tags["t"] == str(stored.manifest_digest) != tags["other"]

    def test_an_index_that_is_broken_stays(self, repository: Repository, tmp_path: Path) -> None:
        store(repository, tmp_path)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "index.json").write_bytes(b"{")
        with pytest.raises(ValueError, match=r"index\.json: expected JSON"):
            push_image(repository, f"oci:{tmp_path}/out:t")
        assert (tmp_path / "out" / "index.json").read_bytes() == b"{"

    def test_no_links_are_followed_out_of_it(self, repository: Repository, tmp_path: Path) -> None:
        store(repository, tmp_path)
        (tmp_path / "out" / "blobs").mkdir(parents=True)
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "out" / "blobs" / "sha256").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match=r"sha256"):
            push_image(repository, f"oci:{tmp_path}/out:t")
        assert not list((tmp_path / "elsewhere").iterdir())


def test_places_that_cannot_be_pushed_to(repository: Repository, tmp_path: Path) -> None:
    store(repository, tmp_path)
    with pytest.raises(UnsupportedTransportError):
        push_image(repository, "docker-daemon:x:t")
    with pytest.raises(DestinationError, match="expected a tag"):
        push_image(repository, f"oci:{tmp_path}/out@{digest_of(b'')}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(DestinationError, match="expected an empty directory"):
        push_image(repository, f"dir:{tmp_path}/full")


def test_an_archive_has_no_times(repository: Repository, tmp_path: Path) -> None:
    store(repository, tmp_path)
    push_image(repository, f"oci-archive:{tmp_path}/out:t")
    with tarfile.open(tmp_path / "out") as tar:
        assert {(member.mtime, member.uid, member.mode) for member in tar} == {(0, 0, 0o644)}


@pytest.fixture(scope="module", params=["basic", "token"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with run_registry(work, make_certificate(work), request.param) as running:
        yield running


class TestRegistry:
    def settings(self, registry: Registry) -> RegistrySettings:
        return RegistrySettings(
            auth_files=(str(registry.authfile),), certificate_directory=str(registry.certificates)
        )

    @pytest.mark.parametrize("kind", ["plain", "gzip", "zstd"])
    def test_round_trip(self, registry: Registry, kind: str, repository: Repository, tmp_path: Path) -> None:
        stored = store(repository, tmp_path, kind)
        place = f"docker://{registry.host}/{tmp_path.name.replace('_', '-')}/image:t"
        pushed = push_image(repository, place, self.settings(registry))
        assert json.loads(registry.skopeo("inspect", place))["Digest"] == str(pushed.manifest_digest)
        with make_repository(tmp_path / "r2", Algorithm.SHA256) as other:
            again = pull_image(other, place, self.settings(registry))
        assert (again.manifest_digest, again.image) == (pushed.manifest_digest, stored.image)
        again_pushed = push_image(repository, place, self.settings(registry))
        assert (again_pushed.manifest_digest, again_pushed.sent) == (pushed.manifest_digest, 0)

    def test_what_came_from_there_goes_back_unchanged(
        self, registry: Registry, repository: Repository, tmp_path: Path
    ) -> None:
        layout = Layout(tmp_path / "layout")
        packed = [(gzip.compress(layer, 1), f"{LAYER}+gzip") for layer in LAYERS]
        layout.add_image("t", LAYERS, packed=packed)
        name = f"docker://{registry.host}/back/image"
        registry.skopeo("copy", f"oci:{layout.path}:t", f"{name}:t")
        stored = pull_image(repository, f"{name}:t", self.settings(registry))
        pushed = push_image(repository, f"{name}:new", self.settings(registry), preserve_digests=True)
        assert (pushed.manifest_digest, pushed.sent) == (stored.manifest_digest, 0)

    def test_blobs_come_from_other_repositories(
        self, registry: Registry, repository: Repository, tmp_path: Path
    ) -> None:
        layout = Layout(tmp_path / "layout")
        layer = make_tar([directory("usr"), file("usr/of-its-own", os.urandom(500))])
        packed = [(gzip.compress(layer, 1), f"{LAYER}+gzip")]
        layout.add_image("t", [layer], packed=packed)
        name = f"docker://{registry.host}/mount-{tmp_path.name.replace('_', '-')}"
        registry.skopeo("copy", f"oci:{layout.path}:t", f"{name}/from:t")
        source = open_source(f"{name}/from:t", self.settings(registry))
        try:
            stored = pull(repository, source, f"{name}/from:t", platform=AMD64)
        finally:
            source.close()
        set_tag(repository, f"@{stored.manifest_digest}", "t")
        pushed = push_image(repository, f"{name}/to:t", self.settings(registry), preserve_digests=True)
        assert (pushed.mounted, pushed.sent, pushed.present) == (2, 0, 0)
        assert pushed.manifest_digest == stored.manifest_digest
        assert json.loads(registry.skopeo("inspect", f"{name}/to:t"))["Digest"] == str(stored.manifest_digest)

    @pytest.mark.parametrize("tool", ["podman", "buildah"])
    def test_podman_and_buildah_pull_it_and_push_it_back(
        self,
        registry: Registry,
        tool: str,
        repository: Repository,
        tmp_path: Path,
        request: pytest.FixtureRequest,
    ) -> None:
        require(tool)
        layout = Layout(tmp_path / "layout")
        layout.add_image("t", [LARGE], packed=[(gzip.compress(LARGE, 1), f"{LAYER}+gzip")])
        stored = pull_image(repository, f"oci:{layout.path}:t")
        name = f"docker://{registry.host}/{tool}/image"
        push_image(repository, f"{name}:t", self.settings(registry))
        options = ("--quiet", "--authfile", registry.authfile, "--cert-dir", registry.certificates)
        state = tempfile.TemporaryDirectory(prefix="x", dir="/tmp")
        request.addfinalizer(state.cleanup)
        storage = ("--root", tmp_path / "s", "--runroot", state.name, "--storage-driver", "vfs")

        def run(command: str, *arguments: str) -> str:
            done = subprocess.run(
                [tool, *storage, command, *options, *arguments],
                capture_output=True,
                check=False,
                text=True,
                timeout=60,
            )
            if done.returncode and "peration not permitted" in done.stderr:
                pytest.skip(f"{tool} cannot unpack layers here: {done.stderr[-200:]}")
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        image = run("pull", f"{name}:t")
        assert image == str(stored.config_digest).partition(":")[2]
        run("push", image, f"{name}:back")
        with make_repository(tmp_path / "r2", Algorithm.SHA256) as other:
            assert pull_image(other, f"{name}:back", self.settings(registry)).image == stored.image

    def test_without_credentials(self, registry: Registry, repository: Repository, tmp_path: Path) -> None:
        store(repository, tmp_path)
        settings = RegistrySettings(certificate_directory=str(registry.certificates))
        with pytest.raises(AccessDeniedError, match="denies access"):
            push_image(repository, f"docker://{registry.host}/x/image:t", settings)

    def test_command(self, registry: Registry, tmp_path: Path) -> None:
        with make_repository(tmp_path / "r", Algorithm.SHA256) as repository:
            store(repository, tmp_path, "gzip")
        place = f"docker://{registry.host}/command/image:t"
        options = ("--authfile", registry.authfile, "--cert-dir", registry.certificates)
        done = run_cfsctl("--repo", tmp_path / "r", "oci", "push", "t", place, *options, "--preserve-digests")
        assert (done.returncode, "compressed again it is" in done.stderr) == (14, True)
        done = run_cfsctl("--repo", tmp_path / "r", "oci", "push", "t", place, *options, "--json")
        assert done.returncode == 0, done.stderr
        assert "the manifest has changed from sha256:" in done.stderr
        result = json.loads(done.stdout)
        schemas.check(result, "oci-push")
        assert json.loads(registry.skopeo("inspect", place))["Digest"] == result["manifest"]


class TestLyingRegistry:
    """A registry that does not take what it should, or wants it elsewhere."""

    @pytest.fixture
    def server(self) -> Iterator[FaultyServer]:
        with FaultyServer() as server:
            yield server

    def blobs(self, repository: Repository, server: FaultyServer) -> list[str]:
        """Have the server lack all blobs of the stored image; return their digests."""
        image = open_found(repository, resolve(repository, "t"))
        digests = [str(blob.digest) for blob in (*image.manifest.layers, image.manifest.config)]
        for digest in digests:
            server.on(f"/v2/team/image/blobs/{digest}", respond(b"", 404))
        return digests

    def push(self, repository: Repository, server: FaultyServer) -> PushResult:
        settings = RegistrySettings(verifies_tls=False, limits=QUICK)
        return push_image(repository, f"docker://{server.url.partition('://')[2]}/team/image:t", settings)

    def test_one_that_takes_everything_elsewhere(
        self, repository: Repository, server: FaultyServer, tmp_path: Path
    ) -> None:
        store(repository, tmp_path)
        digests = self.blobs(repository, server)
        with FaultyServer() as elsewhere:
            server.on("/v2/team/image/blobs/uploads/", respond(b"", 202, Location=f"{elsewhere.url}/up?x=1"))
            for digest in digests:
                elsewhere.on(
                    f"/up?x=1&digest={digest.replace(':', '%3A')}", respond(b"", 503), respond(b"", 201)
                )
            server.on("/v2/team/image/manifests/t", respond(b"", 201))
            assert self.push(repository, server).sent == len(digests)
            sent = [body for bodies in elsewhere.bodies.values() for body in bodies[1:]]
            assert sorted(map(digest_of, sent)) == sorted(digests)
        (manifest,) = server.bodies["/v2/team/image/manifests/t"]
        assert json.loads(manifest)["config"]["digest"] == digests[-1]

    @pytest.mark.parametrize(
        ("began", "text"),
        [
            (respond(b"", 200), "does not take uploads"),
            (respond(b"", 202), "does not take uploads"),
            (respond(b"", 202, Location="file:///tmp/x"), "cannot be fetched"),
        ],
    )
    def test_one_that_takes_no_blob(
        self, repository: Repository, server: FaultyServer, tmp_path: Path, began: object, text: str
    ) -> None:
        store(repository, tmp_path)
        self.blobs(repository, server)
        server.on("/v2/team/image/blobs/uploads/", began)  # type: ignore[arg-type]  # a reaction
        with pytest.raises(Exception, match=text):
            self.push(repository, server)
        assert not server.counts["/v2/team/image/manifests/t"]

    def test_one_that_refuses_and_says_why(
        self, repository: Repository, server: FaultyServer, tmp_path: Path
    ) -> None:
        store(repository, tmp_path)
        self.blobs(repository, server)
        answer = b'{"errors":[{"code":"TOOBIG","message":"no room"}]}'
        server.on("/v2/team/image/blobs/uploads/", respond(answer, 413))
        with pytest.raises(HTTPStatusError, match="413") as found:
            self.push(repository, server)
        assert found.value.hint == "the server says: TOOBIG: no room"

    def test_one_that_has_stored_another_manifest(
        self, repository: Repository, server: FaultyServer, tmp_path: Path
    ) -> None:
        store(repository, tmp_path)
        for digest in self.blobs(repository, server):
            server.on(f"/v2/team/image/blobs/{digest}", respond(b""))
        server.on("/v2/team/image/manifests/t", respond(b"", 201, Docker_Content_Digest=digest_of(b"")))
        with pytest.raises(DestinationError, match=r"has stored sha256:.* instead"):
            self.push(repository, server)

    def test_one_that_wants_plain_http(self, repository: Repository, tmp_path: Path) -> None:
        store(repository, tmp_path)
        with FaultyServer(certificate=make_certificate(tmp_path)) as server:
            self.blobs(repository, server)
            place = f"http{server.url.removeprefix('https')}/up"
            server.on("/v2/team/image/blobs/uploads/", respond(b"", 202, Location=place))
            with pytest.raises(DestinationError, match="refused to upload over plain HTTP"):
                self.push(repository, server)
