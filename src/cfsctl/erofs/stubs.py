"""The 256 whiteouts that V0 and V1 put into root."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.erofs.format import STUB_MODE, STUB_NAMES
from cfsctl.tree.model import CharDevice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cfsctl.tree.model import Directory, Leaf

LABEL: Final = b"security.selinux"
"""The only attribute that stubs take over from root."""


def stub_xattrs(root: Directory) -> Mapping[bytes, bytes]:
    """Return the attributes that the stubs of this root have."""
    return {LABEL: root.xattrs[LABEL]} if LABEL in root.xattrs else {}


def is_stub(leaf: Directory | Leaf, root: Directory) -> bool:
    """Return whether a leaf is what the writer would put there itself.

    A whiteout of the tree that looks the same is taken for a stub by the writer too, so leaving it out
    changes no image.
    """
    return (
        isinstance(leaf, CharDevice)
        and leaf.rdev == 0
        and leaf.mode == STUB_MODE
        and (leaf.uid, leaf.gid, leaf.mtime_s, leaf.mtime_ns)
        == (root.uid, root.gid, root.mtime_s, root.mtime_ns)
        and leaf.xattrs == stub_xattrs(root)
    )


def remove_stubs(root: Directory, devices: Iterable[bytes]) -> None:
    """Take the stubs out of a root that was read from a V0 or V1 image.

    Args:
        root: The root directory.
        devices: Names of entries that are devices in the image; a whiteout that was escaped is not a stub,
            whatever it looks like.
    """
    for name in _STUBS.intersection(devices):
        if is_stub(root.entries[name], root):
            del root.entries[name]


_STUBS: Final = frozenset(STUB_NAMES)
