"""Pulls that go on where earlier ones were interrupted, in the middle of a blob."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import CfsError, FetchError
from cfsctl.oci.manifest import Platform
from cfsctl.oci.pull import pull
from cfsctl.oci.sources.opening import open_source
from cfsctl.oci.store import partial_blobs
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc.collect import collect_garbage
from tests.fakes.faulty_server import FaultyServer, announce, respond
from tests.integration.oci.test_lying_registry import (
    LAYER,
    Image,
    Puller,
    elsewhere,
    image,
    make_image,
    puller,
    repository,
    rest,
    transport,
)
from tests.support.oci import digest_of, directory, file, make_tar
from tests.support.programs import CFSCTL, cfsctl

if TYPE_CHECKING:
    from cfsctl.repository import Repository
    from tests.fakes.faulty_server import Exchange, Reaction

__all__ = ["elsewhere", "image", "puller", "repository", "transport"]

HALF = len(LAYER) // 2
OTHER = bytes(len(LAYER))


@pytest.fixture(autouse=True)
def small_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_blobs, "MIN_PARTIAL_BYTES", 1000)


def partial_file(repository: Repository) -> Path:
    return Path(repository.path, f".cfsctl-blob-{digest_of(LAYER).removeprefix('sha256:')}")


def ranges(image: Image) -> list[str | None]:
    return [fields.get("range") for fields in image.server.seen[image.blob_path]]


def interrupt(puller: Puller) -> int:
    """Pull until the connections break off; return how many bytes were kept."""
    puller.image.on_blob(announce(len(LAYER), LAYER[:HALF]), respond(b"", 404))
    with pytest.raises((FetchError, CfsError)):
        puller.pull()
    puller.image.server.seen.clear()
    return partial_file(puller.repository).stat().st_size


def test_only_the_rest_is_asked_for(puller: Puller, repository: Repository) -> None:
    kept = interrupt(puller)
    assert kept == HALF
    puller.image.on_blob(rest(kept))
    assert puller.pull().counts.new == 1
    assert ranges(puller.image) == [f"bytes={kept}-"]
    assert not partial_file(repository).exists()
    assert check_repository(repository, deep=True).is_ok


ANSWERS: dict[str, tuple[list[Reaction], list[str | None]]] = {
    "the whole body": ([respond(LAYER)], [f"bytes={HALF}-", None]),
    "a range from elsewhere": ([rest(HALF - 1), respond(LAYER)], [f"bytes={HALF}-", None]),
    "a range of another body": (
        [
            respond(LAYER[HALF:], 206, Content_Range=f"bytes {HALF}-{len(LAYER)}/{len(LAYER) + 1}"),
            respond(LAYER),
        ],
        [f"bytes={HALF}-", None],
    ),
    "a part of the rest": (
        [
            respond(LAYER[HALF:-5], 206, Content_Range=f"bytes {HALF}-{len(LAYER) - 6}/{len(LAYER)}"),
            respond(LAYER),
        ],
        [f"bytes={HALF}-", None],
    ),
    "no such range": ([respond(b"", 416), respond(LAYER)], [f"bytes={HALF}-", None]),
    "an error of the moment": ([respond(b"", 503), rest(HALF)], [f"bytes={HALF}-"] * 2),
    "the rest of another body": ([rest(HALF, OTHER), respond(LAYER)], [f"bytes={HALF}-", None]),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_to_a_range(puller: Puller, repository: Repository, case: str) -> None:
    reactions, expected = ANSWERS[case]
    assert interrupt(puller) == HALF
    puller.image.on_blob(*reactions)
    assert puller.pull().counts.new == 1
    assert ranges(puller.image) == expected
    assert check_repository(repository, deep=True).is_ok


def test_a_rest_that_breaks_off_is_kept_too(puller: Puller, repository: Repository) -> None:
    kept = interrupt(puller)
    middle = kept + 5000

    def break_off(exchange: Exchange) -> bool:
        span = f"bytes {kept}-{len(LAYER) - 1}/{len(LAYER)}"
        exchange.send_head(206, {"Content-Length": str(len(LAYER) - kept), "Content-Range": span})
        exchange.send(LAYER[kept:middle])
        return False

    puller.image.on_blob(break_off, respond(b"", 404))
    with pytest.raises(CfsError):
        puller.pull()
    assert partial_file(repository).stat().st_size == middle
    puller.image.on_blob(rest(middle))
    puller.pull()
    assert ranges(puller.image)[-1] == f"bytes={middle}-"


def test_what_was_kept_is_not_believed(puller: Puller, repository: Repository) -> None:
    """As after a power failure: the size is there, the bytes are not."""
    kept = interrupt(puller)
    partial_file(repository).write_bytes(bytes(kept))
    puller.image.on_blob(rest(kept), respond(LAYER))
    assert puller.pull().counts.new == 1
    assert ranges(puller.image) == [f"bytes={kept}-", None]
    assert check_repository(repository, deep=True).is_ok


def test_a_complete_file_needs_no_request(puller: Puller, repository: Repository) -> None:
    interrupt(puller)
    partial_file(repository).write_bytes(LAYER)
    puller.image.on_blob(respond(b"", 500))
    assert puller.pull().counts.new == 1
    assert ranges(puller.image) == []


@pytest.mark.parametrize("what", ["longer", "a link", "a fifo", "a directory", "of others", "of two names"])
def test_files_that_are_not_used(puller: Puller, repository: Repository, tmp_path: Path, what: str) -> None:
    path = partial_file(repository)
    if what == "longer":
        path.write_bytes(LAYER + b"x")
    elif what == "a link":
        (tmp_path / "elsewhere").write_bytes(LAYER[:HALF])
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "a fifo":
        os.mkfifo(path)
    elif what == "a directory":
        path.mkdir()
    else:
        path.write_bytes(LAYER[:HALF])
        path.chmod(0o666 if what == "of others" else 0o600)
        if what == "of two names":
            os.link(path, tmp_path / "other")
    assert puller.pull().counts.new == 1
    assert ranges(puller.image) == [None]
    if what == "a link":
        assert (tmp_path / "elsewhere").read_bytes() == LAYER[:HALF]


def test_a_file_that_another_pull_uses(puller: Puller, repository: Repository) -> None:
    kept = interrupt(puller)
    from cfsctl.oci.manifest import parse_manifest

    descriptor = parse_manifest(puller.image.manifest).layers[0]
    partial = partial_blobs.open_partial(repository, descriptor)
    assert partial is not None
    try:
        puller.image.on_blob(respond(LAYER))
        assert puller.pull().counts.new == 1
        assert ranges(puller.image) == [None]
        assert partial.read(kept) == LAYER[:kept]
    finally:
        partial.close()


def test_garbage_collection_removes_it(puller: Puller, repository: Repository) -> None:
    interrupt(puller)
    assert collect_garbage(repository, dry_run=True).temporaries_removed == 0
    assert partial_file(repository).exists()
    assert collect_garbage(repository).temporaries_removed == 1
    assert not partial_file(repository).exists()


def test_a_wrong_blob_is_not_kept(puller: Puller, repository: Repository) -> None:
    puller.image.on_blob(respond(OTHER))
    with pytest.raises(CfsError, match="expected digest"):
        puller.pull()
    assert not partial_file(repository).exists()


def test_a_full_disk_only_costs_the_file(
    puller: Puller, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(partial_blobs, "write_all", fail)
    assert puller.pull().counts.new == 1
    assert not partial_file(repository).exists()


@pytest.mark.alone
def test_a_pull_that_is_killed(tmp_path: Path) -> None:
    """Killed while the server waits with the rest; the next pull asks for the rest only."""
    layer = make_tar([directory("usr"), file("usr/large", os.urandom(9_000_000))])
    half = 5 << 20
    reached = threading.Event()

    def send_half(exchange: Exchange) -> bool:
        exchange.send_head(200, {"Content-Length": str(len(layer))})
        exchange.send(layer[:half])
        reached.set()
        exchange.wait(120)
        return False

    cfsctl("--repo", tmp_path / "r", "init", "--insecure")
    with FaultyServer() as server:
        from tests.integration.oci import test_lying_registry as module  # its layer is replaced

        before, module.LAYER = module.LAYER, layer
        try:
            made = make_image(server, tmp_path / "layout")
            made.on_blob(send_half, rest(half, layer))
            name = f"docker://{made.host}/team/image:t"
            command = [
                str(CFSCTL),
                "--repo",
                str(tmp_path / "r"),
                "oci",
                "pull",
                name,
                "t",
                "--tls-verify",
                "false",
            ]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                assert reached.wait(120)
                path = tmp_path / "r" / f".cfsctl-blob-{digest_of(layer).removeprefix('sha256:')}"
                for _ in range(1200):  # what was sent has to arrive
                    if path.exists() and path.stat().st_size > half - (1 << 20):
                        break
                    threading.Event().wait(0.1)
                process.send_signal(signal.SIGKILL)
            kept = path.stat().st_size
            made.on_blob(rest(kept, layer))
            cfsctl(*command[1:])
            seen = [fields.get("range") for fields in server.seen[made.blob_path]]
        finally:
            module.LAYER = before
    assert seen[-1] == f"bytes={kept}-"
    assert not path.exists()
    assert cfsctl("--repo", tmp_path / "r", "oci", "fsck", "--deep")


def test_layouts_are_not_copied(tmp_path: Path, repository: Repository) -> None:
    """A source that is on this machine has nothing to resume."""
    from tests.support.oci import Layout

    Layout(tmp_path / "l").add_image("t", [LAYER])
    source = open_source(f"oci:{tmp_path}/l:t")
    pull(repository, source, "t", platform=Platform("linux", "amd64"))
    source.close()
    assert not [*Path(repository.path).glob(".cfsctl-blob-*")]


def test_blobs_that_are_to_be_kept_are_resumed_too(puller: Puller, repository: Repository) -> None:
    import gzip
    import json

    from cfsctl.oci.media_types import MANIFEST
    from tests.support.oci import to_json

    packed = gzip.compress(LAYER, 0, mtime=0)
    document = json.loads(puller.image.manifest)
    layer = document["layers"][0]
    layer |= {"digest": digest_of(packed), "size": len(packed), "mediaType": f"{layer['mediaType']}+gzip"}
    puller.image.on_manifest(respond(to_json(document), Content_Type=MANIFEST))
    path = f"/v2/team/image/blobs/{digest_of(packed)}"
    puller.image.server.on(path, announce(len(packed), packed[:HALF]), respond(b"", 404))

    def keep() -> None:
        source = open_source(f"docker://{puller.image.host}/team/image:t", puller.settings)
        try:
            pull(repository, source, "t", platform=Platform("linux", "amd64"), keep_compressed=True)
        finally:
            source.close()

    with pytest.raises(CfsError):
        keep()
    puller.image.server.on(path, rest(HALF, packed))
    keep()
    assert puller.image.server.seen[path][-1]["range"] == f"bytes={HALF}-"
    assert f"oci-blob-{digest_of(packed)}" in [stream.name for stream in repository.streams.list_streams()]
    assert not [*Path(repository.path).glob(".cfsctl-blob-*")]


@pytest.mark.alone
def test_kept_blobs_are_fetched_by_workers(tmp_path: Path) -> None:
    import gzip

    from tests.support.oci import LAYER as TAR  # a media type
    from tests.support.oci import Layout

    layers = [make_tar([directory("usr"), file("usr/file", os.urandom(1_200_000))]) for _ in range(3)]
    packed = [(gzip.compress(layer, 1, mtime=0), f"{TAR}+gzip") for layer in layers]
    Layout(tmp_path / "l").add_image("t", layers, packed=packed)
    cfsctl("--repo", tmp_path / "r", "init", "--insecure")
    cfsctl("--repo", tmp_path / "r", "oci", "pull", "--keep-compressed", f"oci:{tmp_path}/l:t", "t")
    streams = [path.name for path in (tmp_path / "r" / "streams").iterdir()]
    assert {f"oci-blob-{digest_of(blob)}" for blob, _ in packed} <= set(streams)
    assert cfsctl("--repo", tmp_path / "r", "oci", "fsck", "--deep")
