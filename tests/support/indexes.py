"""A layout with an index: images for several platforms, an attestation, an index below, and signatures."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.oci.media_types import CONFIG
from tests.support.oci import LAYER, Layout, digest_of, directory, file, make_tar, to_json

if TYPE_CHECKING:
    from pathlib import Path

    Described = dict[str, object]

IN_TOTO = "application/vnd.in-toto+json"
OTHER_SYSTEM = make_tar([directory("Files"), file("Files/x", b"w" * 100)])


class MultiImage(NamedTuple):
    """The layout.

    Attributes:
        layout: The same; ``multi`` is the index, ``one`` the image for amd64.
        listed: The index.
        images: The images, by architecture; the one for s390x is only in the index below.
        attestation: An artifact that BuildKit lists with them.
        referrers: Artifacts by what they are about: ``index``, ``amd64`` and ``signature`` (of the index).
    """

    layout: Layout
    listed: Described
    images: dict[str, Described]
    attestation: Described
    referrers: dict[str, Described]


def make_multi_image(path: Path) -> MultiImage:
    """Make the layout. Its layers are packed as no library packs them by default."""
    layout = Layout(path)
    images = {name: add_image(layout, name) for name in ("amd64", "arm64", "s390x")}
    images["windows"] = add_image(layout, "amd64", "windows", OTHER_SYSTEM)
    below = layout.add_index(None, [images["s390x"], images["amd64"]])
    attestation = add_attestation(layout)
    listed = [images["amd64"], images["arm64"], images["windows"], attestation, below]
    layout.entries.clear()
    index = layout.add_index("multi", listed)
    layout.add_entry(dict(images["amd64"]), "one")
    signature = layout.add_referrer(index, "example/signature", b"signature of the index")
    referrers = {
        "index": signature,
        "amd64": layout.add_referrer(images["amd64"], "example/sbom", b"contents of amd64"),
        "signature": layout.add_referrer(signature, "example/note", b"about the signature"),
    }
    return MultiImage(layout, index, images, attestation, referrers)


def add_image(layout: Layout, name: str, os: str = "linux", tar: bytes | None = None) -> Described:
    """Add an image with a compressed layer; return how an index lists it."""
    tar = tar or make_tar([directory("usr"), file("usr/name", name.encode() * 40)])
    platform = {"os": os, "architecture": name}
    packed = [(gzip.compress(tar, 1, mtime=7), f"{LAYER}+gzip")]
    layout.add_image(None, [tar], packed=packed, config=platform, platform=platform)
    return dict(layout.entries[-1])


def add_attestation(layout: Layout) -> Described:
    """Add what BuildKit writes about an image: a manifest with a config like that of an image."""
    statement = to_json({"_type": "https://in-toto.io/Statement/v0.1"})
    unknown = {"os": "unknown", "architecture": "unknown"}
    config = {**unknown, "rootfs": {"type": "layers", "diff_ids": [digest_of(statement)]}}
    layout.add_manifest(
        None, layout.add_blob(to_json(config), CONFIG), [layout.add_blob(statement, IN_TOTO)], unknown
    )
    return dict(layout.entries[-1])


def list_blobs(path: Path) -> dict[str, bytes]:
    """Return the blobs of a layout by their digits."""
    return {blob.name: blob.read_bytes() for blob in (path / "blobs" / "sha256").iterdir()}
