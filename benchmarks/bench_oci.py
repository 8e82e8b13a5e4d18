"""Pulls of an OCI image of 65,000 files, 2 GB in five layers, from layouts and a registry, beside a peer.

    python -m benchmarks.bench_oci [OPTIONS of python -m benchmarks]

Measured are the first pull into a new repository and a second pull of the same image. The registry is
docker-registry on this machine, to which skopeo copies the image; the other cfsctl pulls through skopeo.

Layers are what registries serve: gzip; zstd in one frame, as `skopeo copy --dest-compress-format zstd` and
the zstd program make it; and zstd:chunked, where each file has frames of its own. Archives end as those of
Go's programs do, without the padding that tar adds.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import shlex
import shutil
import sys
import tarfile
import zlib
from random import Random
from typing import TYPE_CHECKING

import zstandard

from benchmarks.command_line import run
from benchmarks.declaration import OURS, REFERENCE, Aim, Group, Place, Row, Setup, both
from cfsctl.oci.media_types import CONFIG, MANIFEST
from cfsctl.oci.reference import host_platform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILES = 65_000
BYTES = 2_000_000_000
LARGE_BYTES = 2_000_000_000
LAYERS = 5
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
PIECE = 1 << 20
CHUNKED = "zstd:chunked"
CHUNK = 1 << 16


@functools.cache
def text() -> bytes:
    """Return some 33 MB that compress as files of a system do: gzip 2.4 to one, zstd 2.7 to one.

    It is larger than the windows of the compressors, so that a place in it is not found a second time.
    """
    random = Random(0)
    words = [random.randbytes(random.randrange(2, 13)) for _ in range(2000)]
    weights = [1 / (index + 10) for index in range(len(words))]
    return b"".join(random.choices(words, weights, k=5_000_000))


def contents(random: Random, count: int, total: int) -> Iterator[bytes]:
    """Yield contents that are all different: many small ones and some that are large."""
    average = total / count
    for _ in range(count):
        kind = random.random()
        if kind < 0.15:
            size = random.randrange(65)
        else:
            scale = 0.3 if kind < 0.9 else 5 if kind < 0.995 else 60
            size = min(int(random.expovariate(1 / (average * scale))), 100_000_000)
        yield random.randbytes(min(16, size)) + _piece(random, max(0, size - 16))


def _piece(random: Random, size: int) -> bytes:
    start = random.randrange(len(text()))
    piece = text()[start : start + size]
    return piece if len(piece) == size else piece + _piece(random, size - len(piece))


def write_layer(path: Path, number: int, count: int, total: int) -> None:
    random = Random(number)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("usr", f"usr/layer-{number}"):
            tar.addfile(_directory(name))
        for index, content in enumerate(contents(random, count, total)):
            parent = f"usr/layer-{number}/directory-{index // 200}"
            if index % 200 == 0:
                tar.addfile(_directory(parent))
            info = tarfile.TarInfo(f"{parent}/file-{index}")
            info.size, info.mtime = len(content), 1_700_000_000
            tar.addfile(info, io.BytesIO(content))
        end = tar.offset + 2 * tarfile.BLOCKSIZE
    os.truncate(path, end)


def _directory(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def pack(source: Path, target: Path, kind: str) -> None:
    if kind == CHUNKED:
        pack_chunked(source, target)
        return
    with source.open("rb") as plain, target.open("wb") as packed:
        if kind == "zstd":
            zstandard.ZstdCompressor().copy_stream(plain, packed)
        elif kind == "gzip":
            compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
            while data := plain.read(PIECE):
                packed.write(compressor.compress(data))
            packed.write(compressor.flush())
        else:
            shutil.copyfileobj(plain, packed, PIECE)


def pack_chunked(source: Path, target: Path) -> None:
    """Compress an archive as zstd:chunked.

    The content of each file has frames of its own, one for each chunk, and so has what stands between
    contents. The table of contents is in a frame at the end, which decoders skip.
    """
    compressor = zstandard.ZstdCompressor()
    with tarfile.open(source) as tar, source.open("rb") as plain, target.open("wb") as packed:
        places = [(info.offset_data, info.size) for info in tar if info.size]
        for start, size in [*places, (source.stat().st_size, 0)]:
            packed.write(compressor.compress(plain.read(start - plain.tell())))
            for place in range(0, size, CHUNK):
                packed.write(compressor.compress(plain.read(min(CHUNK, size - place))))
        table = bytes(100 * len(places))
        packed.write(b"\x50\x2a\x4d\x18" + len(table).to_bytes(4, "little") + table)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def make_layout(path: Path, kind: str, files: int, total: int, layer_count: int = LAYERS) -> None:
    """Make the layout, and its index last."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def keep(file: Path, media_type: str) -> dict[str, object]:
        digest, size = digest_of(file), file.stat().st_size
        file.rename(blobs / digest.removeprefix("sha256:"))
        return {"mediaType": media_type, "digest": digest, "size": size}

    def keep_document(document: object, media_type: str) -> dict[str, object]:
        (path / "document").write_text(json.dumps(document))
        return keep(path / "document", media_type)

    diff_ids, layers = [], []
    for number in range(layer_count):
        write_layer(path / "plain", number, files // layer_count, total // layer_count)
        diff_ids.append(digest_of(path / "plain"))
        pack(path / "plain", path / "packed", kind)
        suffix = "" if kind == "none" else f"+{kind.partition(':')[0]}"
        layers.append(keep(path / "packed", LAYER_TYPE + suffix))
    (path / "plain").unlink()
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = {"architecture": host_platform().architecture, "os": "linux", "rootfs": rootfs}
    manifest = {"schemaVersion": 2, "config": keep_document(config, CONFIG), "layers": layers}
    entry = keep_document(manifest, MANIFEST)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


@contextlib.contextmanager
def prepare(place: Place, kind: str = "gzip") -> Iterator[Mapping[str, str]]:
    """Make the layout."""
    layout = place.path / "layout"
    make_layout(layout, kind, place.scaled(FILES), place.scaled(BYTES))
    yield {"image": shlex.quote(f"oci:{layout}:t")}


@contextlib.contextmanager
def prepare_registry(place: Place) -> Iterator[Mapping[str, str]]:
    """Copy the image to a registry."""
    from tests.support.certificates import make_certificate  # needs a library of tests
    from tests.support.registry import run_registry

    work = place.path / "registry"
    work.mkdir()
    with prepare(place) as values, run_registry(work, make_certificate(work)) as registry:
        layout = str(place.path / "layout")
        registry.skopeo("copy", f"oci:{layout}:t", f"docker://{registry.host}/image:t")
        image = shlex.quote(f"docker://{registry.host}/image:t")
        yield {**values, "image": image, "certificates": shlex.quote(str(registry.certificates))}


@contextlib.contextmanager
def prepare_large(place: Place) -> Iterator[Mapping[str, str]]:
    """Make an image of one large layer with large files."""
    layout = place.path / "layout"
    total = place.scaled(LARGE_BYTES)
    make_layout(layout, "zstd", max(1, total // 20_000_000), total, layer_count=1)
    yield {"image": shlex.quote(f"oci:{layout}:t")}


INIT = Setup(both("--repo {store} init --insecure"))
PULL = both("--repo {store} oci pull {image} x")
SECOND = Row(
    "oci pull, second",
    PULL,
    (Aim(0.3),),
    "Start-up and the manifest; no layer is read.",
    3,
)


def first(name: str, commands: Mapping[str, str], limit: str, *aims: Aim) -> Row:
    """Return a row of the first pull."""
    return Row(f"oci pull, {name}", commands, aims, limit)


GROUPS = (
    Group(
        "oci",
        prepare,
        (
            INIT,
            first(
                "gzip",
                PULL,
                "Inflating, and the SHA-256 of layers twice, compressed and not.",
                Aim(0.8, REFERENCE),
                Aim(200, "", "peak_mb"),
            ),
            SECOND,
        ),
    ),
    Group(
        "oci-zstd",
        functools.partial(prepare, kind="zstd"),
        (
            INIT,
            first("zstd", PULL, "SHA-256 of layers and making files.", Aim(0.4, REFERENCE)),
        ),
        rounds=2,
    ),
    Group(
        "oci-zstd-chunked",
        functools.partial(prepare, kind=CHUNKED),
        (
            INIT,
            first(CHUNKED, PULL, "As zstd; frames by the hundred thousand besides.", Aim(0.4, REFERENCE)),
        ),
        rounds=2,
    ),
    Group(
        "oci-registry",
        prepare_registry,
        (
            INIT,
            first(
                "gzip, from a registry",
                {
                    OURS: "{ours} --repo {store} oci pull --cert-dir {certificates} {image} x",
                    # Skopeo, which is written in Go, is told in this way.
                    REFERENCE: "env SSL_CERT_FILE={certificates}/ca.crt"
                    " {reference} --repo {store} oci pull {image} x",
                },
                "As from a layout; the registry takes a part of the processors.",
                Aim(1.0, REFERENCE),
            ),
        ),
        rounds=2,
    ),
    Group(
        "oci-large",
        prepare_large,
        (
            Setup({OURS: "{ours} --repo {store} init --insecure"}),
            first(
                "one layer of 2 GB",
                {OURS: PULL[OURS]},
                "Hashing on one core: one layer is one stream. Memory: its workers and their buffers.",
                Aim(120, "", "peak_mb"),
            ),
        ),
        rounds=1,
    ),
)

if __name__ == "__main__":
    sys.exit(run(GROUPS, __doc__))
