"""Streams fetched from a web server that has the files of a repository."""

from __future__ import annotations

import contextlib
import json
import os
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
import zstandard

import cfsctl
from cfsctl.digest import object_path
from cfsctl.repository.served import SYMLINK_TYPE
from tests.support import schemas
from tests.support.oci import Layout, digest_of, example_layers
from tests.support.programs import run_cfsctl
from tests.support.repositories import flip_bit
from tests.support.web import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAYERS = example_layers()


class Server:
    """A web server with the files of a directory.

    Attributes:
        sends_links: Symbolic links are sent as their targets.
        packs: Objects are sent in compressed form.
        asked: Paths that were asked for.
        answers: Answers for paths, in place of the files.
    """

    def __init__(self, root: Path) -> None:
        self.sends_links = True
        self.packs = False
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, str, bytes]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = unquote(self.path).lstrip("/")
                server.asked.append(path)
                status, kind, body = server.answers.get(path) or server.read(root / path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._stack = contextlib.ExitStack()
        self.url = self._stack.enter_context(serve(Handler))

    def read(self, path: Path) -> tuple[int, str, bytes]:
        if self.sends_links and path.is_symlink():
            return 200, SYMLINK_TYPE, os.readlink(path).encode()
        if not path.is_file():
            return 404, "text/plain", b"not here"
        data = path.read_bytes()
        if self.packs and "objects" in path.parts:
            data = zstandard.ZstdCompressor().compress(data)
        return 200, "application/octet-stream", data

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[cfsctl.Repository]:
    layout = Layout(tmp_path / "layout")
    layout.add_image("app", LAYERS)
    with cfsctl.Repository.init(tmp_path / "origin", insecure=True) as made:
        made.oci.pull(f"oci:{layout.path}:app", "example.org/app:1")
        yield made


@pytest.fixture
def server(tmp_path: Path, origin: cfsctl.Repository) -> Iterator[Server]:
    assert list(origin.oci.images())
    made = Server(tmp_path / "origin")
    yield made
    made.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[cfsctl.Repository]:
    with cfsctl.Repository.init(tmp_path / "target", insecure=True) as made:
        yield made


def manifest_of(origin: cfsctl.Repository) -> str:
    return str(origin.oci.inspect("example.org/app:1").digest)


@pytest.mark.parametrize("sends_links", [True, False])
@pytest.mark.parametrize("packs", [False, True])
def test_an_image(
    server: Server, origin: cfsctl.Repository, target: cfsctl.Repository, *, sends_links: bool, packs: bool
) -> None:
    server.sends_links, server.packs = sends_links, packs and sends_links
    manifest = manifest_of(origin)
    fetched = target.fetch(server.url, f"oci-manifest-{manifest}", "app")
    assert (fetched.name, f"sha256:{fetched.content}") == (f"oci-manifest-{manifest}", manifest)
    assert fetched.stream_id == origin.oci.inspect(manifest).manifest_stream
    assert target.oci.inspect("app") == origin.oci.inspect("example.org/app:1")
    assert target.oci.fsck(deep=True).is_ok

    asked = len(server.asked)
    again = target.fetch(server.url, f"oci-manifest-{manifest}", "app")
    assert again.counts.copied == 0
    assert len(server.asked) <= asked + 2  # the name, and what it leads to if that is no link


@pytest.mark.parametrize("sends_links", [True, False])
def test_an_image_by_its_tag(
    server: Server, origin: cfsctl.Repository, target: cfsctl.Repository, *, sends_links: bool
) -> None:
    server.sends_links = sends_links
    fetched = target.fetch(server.url + "/", "refs/oci/example.org%2Fapp:1")
    assert (fetched.name, fetched.ref) == (f"oci-manifest-{manifest_of(origin)}", "example.org/app:1")
    assert [image.name for image in target.oci.images()] == ["example.org/app:1"]


def test_a_layer_alone(server: Server, target: cfsctl.Repository) -> None:
    digest = digest_of(LAYERS[0])
    fetched = target.fetch(server.url, f"oci-layer-{digest}", "kept")
    assert f"sha256:{fetched.content}" == digest
    read: list[bytes] = []
    target.oci.layer(digest).read(lambda data: read.append(bytes(data)))
    assert b"".join(read) == LAYERS[0]
    assert target.gc().streams_pruned == 0


def test_a_layer_that_is_another_is_refused(
    server: Server, origin: cfsctl.Repository, target: cfsctl.Repository
) -> None:
    first, second = (digest_of(layer) for layer in LAYERS)
    other = origin.oci.layer(second).stream_id
    server.answers[f"streams/oci-layer-{first}"] = (
        200,
        SYMLINK_TYPE,
        f"../objects/{object_path(other)}".encode(),
    )
    with pytest.raises(cfsctl.IntegrityError, match=first):
        target.fetch(server.url, f"oci-layer-{first}")
    with pytest.raises(cfsctl.RefNotFoundError):
        target.oci.layer(first)


def test_a_damaged_object_is_refused_and_fetched_again(
    tmp_path: Path, server: Server, origin: cfsctl.Repository, target: cfsctl.Repository
) -> None:
    large = max(
        (path for path in (tmp_path / "origin" / "objects").rglob("*") if path.is_file()), key=os.path.getsize
    )
    flip_bit(large, 77)
    name = f"oci-manifest-{manifest_of(origin)}"
    with pytest.raises(cfsctl.IntegrityError, match=large.parent.name + large.name):
        target.fetch(server.url, name, "app")
    assert list(target.oci.images()) == []
    flip_bit(large, 77)
    target.fetch(server.url, name, "app")
    assert target.oci.fsck(deep=True).is_ok


def test_an_object_larger_than_its_stream_is_refused(
    server: Server, origin: cfsctl.Repository, target: cfsctl.Repository
) -> None:
    layer = origin.oci.layer(digest_of(LAYERS[0]))
    with origin.oci._store.streams.open_object(layer.stream_id) as reader:
        path = f"objects/{object_path(reader.object_refs[0])}"
        size = reader.stream_size
    server.answers[path] = 200, "application/octet-stream", bytes(size + 1)
    with pytest.raises(cfsctl.FetchError, match=f"{size} bytes"):
        target.fetch(server.url, f"oci-layer-{layer.digest}")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"../../../etc/passwd", "expected a link to an object"),
        (b"../objects/ab/short", "expected a link to an object"),
        (b"\xff\xfe", "expected a link to an object"),
        (b"", "expected a link to an object"),
        (b"oci-layer-x", "a chain of links"),
    ],
)
def test_links_that_lead_elsewhere_are_refused(
    server: Server, target: cfsctl.Repository, text: bytes, match: str
) -> None:
    server.answers["streams/oci-layer-x"] = 200, SYMLINK_TYPE, text
    with pytest.raises(cfsctl.FetchError, match=match):
        target.fetch(server.url, "oci-layer-x")


@pytest.mark.parametrize("name", ["../meta.json", "/etc/passwd", "a/b", ""])
def test_names_that_cannot_be_are_refused(server: Server, target: cfsctl.Repository, name: str) -> None:
    with pytest.raises(cfsctl.CfsError):
        target.fetch(server.url, name)
    assert not any(".." in path for path in server.asked)


def test_commits_are_refused(server: Server, target: cfsctl.Repository) -> None:
    with pytest.raises(cfsctl.IntegrityError, match="other than a commit"):
        target.fetch(server.url, "ostree-commit-" + "0" * 64)


def test_the_command(tmp_path: Path, server: Server, origin: cfsctl.Repository) -> None:
    name = f"oci-manifest-{manifest_of(origin)}"
    run_cfsctl("init", "--insecure", tmp_path / "other")
    done = run_cfsctl("--repo", tmp_path / "other", "fetch", server.url, name, "--as", "app")
    stream = origin.oci.inspect("example.org/app:1").manifest_stream
    assert done.stdout.splitlines() == [f"content {manifest_of(origin)}", f"verity {stream.hex()}"], (
        done.stderr
    )
    done = run_cfsctl("--repo", tmp_path / "other", "fetch", server.url, name, "--json")
    found = json.loads(done.stdout)
    schemas.check(found, "fetch")
    assert (found["name"], found["fetched_objects"]) == (name, 0)
    group = run_cfsctl("--repo", tmp_path / "other", "oci", "fetch", server.url, name, "--json")
    assert json.loads(group.stdout) == found  # the same command in the group of images
    done = run_cfsctl("--repo", tmp_path / "other", "fetch", server.url, "oci-layer-nothing")
    assert (done.returncode, "has no stream oci-layer-nothing" in done.stderr) == (13, True), done.stderr
    done = run_cfsctl("--repo", tmp_path / "other", "fetch", "ftp://host/", name)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
