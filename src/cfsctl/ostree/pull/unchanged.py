"""A pull that finds nothing new, answered without decoding what is stored of the commit.

A pull of a stored commit decodes its stream, checks what the commit says against the tag, the image against
the commit, and whether all objects are there. What came of that depends on bytes that have names, on the tag
and on the state of files. So it is remembered (`remember`), and the next pull only looks whether these are
still the same: the names, the files of stream and image, and the objects: where these are many, their
directories and a part of them (`cfsctl.ostree.pull.glance`). Where anything differs, or anything is demanded
of the commit, the pull does all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.errors import CfsError
from cfsctl.ostree.pull.glance import Glance
from cfsctl.ostree.pull.options import PullResult
from cfsctl.ostree.store.partial_tags import partial_name
from cfsctl.ostree.store.refs import find_tag, stream_name, tag_ref
from cfsctl.ostree.store.stream_refs import IMAGE_REF, RECORD_REF
from cfsctl.ostree.store.tag_demands import read_demand
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.repository.objects.verified import CachedCheck
from cfsctl.splitstream.format import ContentType
from cfsctl.splitstream.reader import SplitstreamReader

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.ostree.pull.options import PullOptions
    from cfsctl.ostree.pull.target import Target
    from cfsctl.repository import Repository


def find_unchanged(repository: Repository, target: Target, options: PullOptions) -> PullResult | None:
    """Return the result of a pull of a commit that is here as the last pull left it; otherwise None.

    Args:
        repository: Where it may be.
        target: The commit that the source names, and the tag that is to name it.
        options: How it is pulled.
    """
    if not is_plain(options):
        return None
    try:
        return _find(repository, target)
    except (CfsError, OSError):
        return None  # whatever it is, the whole pull comes to it, and heals or reports it


def remember(repository: Repository, target: Target, stream_id: ObjectID) -> None:
    """Record that a pull without any demands has found a stored commit right, and has set its tag."""
    _fact(repository, target, stream_id).record()


def _fact(repository: Repository, target: Target, stream_id: ObjectID) -> CachedCheck:
    what = b"pull of the commit" + target.checksum + stream_id + (target.tag or "").encode()
    return CachedCheck(repository.verified, what, repository.objects.stat(stream_id))


def is_plain(options: PullOptions) -> bool:
    """Return whether a pull of a stored commit has nothing to do that depends on its options."""
    return (
        options.trust is None
        and options.base_name is None
        and not options.subpaths
        and not options.requires_composefs_digest
        and not options.from_scratch
        and options.xattr_names is XattrNames.STRIPPED
    )


def _find(repository: Repository, target: Target) -> PullResult | None:
    checksum, tag = target
    name, objects = stream_name(checksum), repository.objects
    stream_id = repository.streams.find(name)
    if stream_id is None or not _is_named(repository, target):
        return None
    if not _fact(repository, target, stream_id).is_known or not objects.is_sound(stream_id):
        return None
    fd = objects.open(stream_id)
    with SplitstreamReader(fd, objects.algorithm, ContentType.OSTREE_COMMIT, lists_objects=False) as reader:
        glance, refs = Glance(repository, stream_id, reader.object_count), reader.named_refs
        image = refs.get(IMAGE_REF)
        if (glance.is_worth_it and not glance.is_known) or image is None or RECORD_REF in refs:
            return None
        looked = [*refs.values(), *reader.read_object_refs(glance.choose(reader.object_count))]
    if min(objects.find_sizes(sorted(looked))) < 0 or repository.images.find(image.hex()) is None:
        return None
    # Changes nothing, but what is kept of earlier targets of the tag may be too much.
    repository.streams.link(name, stream_id, None if tag is None else tag_ref(tag))
    return PullResult(commit=checksum, stream_id=stream_id, image_id=image, tag=tag)


def _is_named(repository: Repository, target: Target) -> bool:
    """Return whether the tag names the commit, nothing was demanded for it, and no part is left to drop."""
    checksum, tag = target
    if repository.streams.links.read_entry(partial_name(checksum)) is not None:
        return False
    if tag is None:
        return True
    return find_tag(repository, tag) == checksum and read_demand(repository, tag) is None
