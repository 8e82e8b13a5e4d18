"""Reading and storing single layers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.library.ids import ObjectID
from cfsctl.library.oci.base import OciBase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cfsctl.library.oci.results import OciLayer
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.finalize import FinalizedImage
    from cfsctl.oci.layer_transfer import ReceivedLayer


class LayerMethods(OciBase):
    """What is done with single layers. A `digest` is that of the uncompressed layer, as in the config."""

    def find_layer(self, digest: str) -> ObjectID | None:
        """Return the stream of a layer, or None if it is not stored.

        Raises:
            FormatError: The digest is not valid.
        """
        from cfsctl.oci.store.layers import find_layer_stream

        found = find_layer_stream(self._store, digest)
        return None if found is None else ObjectID(found)

    def layer(self, digest: str) -> OciLayer:
        """Return a stored layer.

        Raises:
            FormatError: The digest is not valid.
            RepositoryError: There is no such layer.
        """
        from cfsctl.library.oci.results import OciLayer
        from cfsctl.oci.store.layers import open_layer

        stored = open_layer(self._store, digest)
        return OciLayer(stored, ObjectID(stored.stream_id))

    def open_objects(self) -> int:
        """Return a descriptor of the directory of all objects, which is the caller's."""
        return os.dup(self._store.objects.objects_fd())

    def receive_layer(
        self,
        digest: str,
        read: Callable[[int], bytes],
        directories: Sequence[int],
        *,
        must_share: bool = False,
    ) -> ReceivedLayer:
        """Store a layer that comes as a splitdirfdstream from another process, unless it is stored already.

        Args:
            digest: The digest that it must have.
            read: Returns the next bytes of the stream, at most so many; none at its end.
            directories: Descriptors of the directories that it refers to, by number; borrowed.
            must_share: Fail if a file can be neither reflinked nor hard-linked.

        Raises:
            FormatError: The digest, the stream, or the layer in it is not valid.
            IntegrityError: It is another layer; it has no name then.
            OSError: Something could not be read or stored.
        """
        from cfsctl.oci.digest import parse_digest
        from cfsctl.oci.layer_transfer import receive_layer

        parsed = parse_digest(digest, "layer")
        received = receive_layer(self._store, parsed, read, directories, must_share=must_share)
        return received._replace(stream_id=ObjectID(received.stream_id))

    def finalize(
        self, manifest: bytes, config: bytes, layers: Mapping[str, str], tag: str | None = None
    ) -> FinalizedImage:
        """Store manifest and config of an image whose layers are stored, and make its file system images.

        All is checked before anything is written. An image that is complete already only gets the tag.

        Args:
            manifest: The manifest, byte for byte.
            config: The config, the same.
            layers: IDs of streams by digest.
            tag: The tag to move to the image, or None.

        Raises:
            InvalidNameError: The tag cannot be one.
            FormatError: A document, digest or ID is not valid, or a layer is not an archive.
            RefNotFoundError: A layer is missing.
            IntegrityError: The config is not the manifest's, or a stream is not the layer's.
        """
        from cfsctl.digest import parse_object_id
        from cfsctl.oci.digest import parse_digest
        from cfsctl.oci.finalize import finalize_image

        algorithm = self._store.algorithm
        streams = {
            parse_digest(digest, "layer"): parse_object_id(stream.lower(), algorithm)
            for digest, stream in layers.items()
        }
        done = finalize_image(self._store, manifest, config, streams, tag)
        return done._replace(manifest_id=ObjectID(done.manifest_id), config_id=ObjectID(done.config_id))

    def import_layer(
        self, digest: str | OciDigest, chunks: Iterable[bytes], ref: str | None = None
    ) -> ObjectID:
        """Store an uncompressed layer, and return its stream.

        Args:
            digest: The digest that it must have.
            chunks: Its bytes, in pieces of any size; not read if the layer is stored already.
            ref: A ref for its stream, which keeps it from being collected; or None.

        Raises:
            FormatError: The digest is not valid, or it is not an archive.
            InvalidNameError: The ref cannot be one; nothing was read.
            IntegrityError: It is another layer.
        """
        from cfsctl.oci.digest import parse_digest
        from cfsctl.oci.store.layers import ensure_layer

        expected = parse_digest(digest, "layer") if isinstance(digest, str) else digest
        return ObjectID(ensure_layer(self._store, expected, chunks, ref))
