"""OCI layouts for tests: recorded ones, and small ones made here."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import lzma
import tarfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cfsctl.oci.media_types import CONFIG, INDEX, MANIFEST
from tests.support.archives import unpack_archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

VECTORS = Path(__file__).parents[1] / "vectors" / "oci"
LAYER = "application/vnd.oci.image.layer.v1.tar"

Member = tuple[str, bytes, int, float, bytes | str, dict[str, str]]
"""Name, type, mode, time, content or target, pax records."""


@cache
def read_table(name: str) -> list[dict[str, str]]:
    """Return the rows of a recorded table."""
    with open(VECTORS / name, newline="") as table:
        return list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))


def unpack(archive: Path, target: Path) -> None:
    """Unpack a recorded archive."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(archive.read_bytes()))) as tar:
        unpack_archive(tar, target)


def make_tar(members: Iterable[Member]) -> bytes:
    """Return an archive in pax format."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, mode, mtime, body, records in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime, info.pax_headers = kind, mode, mtime, records
            if isinstance(body, str):
                info.linkname = body
                tar.addfile(info)
            else:
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def directory(name: str, mode: int = 0o755, mtime: float = 0) -> Member:
    """Return a directory for `make_tar`."""
    return name, tarfile.DIRTYPE, mode, mtime, b"", {}


def file(name: str, content: bytes = b"", mode: int = 0o644, mtime: float = 0) -> Member:
    """Return a regular file for `make_tar`."""
    return name, tarfile.REGTYPE, mode, mtime, content, {}


def symlink(name: str, target: str) -> Member:
    """Return a symbolic link for `make_tar`."""
    return name, tarfile.SYMTYPE, 0o777, 0, target, {}


def hard_link(name: str, target: str) -> Member:
    """Return a hard link for `make_tar`."""
    return name, tarfile.LNKTYPE, 0o644, 0, target, {}


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of a blob."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(document: object) -> bytes:
    """Return a document without blanks."""
    return json.dumps(document, separators=(",", ":")).encode()


class Layout:
    """A layout in the making.

    Attributes:
        path: Its directory.
        entries: What the index lists.
    """

    def __init__(self, path: Path) -> None:
        """Make the directory."""
        self.path = path
        self.entries: list[dict[str, object]] = []
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def add_blob(self, data: bytes, media_type: str) -> dict[str, object]:
        """Store a blob and return its descriptor."""
        digest = digest_of(data)
        (self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_image(
        self,
        tag: str | None,
        layers: Sequence[bytes],
        *,
        packed: Sequence[tuple[bytes, str]] | None = None,
        config: Mapping[str, object] | None = None,
        platform: Mapping[str, str] | None = None,
    ) -> str:
        """Add an image and return the digest of its manifest.

        Args:
            tag: Its tag, or None.
            layers: The layers, not compressed.
            packed: The blobs and media types of the layers, if they are compressed.
            config: What the config has besides the layers.
            platform: What the index says of it.
        """
        descriptors = [
            self.add_blob(blob, media_type) for blob, media_type in packed or [(x, LAYER) for x in layers]
        ]
        document = {"architecture": "amd64", "os": "linux", **(config or {})}
        document["rootfs"] = {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]}
        return self.add_manifest(tag, self.add_blob(to_json(document), CONFIG), descriptors, platform)

    def add_manifest(
        self,
        tag: str | None,
        config: Mapping[str, object],
        layers: Sequence[Mapping[str, object]],
        platform: Mapping[str, str] | None = None,
    ) -> str:
        """Add a manifest and return its digest."""
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        entry = self.add_blob(to_json(document), MANIFEST)
        self.add_entry(entry, tag, platform)
        return str(entry["digest"])

    def add_entry(
        self, entry: dict[str, object], tag: str | None, platform: Mapping[str, str] | None = None
    ) -> None:
        """Have the index list something."""
        if tag is not None:
            entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
        if platform is not None:
            entry["platform"] = platform
        self.entries.append(entry)
        self.write_index()

    def add_index(self, tag: str | None, entries: Sequence[Mapping[str, object]]) -> dict[str, object]:
        """Add an index that lists descriptors, and return its own; entries of that are the only ones left."""
        data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, indent=2).encode()
        described = self.add_blob(data, INDEX)
        self.add_entry(dict(described), tag)
        return described

    def add_referrer(self, subject: Mapping[str, object], kind: str, body: bytes) -> dict[str, object]:
        """Add an artifact about a manifest or index, and return its descriptor."""
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": self.add_blob(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [self.add_blob(body, "text/plain")],
            "subject": {key: subject[key] for key in ("mediaType", "digest", "size")},
        }
        described = self.add_blob(to_json(document), MANIFEST)
        self.add_entry(dict(described), None)
        return described

    def write_index(self) -> None:
        """Write the index."""
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.entries}
        (self.path / "index.json").write_bytes(to_json(document))


def example_layers() -> tuple[bytes, bytes]:
    """Return the two layers whose stream and image IDs are recorded in `EXAMPLE_IDS`."""
    when = 1000000000
    records = {"SCHILY.xattr.security.capability": "cap", "SCHILY.xattr.user.k": "v"}
    lower = make_tar(
        [
            directory("usr", 0o755, when),
            file("usr/inline", b"i" * 64, 0o644, when),
            ("usr/big", tarfile.REGTYPE, 0o755, when, b"b" * 65, records),
            ("usr/link", tarfile.SYMTYPE, 0o777, when, "big", {}),
            ("usr/hard", tarfile.LNKTYPE, 0o600, when, "usr/big", {}),
            file("usr/" + "n" * 110, b"", 0o600, when + 0.5),
            directory("run", 0o755, when),
            file("run/x", b"", 0o644, when),
            directory("etc", 0o755, when),
            file("etc/f", b"f" * 100, 0o644, when),
        ]
    )
    upper = make_tar(
        [
            file("etc/.wh.f", b"", 0o644, when),
            directory("usr", 0o711, when + 1),
            file("usr/new", b"new", 0o644, when),
        ]
    )
    return lower, upper
