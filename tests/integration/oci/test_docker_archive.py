"""Archives as ``docker save`` writes them, and images of a Docker daemon."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError, FormatError, ReceivedDigestError
from cfsctl.oci.digest import OciDigestError
from cfsctl.oci.manifest import Platform
from cfsctl.oci.pull import pull
from cfsctl.oci.reference import ImageReferenceError
from cfsctl.oci.source import ImageNotFoundError, SourceError
from cfsctl.oci.sources.docker_archive import DockerArchiveName, parse_docker_archive_name
from cfsctl.oci.sources.docker_daemon import SkopeoError
from cfsctl.oci.sources.opening import open_source
from tests.support.oci import Layout, digest_of, example_layers, to_json
from tests.support.programs import require
from tests.support.repositories import make_repository
from tests.support.web import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.oci.pull import PullResult
    from cfsctl.repository import Repository

AMD64 = Platform("linux", "amd64")
LAYERS = example_layers()
CONFIG = to_json(
    {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in LAYERS]},
    }
)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", Algorithm.SHA256) as made:
        yield made


def pull_image(repository: Repository, reference: str, platform: Platform = AMD64) -> PullResult:
    source = open_source(reference)
    try:
        return pull(repository, source, "t", platform=platform)
    finally:
        source.close()


def expected_image(repository: Repository, tmp_path: Path) -> object:
    layout = Layout(tmp_path / "layout")
    layout.add_image("t", LAYERS)
    return pull_image(repository, f"oci:{layout.path}:t").image


def write_archive(
    path: Path,
    images: list[dict[str, object]] | object | None = None,
    files: dict[str, bytes] | None = None,
    links: dict[str, str] | None = None,
) -> Path:
    """Write an archive with one image of two layers, or with other content."""
    usual = {"config.json": CONFIG, "1/layer.tar": LAYERS[0], "2/layer.tar": LAYERS[1]}
    if images is None:
        images = [saved()]
    with tarfile.open(path, "w") as tar:
        for name, data in {**usual, **(files or {}), "manifest.json": to_json(images)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return path


def saved(**changes: object) -> dict[str, object]:
    """Return what an archive says about its image."""
    usual = {"Config": "config.json", "RepoTags": ["name:t"], "Layers": ["1/layer.tar", "2/layer.tar"]}
    return {**usual, **changes}


def test_as_skopeo_writes_it(repository: Repository, tmp_path: Path) -> None:
    require("skopeo")
    image = expected_image(repository, tmp_path)
    target = f"docker-archive:{tmp_path}/saved.tar:example.org/name:t"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{tmp_path}/layout:t", target], check=True
    )
    results = [
        pull_image(repository, f"docker-archive:{tmp_path}/saved.tar{suffix}")
        for suffix in ("", ":example.org/name:t", ":@0")
    ]
    assert {result.image for result in results} == {image}
    assert len({result.manifest_digest for result in results}) == 1


def test_the_manifest_is_the_same_each_time(repository: Repository, tmp_path: Path) -> None:
    result = pull_image(repository, f"docker-archive:{write_archive(tmp_path / 'a.tar')}")
    assert result.image == expected_image(repository, tmp_path)
    assert str(result.config_digest) == digest_of(CONFIG)
    layers = [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest_of(layer),
            "size": len(layer),
        }
        for layer in LAYERS
    ]
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest_of(CONFIG),
        "size": len(CONFIG),
    }
    manifest = to_json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        }
    )
    assert str(result.manifest_digest) == digest_of(manifest)


def test_a_compressed_archive_with_compressed_layers_and_links(
    repository: Repository, tmp_path: Path
) -> None:
    packed = gzip.compress(LAYERS[1], mtime=0)
    images = [saved(Layers=["1/layer.tar", "3/layer.tar"])]
    files = {"blobs/second": packed}
    write_archive(tmp_path / "a.tar", images, files, {"3/layer.tar": "../blobs/second"})
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    result = pull_image(repository, f"docker-archive:{tmp_path}/a.tar.gz")
    assert result.image == expected_image(repository, tmp_path)


def test_several_images(repository: Repository, tmp_path: Path) -> None:
    one = saved(RepoTags=["docker.io/library/one:latest", "not a name"])
    path = write_archive(tmp_path / "a.tar", [one, saved(RepoTags=None)])
    for suffix in (":one", ":docker.io/library/one:latest", ":@0", ":@1"):
        assert pull_image(repository, f"docker-archive:{path}{suffix}").image
    for suffix, text in (
        ("", "found 2 images"),
        (":two", "no image of the name docker.io/library/two:latest"),
        (":@2", "expected image @2, found 2 images"),
    ):
        with pytest.raises(ImageNotFoundError, match=text):
            pull_image(repository, f"docker-archive:{path}{suffix}")


REFUSED: dict[str, tuple[Any, dict[str, bytes], type[CfsError], str]] = {
    "no list": ({}, {}, SourceError, "expected a list"),
    "no objects": ([1], {}, SourceError, r"manifest.json\[0\]: expected a JSON object"),
    "no layers": ([{"Config": "config.json"}], {}, FormatError, "Layers: expected a list"),
    "too many layers": ([saved(Layers=["x"] * 5000)], {}, SourceError, "at most 4096"),
    "fewer layers": ([saved(Layers=["1/layer.tar"])], {}, FormatError, "diff_ids: expected 1"),
    "a config that is missing": ([saved(Config="x")], {}, ImageNotFoundError, "x: no such file"),
    "a layer that is missing": (
        [saved(Layers=["1/layer.tar", "x"])],
        {},
        ImageNotFoundError,
        "x: no such file",
    ),
    "another layer": (None, {"2/layer.tar": bytes(1024)}, ReceivedDigestError, "expected digest"),
    "a layer as xz": (None, {"2/layer.tar": b"\xfd7zXZ\0" + bytes(64)}, SourceError, "found xz"),
    "a broken layer": (None, {"2/layer.tar": b"\x1f\x8b" + bytes(600)}, FormatError, "gzip"),
    "an absolute name": ([saved(Config="/etc/passwd")], {}, ImageNotFoundError, "no such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_taken(repository: Repository, tmp_path: Path, case: str) -> None:
    images, files, error, text = REFUSED[case]
    path = write_archive(tmp_path / "a.tar", images, files)
    with pytest.raises(error, match=text):
        pull_image(repository, f"docker-archive:{path}")
    assert not [stream for stream in repository.streams.list_streams() if "layer" not in stream.name]


def test_links_that_lead_nowhere_or_in_circles(repository: Repository, tmp_path: Path) -> None:
    links = {"a": "b", "b": "a", "c": "../../etc/passwd", "d": "/etc/passwd"}
    for name in links:
        path = write_archive(tmp_path / "a.tar", [saved(Config=name)], {}, links)
        with pytest.raises(ImageNotFoundError, match="no such file"):
            pull_image(repository, f"docker-archive:{path}")


def test_another_platform(repository: Repository, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar")
    with pytest.raises(ImageNotFoundError, match="available: linux/amd64"):
        pull_image(repository, f"docker-archive:{path}", Platform("linux", "riscv64"))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("a.tar", DockerArchiveName("a.tar")),
        ("a.tar:x", DockerArchiveName("a.tar", "docker.io/library/x:latest")),
        ("a.tar:q.io/x:t", DockerArchiveName("a.tar", "q.io/x:t")),
        ("a.tar:@12", DockerArchiveName("a.tar", position=12)),
    ],
)
def test_names(place: str, expected: DockerArchiveName) -> None:
    assert parse_docker_archive_name(place) == expected


@pytest.mark.parametrize("place", [":x", "a.tar:", "a.tar:X", "a.tar:@x", f"a.tar:x@{digest_of(b'')}"])
def test_no_names(place: str) -> None:
    with pytest.raises((ImageReferenceError, OciDigestError)):
        parse_docker_archive_name(place)


class TestDaemon:
    @pytest.fixture
    def daemon(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """Run what answers like a Docker daemon that has one image."""
        require("skopeo")
        archive = write_archive(tmp_path / "saved.tar").read_bytes()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "other" in self.path:
                    self.answer(404, json.dumps({"message": "No such image: other:t"}).encode())
                elif "/images/" in self.path:
                    self.answer(200, archive)
                else:
                    self.answer(200, b"{}")

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/x-tar" if status == 200 else "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        monkeypatch.setenv("TMPDIR", str(tmp_path))
        with serve(Handler) as url:
            monkeypatch.setenv("DOCKER_HOST", url)
            yield "docker-daemon"

    def test_by_skopeo(self, daemon: str, repository: Repository, tmp_path: Path) -> None:
        assert pull_image(repository, f"{daemon}:name:t").image == expected_image(repository, tmp_path)
        assert not list(tmp_path.glob("cfsctl-*"))

    def test_an_image_that_is_not_there(self, daemon: str, repository: Repository, tmp_path: Path) -> None:
        with pytest.raises(ImageNotFoundError, match="No such image"):
            pull_image(repository, f"{daemon}:other:t")
        assert not list(tmp_path.glob("cfsctl-*"))

    def test_without_skopeo(self, monkeypatch: pytest.MonkeyPatch, repository: Repository) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(SkopeoError, match="skopeo is needed") as found:
            pull_image(repository, "docker-daemon:name:t")
        assert "docker save" in str(found.value.hint)
