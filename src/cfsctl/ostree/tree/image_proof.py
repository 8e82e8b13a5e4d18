"""Check whether an image matches a commit whose files have been verified.

It does if it equals the image built from the commit, byte for byte, or if it has the same tree. The image
that a commit was made from has times and hard links, which commits do not have, and contains other small
files inline.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.tree.model import Directory, ExternalFile, InlineFile, Symlink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.ostree.tree.to_tree import CommitObjects
    from cfsctl.repository.objects.store import ObjectStore
    from cfsctl.tree.model import Leaf, Node

_SELINUX: Final = b"security.selinux"
_TYPES_OF_COMMITS: Final = (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR)


def is_image_of(objects: ObjectStore, commit: CommitObjects, image_id: ObjectID) -> bool:
    """Return whether an image is that of a commit.

    Args:
        objects: Has the image.
        commit: The commit, all of which has been proven.
        image_id: The image.

    Raises:
        OSError: It cannot be read.
    """
    try:
        data = objects.read(image_id)
        if compute_digest(data, objects.algorithm) != image_id:
            return False
        return _can_be_made_of(commit, data) or _has_same_tree(commit, data, objects.algorithm)
    except CfsError:
        return False


def _can_be_made_of(commit: CommitObjects, image: bytes) -> bool:
    from cfsctl.erofs.superblock import read_superblock  # most commits are known to be true
    from cfsctl.erofs.write.image import build_image

    version = read_superblock(image).version
    return any(build_image(commit_to_filesystem(commit, names), version) == image for names in XattrNames)


def _has_same_tree(commit: CommitObjects, image: bytes, algorithm: Algorithm) -> bool:
    from cfsctl.erofs.read.tree import read_image  # see `_can_be_made_of`

    pending = [(commit_to_filesystem(commit).root, read_image(image, algorithm).root)]
    same: set[tuple[int, int]] = set()
    while pending:
        ours, theirs = pending.pop()
        if not _has_same_attributes(ours, theirs) or ours.entries.keys() != theirs.entries.keys():
            return False
        for name, node in ours.entries.items():
            other = theirs.entries[name]
            if isinstance(node, Directory) and isinstance(other, Directory):
                pending.append((node, other))
            elif isinstance(node, Directory) or isinstance(other, Directory):
                return False
            elif (id(node), id(other)) not in same:
                if not _is_same_leaf(node, other, algorithm):
                    return False
                same.add((id(node), id(other)))
    return True


def _has_same_attributes(ours: Node, theirs: Node) -> bool:
    return (ours.file_type, ours.mode, ours.uid, ours.gid) == (
        theirs.file_type,
        theirs.mode,
        theirs.uid,
        theirs.gid,
    ) and _normal_xattrs(ours.xattrs) == _normal_xattrs(theirs.xattrs)


def _normal_xattrs(xattrs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return attributes as a commit has them: none without a value, labels without the NUL that some have."""
    return {
        name: value.removesuffix(b"\0") if name == _SELINUX else value
        for name, value in xattrs.items()
        if value
    }


def _is_same_leaf(ours: Leaf, theirs: Leaf, algorithm: Algorithm) -> bool:
    if not _has_same_attributes(ours, theirs):
        return False
    if isinstance(ours, Symlink) and isinstance(theirs, Symlink):
        return ours.target == theirs.target
    if isinstance(ours, InlineFile | ExternalFile) and isinstance(theirs, InlineFile | ExternalFile):
        # A file that the image names without its digest would not be verified by the kernel.
        is_verified = isinstance(theirs, InlineFile) or theirs.has_digest
        return is_verified and _identify(ours, algorithm) == _identify(theirs, algorithm)
    # Of devices a commit has the type alone; only composefs-rs makes such commits.
    return ours.file_type not in _TYPES_OF_COMMITS


def _identify(file: InlineFile | ExternalFile, algorithm: Algorithm) -> tuple[int, ObjectID]:
    """Return size and ID of a file's content, wherever that is."""
    if isinstance(file, InlineFile):
        return len(file.data), compute_digest(file.data, algorithm)
    return file.size, file.object_id
