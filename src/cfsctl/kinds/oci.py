"""Container images as a kind of stream: layers, configs, manifests and blobs."""

from __future__ import annotations

from cfsctl.kinds.kind import StreamKind
from cfsctl.splitstream.format import ContentType


class OciKind(StreamKind):
    """Images and artifacts; `cfsctl.oci.check` checks them, as most faults concern several streams."""

    noun = "OCI stream"
    content_types = frozenset(
        {ContentType.OCI_LAYER, ContentType.OCI_CONFIG, ContentType.OCI_MANIFEST, ContentType.OCI_BLOB}
    )
