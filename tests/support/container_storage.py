"""A storage of containers (podman, buildah), as these programs leave it, made without them."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING

from cfsctl.oci.media_types import CONFIG, MANIFEST
from tests.support.oci import LAYER, digest_of, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FILES_OF = {"overlay": "overlay/{}/diff", "vfs": "vfs/dir/{}", "btrfs": "btrfs/subvolumes/{}"}


def split_tar(data: bytes) -> tuple[list[dict[str, object]], dict[str, bytes]]:
    """Return the lines of tar-split for an archive, and the contents of its files."""
    lines: list[dict[str, object]] = []
    contents: dict[str, bytes] = {}
    start = 0

    def segment(end: int) -> None:
        payload = base64.b64encode(data[start:end]).decode()
        lines.append({"type": 2, "payload": payload, "position": len(lines)})

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            segment(member.offset_data)
            start = member.offset_data
            entry: dict[str, object] = {"type": 1}
            try:
                entry["name"] = member.name.encode("utf-8", "surrogateescape").decode()
            except UnicodeDecodeError:
                raw = member.name.encode("utf-8", "surrogateescape")
                entry["name_raw"] = base64.b64encode(raw).decode()
            if member.isreg() and member.size:
                entry["size"] = member.size
                contents[member.name] = data[start : start + member.size]
                start += member.size
            lines.append({**entry, "payload": "AAAAAAAAAAA=", "position": len(lines)})
    segment(len(data))
    return lines, contents


class Storage:
    """A storage in the making.

    Attributes:
        path: Its directory.
        driver: The driver that it is of.
        images: What its list of images has.
        layers: What its list of layers has.
    """

    def __init__(self, path: Path, driver: str = "overlay") -> None:
        """Make the directories."""
        self.path = path
        self.driver = driver
        self.images: list[dict[str, object]] = []
        self.layers: list[dict[str, object]] = []
        for name in ("images", "layers"):
            (path / f"{driver}-{name}").mkdir(parents=True)
            (path / f"{driver}-{name}" / f"{name}.lock").touch()
        self.write()

    @property
    def reference(self) -> str:
        """What stands before the name of an image in it."""
        return f"containers-storage:[{self.driver}@{self.path}+{self.path}/run]"

    def files(self, layer_id: str) -> Path:
        """Return where the files of a layer are."""
        return self.path / FILES_OF[self.driver].format(layer_id)

    def split_path(self, layer_id: str) -> Path:
        """Return where the rest of a layer's archive is."""
        return self.path / f"{self.driver}-layers" / f"{layer_id}.tar-split.gz"

    def document_path(self, image_id: str, name: str) -> Path:
        """Return where a document of an image is."""
        encoded = "=" + base64.b64encode(name.encode()).decode()
        return self.path / f"{self.driver}-images" / image_id / (name if name == "manifest" else encoded)

    def add_layer(self, data: bytes, parent: str = "") -> str:
        """Add a layer and return its ID."""
        layer_id = digest_of(f"{parent}{digest_of(data)}".encode()).removeprefix("sha256:")
        if any(layer["id"] == layer_id for layer in self.layers):
            return layer_id
        lines, contents = split_tar(data)
        self.write_split(layer_id, lines)
        files = self.files(layer_id)
        files.mkdir(parents=True)
        for name, content in contents.items():
            path = files / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        record: dict[str, object] = {"id": layer_id, "diff-digest": digest_of(data), "diff-size": len(data)}
        self.layers.append(record | ({"parent": parent} if parent else {}))
        self.write()
        return layer_id

    def write_split(self, layer_id: str, lines: Sequence[Mapping[str, object]]) -> None:
        """Write the rest of a layer's archive."""
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        self.split_path(layer_id).write_bytes(gzip.compress(text.encode(), mtime=0))

    def read_split(self, layer_id: str) -> list[dict[str, object]]:
        """Return the rest of a layer's archive."""
        lines = gzip.decompress(self.split_path(layer_id).read_bytes()).splitlines()
        return [json.loads(line) for line in lines]

    def add_image(
        self,
        names: Sequence[str],
        layers: Sequence[bytes],
        *,
        config: Mapping[str, object] | None = None,
        layer_type: str = LAYER,
        media_types: tuple[str, str] = (MANIFEST, CONFIG),
    ) -> str:
        """Add an image and return its ID, which is the digest of its config."""
        parent = ""
        for layer in layers:
            parent = self.add_layer(layer, parent)
        document = {"architecture": "amd64", "os": "linux", **(config or {})}
        document["rootfs"] = {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]}
        config_bytes = to_json(document)
        manifest = to_json(
            {
                "schemaVersion": 2,
                "mediaType": media_types[0],
                "config": {
                    "mediaType": media_types[1],
                    "digest": digest_of(config_bytes),
                    "size": len(config_bytes),
                },
                "layers": [
                    {"mediaType": layer_type, "digest": digest_of(layer), "size": len(layer)}
                    for layer in layers
                ],
            }
        )
        return self.add_documents(names, parent, config_bytes, manifest)

    def add_documents(self, names: Sequence[str], layer: str, config: bytes, manifest: bytes) -> str:
        """Add an image with given documents and return its ID."""
        digest = digest_of(manifest)
        documents = {digest_of(config): config, f"manifest-{digest}": manifest, "manifest": manifest}
        image_id = digest_of(config or manifest).removeprefix("sha256:")
        for name, data in documents.items():
            path = self.document_path(image_id, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        record: dict[str, object] = {
            "id": image_id,
            "digest": digest,
            "names": [*names],
            "big-data-names": [*documents],
        }
        self.images.append(record | ({"layer": layer} if layer else {}))
        self.write()
        return image_id

    def write(self) -> None:
        """Write the lists."""
        for name, records in (("images", self.images), ("layers", self.layers)):
            (self.path / f"{self.driver}-{name}" / f"{name}.json").write_bytes(to_json(records))
