"""Images by name: over all stores, as podman and skopeo find them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import FormatError
from cfsctl.oci.digest import OciDigest, OciDigestError, parse_digest
from cfsctl.oci.reference import ImageReferenceError
from cfsctl.oci.registry.names import ImageName, parse_image_name
from cfsctl.oci.source import ImageNotFoundError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cfsctl.oci.containers_storage.store import ImageRecord, LayerRecord, Store

_ID_PREFIX: Final = re.compile(r"(?:sha256:)?([0-9a-f]{3,64})")
_ID_CHARACTERS: Final = 64
_LOCAL: Final = "localhost/"
"""Host of images that were built and named without one, as podman and buildah have it."""

MAX_CHAIN: Final = 4096


class StoredImage(NamedTuple):
    """An image and the store that it is in."""

    store: Store
    record: ImageRecord


class ChainLayer(NamedTuple):
    """A layer of an image and the store that it is in."""

    store: Store
    record: LayerRecord


class WantedImage(NamedTuple):
    """What a name says of an image.

    Attributes:
        id: Its ID or the beginning of that, or empty.
        names: Names that it may have, the first one first.
        digest: Digest of a manifest of it, or None.
    """

    id: str = ""
    names: tuple[ImageName, ...] = ()
    digest: OciDigest | None = None


def parse_wanted(text: str) -> list[WantedImage]:
    """Return what a text may mean: an ID, and a name; the first that exists counts.

    ``NAME[:TAG]``, ``NAME[:TAG]@DIGEST``, ``NAME@ID``, ``@ID``, ``ID``, the beginning of an ID, or
    ``sha256:ID``.

    Raises:
        ImageReferenceError: It can be neither.
    """
    found: list[WantedImage] = []
    name, at, suffix = text.rpartition("@")
    if not at and (match := _ID_PREFIX.fullmatch(text)):
        found.append(WantedImage(match[1]))
    if at and (match := _ID_PREFIX.fullmatch(suffix)):
        if not name:
            return [WantedImage(match[1]), *_by_digest(suffix)]
        if not suffix.startswith("sha256:"):  # an ID that confirms the name
            has_tag = ":" in name.rpartition("/")[2]
            names = _names(name) if has_tag else tuple(each._replace(tag=None) for each in _names(name))
            return [WantedImage(match[1], names)]
    try:
        names = _names(text)
    except FormatError:
        if not found:
            raise
        return found + _by_digest(text)
    return [*found, *_by_digest(text), WantedImage("", names, names[0].digest)]


def _by_digest(text: str) -> list[WantedImage]:
    try:
        return [WantedImage(digest=parse_digest(text))]
    except OciDigestError:
        return []


def _names(text: str) -> tuple[ImageName, ...]:
    """Return the full names that a short one stands for."""
    found = [parse_image_name(text)]
    if "/" not in text.partition("@")[0]:
        found.append(parse_image_name(_LOCAL + text))
    return tuple(found)


def find_image(stores: Sequence[Store], text: str) -> StoredImage:
    """Return the image that a text names, of the first store that has one.

    Raises:
        ImageReferenceError: It names nothing.
        ImageNotFoundError: No store has it.
        SourceError: It is the beginning of several IDs.
    """
    wanted = parse_wanted(text)
    records = [(store, store.read_images()) for store in stores]
    for candidate in wanted:
        for store, images in records:
            record = _choose(candidate, images, text)
            if record is not None:
                return StoredImage(store, record)
    places = ", ".join(f"{store.path} ({store.driver})" for store in stores)
    names = sorted({name for _, images in records for image in images for name in image.names})
    raise ImageNotFoundError(
        f"no image of this name in {places or 'any storage: there is none'}",
        hint=f"images there: {', '.join(names[:8])}" if names else None,
    )


def _choose(wanted: WantedImage, images: Sequence[ImageRecord], text: str) -> ImageRecord | None:
    found = [image for image in images if _matches(wanted, image)]
    if len({image.id for image in found}) > 1 and not wanted.names and wanted.digest is None:
        exact = [image for image in found if image.id == wanted.id]
        if not exact:
            raise SourceError(f"{text}: {len(found)} images have this prefix", hint="type more digits")
        return exact[0]
    return found[0] if found else None


def _matches(wanted: WantedImage, image: ImageRecord) -> bool:
    if wanted.id and not image.id.startswith(wanted.id):
        return False
    if wanted.digest is not None and str(wanted.digest) not in manifest_digests(image):
        return False
    if not wanted.names:
        return True
    parsed = [*_parse_all(image.names)]
    if wanted.digest is not None or (wanted.id and all(name.tag is None for name in wanted.names)):
        # Of a name with a digest the tag does not count, and the image may have lost its names.
        return not parsed or any(own.repository == name.repository for own in parsed for name in wanted.names)
    return any(
        (own.repository, own.tag) == (name.repository, name.tag) for own in parsed for name in wanted.names
    )


def _parse_all(names: Sequence[str]) -> Iterator[ImageName]:
    for name in names:
        try:
            yield parse_image_name(name)
        except (ImageReferenceError, OciDigestError):
            continue  # names of containers/storage can be any text


def manifest_digests(image: ImageRecord) -> set[str]:
    """Return the digests of all manifests that are kept with an image."""
    prefix = "manifest-"
    kept = {name.removeprefix(prefix) for name in image.documents if name.startswith(prefix)}
    return kept | {image.digest} if image.digest else kept


def find_chain(stores: Sequence[Store], image: StoredImage) -> list[ChainLayer]:
    """Return the layers of an image, the lowest first; each may be in another store.

    Raises:
        SourceError: One is missing, or they lead in a circle.
    """
    chain: list[ChainLayer] = []
    seen: set[str] = set()
    layer_id = image.record.layer
    order = [image.store, *(store for store in stores if store is not image.store)]
    while layer_id:
        if layer_id in seen or len(chain) >= MAX_CHAIN:
            raise SourceError(f"image {image.record.id}: the layers form a cycle at {layer_id}")
        seen.add(layer_id)
        found = _find_layer(order, layer_id)
        if found is None:
            raise SourceError(
                f"image {image.record.id}: layer {layer_id} is not in the storage",
                hint="pull the image again with podman",
            )
        chain.append(found)
        layer_id = found.record.parent
    return chain[::-1]


def _find_layer(stores: Sequence[Store], layer_id: str) -> ChainLayer | None:
    for store in stores:
        record = store.find_layer(layer_id)
        if record is not None:
            return ChainLayer(store, record)
    return None
