"""Fuzz the JSON documents of OCI images: each is parsed or refused with an error of its own.

    python fuzz/fuzz_oci_documents.py CORPUS [libFuzzer options]

Needs atheris. The first byte of an input chooses the kind: manifest, index, config, or one of Docker's
manifests."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["cfsctl"]):
    from cfsctl.errors import FormatError
    from cfsctl.oci.digest import compute_digest
    from cfsctl.oci.docker import convert_manifest
    from cfsctl.oci.manifest import Descriptor, parse_config, parse_index, parse_manifest
    from cfsctl.oci.media_types import DOCKER_MANIFEST

DIGEST = "sha256:" + "a" * 64
BLOB = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 5}
SEEDS = {
    b"m": {"schemaVersion": 2, "config": BLOB, "layers": [BLOB], "annotations": {"a": "b"}, "subject": BLOB},
    b"i": {"schemaVersion": 2, "manifests": [BLOB | {"platform": {"os": "linux", "architecture": "arm"}}]},
    b"c": {
        "architecture": "arm",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "config": {"Labels": {"a": "b"}},
    },
    b"d": {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": BLOB, "layers": [BLOB]},
}


def one_input(data: bytes) -> None:
    kind, document = data[:1], data[1:]
    try:
        if kind == b"d":
            descriptor = Descriptor(DOCKER_MANIFEST, compute_digest(document), len(document), {})
            converted = convert_manifest(descriptor, document)
            assert parse_manifest(converted.data).layers is not None
            assert converted.digest == compute_digest(converted.data)
        else:
            {b"i": parse_index, b"c": parse_config}.get(kind, parse_manifest)(document)
    except FormatError:
        return


def seed(corpus: Path) -> None:
    """Put one document of each kind into a new corpus."""
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    for key, document in SEEDS.items():
        (corpus / key.decode()).write_bytes(key + json.dumps(document).encode())


if __name__ == "__main__":
    for argument in sys.argv[1:2]:
        seed(Path(argument))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
