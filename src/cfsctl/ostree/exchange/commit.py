"""Make an OSTree commit from an image in the repository.

The image of such a commit is usually the image it was made from, including its times, as in composefs-rs. If
the commit differs from that image, because options changed the tree or a commit cannot hold all of it, an
image is built from the commit, as after a pull. So a mount always shows the content of the commit.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.digest import Checksum
from cfsctl.gvariant import Variant
from cfsctl.ostree.objects import Commit, format_commit
from cfsctl.ostree.source import check_ref_name
from cfsctl.ostree.store.binding import REF_BINDING
from cfsctl.ostree.store.commit_proof import remember_proof
from cfsctl.ostree.store.in_memory import InMemoryCommit
from cfsctl.ostree.store.partial_tags import drop_lost_demand
from cfsctl.ostree.store.publish import image_ids, name_commit, store_images
from cfsctl.ostree.store.refs import new_tag_ref
from cfsctl.ostree.tree.from_tree import AS_IT_IS, TreeOptions, make_objects
from cfsctl.progress import silent
from cfsctl.repository.publish import make_images
from cfsctl.tree.model import ExternalFile
from cfsctl.tree.walk import iter_nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem


class CommitText(NamedTuple):
    """What a commit says about itself.

    Attributes:
        subject: One line.
        body: More lines, or empty.
        timestamp_s: Seconds since 1970, or None for now.
        parent: The commit before, or None.
        metadata: (key, text), in order; the ref it is bound to is added behind them.
    """

    subject: str = ""
    body: str = ""
    timestamp_s: int | None = None
    parent: Checksum | None = None
    metadata: Sequence[tuple[str, str]] = ()


class CommitResult(NamedTuple):
    """What was made.

    Attributes:
        commit: The commit.
        stream_id: Its splitstream object.
        left_out: Paths of what no commit can hold.
    """

    commit: Checksum
    stream_id: ObjectID
    left_out: list[bytes]


def commit_image_tree(
    repository: Repository,
    image_name: str,
    text: CommitText,
    reference: str | None = None,
    options: TreeOptions = AS_IT_IS,
    reporter: Reporter = silent,
) -> CommitResult:
    """Make a commit of the tree of an image.

    Args:
        repository: Where.
        image_name: The image: an ID or a ref.
        text: What the commit says.
        reference: The ref it is bound to, which also becomes the tag; or None.
        options: What is changed of the tree.
        reporter: Told how many directories have been read.

    Raises:
        RefNotFoundError: There is no such image.
        InvalidNameError, InvalidRefError: The ref cannot be one.
        OstreeObjectError: Something in the tree, or of the text, that no commit can hold.
        IntegrityError: An object is missing, or damaged.
    """
    from cfsctl.erofs.read.tree import read_image  # the name may be refused before

    repository.check_writable()
    tag = None
    if reference is not None:
        check_ref_name(reference)
        tag = new_tag_ref(reference)
    with repository.images.map(image_name) as data:
        filesystem = read_image(data, repository.algorithm)
    tree = make_objects(filesystem, repository.objects, options, reporter)
    commit = _make_commit(text, reference, tree.root_dirtree, tree.root_dirmeta)
    data = format_commit(commit)
    checksum = Checksum(hashlib.sha256(data).digest())
    tree.objects[checksum] = (data, None)
    if tree.is_exact:
        images = image_ids(make_images(repository, filesystem))
    else:
        images = store_images(repository, InMemoryCommit(checksum, commit, tree.objects))
    files = _find_objects(filesystem) if tree.is_exact else set()
    if reference is not None:
        drop_lost_demand(repository, reference)
    stream_id = name_commit(repository, checksum, tree.objects, images, tag, image_objects=sorted(files))
    remember_proof(repository, checksum, stream_id)
    repository.save_marks(())
    return CommitResult(checksum, stream_id, tree.left_out)


def _find_objects(filesystem: FileSystem) -> set[ObjectID]:
    """Return the objects that an image of a tree needs."""
    return {node.object_id for node in iter_nodes(filesystem) if isinstance(node, ExternalFile)}


def _make_commit(text: CommitText, reference: str | None, dirtree: Checksum, dirmeta: Checksum) -> Commit:
    metadata = [(key, Variant("s", value)) for key, value in text.metadata]
    if reference is not None:
        metadata.append((REF_BINDING, Variant("as", [reference])))
    timestamp_s = int(time.time()) if text.timestamp_s is None else text.timestamp_s
    return Commit(
        metadata=tuple(metadata),
        parent=text.parent,
        subject=text.subject,
        body=text.body,
        timestamp_s=timestamp_s,
        root_dirtree=dirtree,
        root_dirmeta=dirmeta,
    )
