"""Reading and storing single layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.ids import ObjectID
from cfsctl.library.oci.base import OciBase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.library.oci.results import OciLayer
    from cfsctl.oci.digest import OciDigest


class LayerMethods(OciBase):
    """What is done with single layers. A `digest` is that of the uncompressed layer, as in the config."""

    def find_layer(self, digest: str) -> ObjectID | None:
        """Return the stream of a layer, or None if it is not stored.

        Raises:
            FormatError: The digest is not valid.
        """
        from cfsctl.oci.store.layers import find_layer_stream  # noqa: PLC0415 - only where it is needed

        found = find_layer_stream(self._store, digest)
        return None if found is None else ObjectID(found)

    def layer(self, digest: str) -> OciLayer:
        """Return a stored layer.

        Raises:
            FormatError: The digest is not valid.
            RepositoryError: There is no such layer.
        """
        from cfsctl.library.oci.results import OciLayer  # noqa: PLC0415 - only where it is needed
        from cfsctl.oci.store.layers import open_layer  # noqa: PLC0415 - the same

        stored = open_layer(self._store, digest)
        return OciLayer(stored, ObjectID(stored.stream_id))

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
        from cfsctl.oci.digest import parse_digest  # noqa: PLC0415 - only where it is needed
        from cfsctl.oci.store.layers import ensure_layer  # noqa: PLC0415 - the same

        expected = parse_digest(digest, "layer") if isinstance(digest, str) else digest
        return ObjectID(ensure_layer(self._store, expected, chunks, ref))
