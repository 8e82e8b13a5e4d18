"""`OciImages`: all that the library does with the OCI images of a repository."""

from __future__ import annotations

from cfsctl.library.oci.boot import BootMethods
from cfsctl.library.oci.indexes import IndexMethods
from cfsctl.library.oci.layers import LayerMethods
from cfsctl.library.oci.transfer import TransferMethods
from cfsctl.library.oci.trees import TreeMethods


class OciImages(TreeMethods, LayerMethods, TransferMethods, IndexMethods, BootMethods):
    """The OCI images of an open repository, which has this as its `oci`.

    It is usable as long as the repository is open; after that each method raises `ValueError`. An `image`
    is a tag, the digest of a manifest or config, with or without ``@`` before it, or a unique prefix
    of one.
    """
