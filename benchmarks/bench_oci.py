"""Pulls of an image of 65,000 files, 2 GB in five layers, from a layout, beside another cfsctl.

    python benchmarks/bench_oci.py [--kind gzip|zstd|none] [--files N] [--bytes N] [--rounds N] [--layout DIR]
    [--reference REFERENCE] [OTHER]

OTHER is another cfsctl, for example that of composefs-rs. Runs alternate; what is quoted is the ratio of
medians of wall time, ours to theirs. Measured are the first pull into a new repository and a second pull of
the same image. The layout is made in DIR if it is not there, which takes a while, and stays. With REFERENCE
another image is pulled, for example one that was pushed to a registry on this machine.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import zstandard

from benchmarks.measuring import Run, measure, print_head, report
from cfsctl.oci.media_types import CONFIG, MANIFEST
from cfsctl.oci.reference import host_platform

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYERS = 5
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
OWN = Path(sys.executable).parent / "cfsctl"
PIECE = 1 << 20


def contents(random: Random, count: int, total: int) -> Iterator[bytes]:
    """Yield contents that compress three to one: many small ones and some that are large."""
    words = [random.randbytes(random.randrange(3, 9)) for _ in range(5000)]
    pool = b"".join(random.choice(words) for _ in range(700_000))
    average = total / count
    for _ in range(count):
        kind = random.random()
        if kind < 0.15:
            size = random.randrange(65)
        else:
            scale = 0.3 if kind < 0.9 else 5 if kind < 0.995 else 60
            size = min(int(random.expovariate(1 / (average * scale))), 100_000_000)
        start = random.randrange(len(pool) // 2)
        repeated = pool * (1 + (start + size) // len(pool))
        yield random.randbytes(min(16, size)) + repeated[start : start + max(0, size - 16)]


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


def _directory(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def pack(source: Path, target: Path, kind: str) -> None:
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


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def make_layout(path: Path, kind: str, files: int, total: int) -> None:
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
    for number in range(LAYERS):
        write_layer(path / "plain", number, files // LAYERS, total // LAYERS)
        diff_ids.append(digest_of(path / "plain"))
        pack(path / "plain", path / "packed", kind)
        layers.append(keep(path / "packed", LAYER_TYPE + ("" if kind == "none" else f"+{kind}")))
    (path / "plain").unlink()
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = {"architecture": host_platform().architecture, "os": "linux", "rootfs": rootfs}
    manifest = {"schemaVersion": 2, "config": keep_document(config, CONFIG), "layers": layers}
    entry = keep_document(manifest, MANIFEST)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def pull_twice(program: str, reference: str, place: Path) -> tuple[Run, Run]:
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([program, "init", place, "--insecure"], check=True, stdout=subprocess.DEVNULL)
    command = f"{program} --repo {place} oci pull {reference} x"
    return measure(command, 0), measure(command, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("gzip", "zstd", "none"), default="gzip")
    parser.add_argument("--files", type=int, default=65_000)
    parser.add_argument("--bytes", type=int, default=2_000_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layout", type=Path)
    parser.add_argument("--reference")
    parser.add_argument("other", nargs="?")
    options = parser.parse_args()
    programs = {"ours": str(OWN)} | ({"other": options.other} if options.other else {})
    with tempfile.TemporaryDirectory(dir=options.layout and options.layout.parent) as directory:
        layout = options.layout or Path(directory) / "layout"
        if options.reference is None and not (layout / "index.json").exists():
            make_layout(layout, options.kind, options.files, options.bytes)
        reference = options.reference or f"oci:{layout}:t"
        jobs = ("first pull", "second pull")
        results: dict[str, dict[str, list[Run]]] = {job: {name: [] for name in programs} for job in jobs}
        for _ in range(options.rounds):
            for name, program in programs.items():
                for job, run in zip(
                    jobs, pull_twice(program, reference, Path(directory) / "repository"), strict=True
                ):
                    results[job][name].append(run)
    print_head()
    for job in jobs:
        report(f"{job}, {options.kind}", results[job])


if __name__ == "__main__":
    main()
