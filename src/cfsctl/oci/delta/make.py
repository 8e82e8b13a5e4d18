"""Making deltas: an artifact with an image's documents, and a patch for each layer that another image lacks.

The same two images make the same artifact, with one version of the compression library.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from cfsctl.compression import Compression
from cfsctl.errors import IntegrityError
from cfsctl.oci.context import naming
from cfsctl.oci.delta.artifact import CONTENT, SOURCE_CONFIG, TARGET
from cfsctl.oci.delta.similar import BaseFiles
from cfsctl.oci.digest import compute_digest
from cfsctl.oci.layer_blobs import LARGE_FILES, spool
from cfsctl.oci.manifest import Descriptor
from cfsctl.oci.media_types import CONFIG, DELTA_ARTIFACT, MANIFEST
from cfsctl.oci.store.images import config_of
from cfsctl.oci.store.layers import StoredLayer, iter_pieces
from cfsctl.oci.tar_diff.blocks import BlockMatcher
from cfsctl.oci.tar_diff.decode import OpenedFile
from cfsctl.oci.tar_diff.encode import TarDiffEncoder, compress_with_prefix, estimate_size
from cfsctl.oci.tar_diff.format import MEDIA_TYPE
from cfsctl.oci.to_tree import image_tree
from cfsctl.progress import Advanced, Done, Skipped, Started, Unit, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.oci.delta.similar import BaseFile
    from cfsctl.oci.destinations.base import ImageDestination
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.layer_blobs import SpooledBlob
    from cfsctl.oci.store.images import StoredImage
    from cfsctl.oci.store.layers import Content
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

_READ_BYTES: Final = 1 << 20
_MAX_FRAME_PREFIX_BYTES: Final = 16 << 20
"""Largest file that a frame is made with, which takes eight times as much memory; above, blocks are
compared."""

_MAX_FRAME_BYTES: Final = 32 << 20
"""Largest content that a frame is made of, for the same reason."""

_SURELY_SMALLER: Final = 4
"""A frame that is smaller than the content by this factor is taken without a comparison."""

_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_EMPTY: Final = b"{}"


class DeltaResult(NamedTuple):
    """A delta that was made.

    Attributes:
        manifest_digest: The manifest of the delta.
        source_config: The config of the image that it starts from.
        target_manifest: The manifest of the image that it makes.
        patches: Patches in it.
        patch_bytes: Their sizes.
        layer_bytes: Sizes of the layers, uncompressed, that they make.
        reused: Layers that both images have.
    """

    manifest_digest: OciDigest
    source_config: OciDigest
    target_manifest: OciDigest
    patches: int
    patch_bytes: int
    layer_bytes: int
    reused: int


def make_delta(
    repository: Repository,
    old: StoredImage,
    new: StoredImage,
    destination: ImageDestination,
    *,
    reporter: Reporter = silent,
) -> DeltaResult:
    """Make the delta from one stored image to another.

    Args:
        repository: Where they are stored.
        old: The image that whoever applies the delta has.
        new: The image that it makes.
        destination: Where the delta goes.
        reporter: Told how far it is.

    Raises:
        NotAnImageError: One of them is an artifact.
        IntegrityError: Something stored is damaged.
        FetchError: A registry does not take it.
        OSError: Something cannot be read or written.
    """
    return _Making(repository, old, new, destination, reporter).run()


class _Making:
    def __init__(
        self,
        repository: Repository,
        old: StoredImage,
        new: StoredImage,
        destination: ImageDestination,
        reporter: Reporter,
    ) -> None:
        self._repository = repository
        self._old = config_of(old)
        self._new = new
        self._new_layers = config_of(new).layers()
        self._destination = destination
        self._report = reporter
        self._entries: list[dict[str, object]] = []
        self._patch_bytes = self._layer_bytes = 0

    def run(self) -> DeltaResult:
        image = self._new
        self._put_document(MANIFEST, image.manifest_document.data, "image-manifest")
        self._put_document(CONFIG, image.config_document.data, "image-config")
        patches = self._put_patches()
        with naming(self._destination.name):
            self._put(_describe(_EMPTY_TYPE, _EMPTY), io.BytesIO(_EMPTY))
            manifest = self._make_manifest()
            descriptor = _describe(MANIFEST, manifest)
            self._destination.put_manifest(descriptor, manifest)
        return DeltaResult(
            descriptor.digest,
            self._old.digest,
            image.digest,
            patches,
            self._patch_bytes,
            self._layer_bytes,
            len(self._new_layers) - len(self._list_missing()),
        )

    def _list_missing(self) -> list[tuple[Descriptor, OciDigest, ObjectID]]:
        """Return blob, digest and stream of each layer that the old image lacks."""
        known = set(self._old.config.diff_ids)
        blobs = self._new.manifest.layers
        layers = zip(blobs, self._new_layers, strict=True)
        return [(blob, *layer) for blob, layer in layers if layer[0] not in known]

    def _put_patches(self) -> int:
        """Make the patches, one for each layer that differs; return how many."""
        for digest, _ in self._new_layers:
            if digest in self._old.config.diff_ids:
                self._report(Skipped(f"layer {digest}"))
        made: dict[OciDigest, Descriptor] = {}
        targets: set[OciDigest] = set()
        missing = self._list_missing()
        files = BaseFiles(image_tree(self._repository, self._old.layers())) if missing else None
        for blob, digest, stream_id in missing:
            if files is not None and digest not in made:
                layer = StoredLayer(self._repository, digest, stream_id)
                made[digest] = self._put_patch(layer, files)
            if blob.digest not in targets:
                targets.add(blob.digest)
                self._add(made[digest], "image-layer", {TARGET: str(blob.digest)})
        return len(made)

    def _put_patch(self, layer: StoredLayer, files: BaseFiles) -> Descriptor:
        making = LayerPatch(layer, files, self._report)
        with naming(f"layer {layer.digest}"), making.make() as patch:
            self._patch_bytes += patch.size
            self._layer_bytes += making.size
            descriptor = Descriptor(MEDIA_TYPE, patch.digest, patch.size, {})
            self._put(descriptor, patch.file)
        return descriptor

    def _put_document(self, media_type: str, data: bytes, content: str) -> None:
        descriptor = _describe(media_type, data)
        self._put(descriptor, io.BytesIO(data))
        self._add(descriptor, content, {})

    def _put(self, descriptor: Descriptor, file: IO[bytes]) -> None:
        if not self._destination.has_blob(descriptor):
            self._destination.put_blob(descriptor, file)

    def _add(self, descriptor: Descriptor, content: str, annotations: dict[str, str]) -> None:
        self._entries.append({**_to_document(descriptor), "annotations": {CONTENT: content, **annotations}})

    def _make_manifest(self) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": DELTA_ARTIFACT,
            "config": _to_document(_describe(_EMPTY_TYPE, _EMPTY)),
            "layers": self._entries,
            "annotations": {SOURCE_CONFIG: str(self._old.digest)},
        }
        return json.dumps(document, separators=(",", ":")).encode()


def _describe(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type, compute_digest(data), len(data), {})


def _to_document(descriptor: Descriptor) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


class LayerPatch:
    """Makes the patch of one layer, and compares the layer with its digest on the way.

    Attributes:
        size: Bytes of the layer that were read.
    """

    def __init__(self, layer: StoredLayer, files: BaseFiles, reporter: Reporter = silent) -> None:
        """Make nothing yet.

        Args:
            layer: The layer.
            files: The files that it can be made of.
            reporter: Told how far it is.
        """
        self._layer = layer
        self._files = files
        self._objects = layer.repository.objects
        self._report = reporter
        self._computed = layer.digest.new_hash()
        self.size = 0
        self._encoder: TarDiffEncoder

    def make(self) -> SpooledBlob:
        """Return the patch, which the caller closes.

        Raises:
            IntegrityError: The layer is damaged.
            TarError, SplitstreamError: The same.
        """
        progress_id = f"layer {self._layer.digest}"
        directory = os.environ.get("TMPDIR") or LARGE_FILES
        with tempfile.TemporaryFile(dir=directory) as operations, self._layer.open() as reader:
            self._report(Started(progress_id, reader.stream_size, Unit.BYTES))
            self._encoder = TarDiffEncoder(operations.write)
            for piece in iter_pieces(reader):
                if isinstance(piece, tuple):
                    self._encode(piece)
                    self._report(Advanced(progress_id, self.size, reader.stream_size))
                else:
                    self._encoder.data(self._take(piece))
            magic = self._encoder.finish()
            self._check()
            self._report(Done(progress_id, self.size))
            operations.seek(0)

            def write(write: Callable[[bytes | memoryview], None]) -> None:
                write(magic)
                while data := operations.read(_READ_BYTES):
                    write(data)

            return spool(write, Compression.NONE)

    def _check(self) -> None:
        digest = self._layer.digest
        if self._computed.hexdigest() != digest.encoded:
            raise IntegrityError(
                f"Layer has incorrect checksum: found {digest.algorithm}:{self._computed.hexdigest()}",
                hint="remove the image and collect garbage, then pull it again",
            )

    def _take(self, data: bytes | memoryview) -> bytes | memoryview:
        self._computed.update(data)
        self.size += len(data)
        return data

    def _encode(self, content: Content) -> None:
        """Encode the content of a file, in the way that fits."""
        same = self._files.find_same(content.object_id)
        if same is not None:
            for data in self._iter_content(content):
                self._take(data)
            self._encoder.copy(same.path, 0, content.size)
            return
        base = self._files.find_similar(content.path, content.size)
        if base is None or not self._objects.is_sound(base.object_id):
            for data in self._iter_content(content):
                self._encoder.data(self._take(data))
        elif base.size <= _MAX_FRAME_PREFIX_BYTES and content.size <= _MAX_FRAME_BYTES:
            self._encode_frame(content, base)
        else:
            self._encode_blocks(content, base)

    def _encode_frame(self, content: Content, base: BaseFile) -> None:
        data = self._take(b"".join(self._iter_content(content)))
        frame = compress_with_prefix(bytes(data), self._objects.read(base.object_id))
        if len(frame) * _SURELY_SMALLER < len(data) or len(frame) < estimate_size(bytes(data)):
            self._encoder.frame(base.path, frame, base.size)
        else:
            self._encoder.data(data)

    def _encode_blocks(self, content: Content, base: BaseFile) -> None:
        file = OpenedFile(self._objects.open(base.object_id))
        encoder = self._encoder
        try:
            matcher = BlockMatcher(
                file, lambda offset, size: encoder.copy(base.path, offset, size), encoder.data
            )
            matcher.run(map(self._take, self._iter_content(content)))
        finally:
            file.close()

    def _iter_content(self, content: Content) -> Iterator[bytes]:
        with open(self._objects.open(content.object_id), "rb", buffering=0) as file:
            while data := file.read(_READ_BYTES):
                yield data
