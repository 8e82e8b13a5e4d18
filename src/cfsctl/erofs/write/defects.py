"""Known defects of images in format 2, as composefs-rs writes them.

Such images are still written, because users already have their digests. Callers can warn about them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.erofs.format import MAX_SINGLE_CHUNK
from cfsctl.erofs.write.layout import has_digest
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.model import ExternalFile, SparseFile

if TYPE_CHECKING:
    from cfsctl.tree.model import Node


def is_unreadable_in_v2(node: Node) -> bool:
    """Return whether the kernel would read something else than a file's content, or nothing.

    Files whose digest is not in the image have no chunk index, and those of more than 2**43 bytes too few.
    Overlayfs reads the object of a file that has one, and is not affected by this.
    """
    if not isinstance(node, ExternalFile | SparseFile | RedirectedFile):
        return False
    return not has_digest(node) or node.size > MAX_SINGLE_CHUNK
