"""The EROFS images of commits: create and find them, and rebuild missing or wrong ones.

A commit stream names the image of the repository's default format as ``composefs.image``; images of further
formats are kept alive by names of their own. The original leaves the NUL that ends each
name of an extended attribute in OSTree's objects in the names in the image, where the kernel then finds no
attribute of the right name, such as SELinux labels. Such an image is detected and replaced, with a message.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cfsctl.erofs.format import XATTR_OVERLAY_PREFIX, XATTR_PREFIXES, ErofsError, FormatVersion
from cfsctl.erofs.superblock import read_superblock
from cfsctl.errors import IntegrityError
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.ostree.objects import OstreeObjectError, parse_dirmeta, parse_zlib_file_header
from cfsctl.ostree.store.commit_proof import is_proven, remember_proof
from cfsctl.ostree.store.partial_commits import describe_partial, open_source
from cfsctl.ostree.store.publish import name_commit, store_images
from cfsctl.ostree.store.refs import open_commit
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.progress import Message, silent
from cfsctl.repository.objects.verified import CachedCheck

if TYPE_CHECKING:
    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem

_NAMESPACES: Final = (b"security.", b"user.", b"trusted.", b"system.")
"""One of these is in every object with an attribute that Linux knows."""


def commit_tree(repository: Repository, checksum: Checksum) -> FileSystem:
    """Return the tree of a stored commit.

    Raises:
        CommitNotFoundError: It is not stored.
        FormatError: What is stored is not valid.
        IntegrityError: What is stored is not what its name says.
    """
    return commit_to_filesystem(open_commit(repository, checksum))


def commit_image(
    repository: Repository,
    checksum: Checksum,
    *,
    version: FormatVersion | None = None,
    xattr_names: XattrNames = XattrNames.STRIPPED,
    reporter: Reporter = silent,
) -> ObjectID:
    """Return the image of a stored commit, which is in the repository and may be mounted.

    It is made if it is missing, and made again if it is the original's with unusable names of attributes.

    Args:
        repository: Where the commit is.
        checksum: The commit.
        version: Format that the image must have; None means that of the existing image, or the default.
        xattr_names: How names of extended attributes are in the image.
        reporter: Told when an image was wrong.

    Raises:
        CommitNotFoundError: The commit is not stored.
        FormatError: What is stored is not valid.
        IntegrityError: What is stored is not what its name says.
    """
    return ensure_image(repository, open_commit(repository, checksum), version, xattr_names, reporter)


def source_image(
    repository: Repository,
    source: str,
    version: FormatVersion | None = None,
    xattr_names: XattrNames = XattrNames.STRIPPED,
    reporter: Reporter = silent,
) -> ObjectID:
    """Return the image of the commit that a user means, as `commit_image` does.

    For a partial commit, it is the image of the stored part, and the reporter gets a message.

    Raises:
        CommitNotFoundError, AmbiguousIdError: The source names none, or more than one.
        FormatError, IntegrityError: See `commit_image`.
    """
    stream = open_source(repository, source)
    if not stream.is_partial:
        return ensure_image(repository, stream, version, xattr_names, reporter)
    reporter(Message(describe_partial(stream)))
    found = find_image(repository, stream)
    if found and version in {None, found[1]} and xattr_names is XattrNames.STRIPPED:
        return found[0]
    return _store_beside(repository, stream, version or repository.erofs_versions[0], xattr_names, reporter)


def ensure_image(
    repository: Repository,
    stream: CommitStream,
    version: FormatVersion | None,
    xattr_names: XattrNames,
    reporter: Reporter,
) -> ObjectID:
    """Implement `commit_image` for an open commit."""
    stored = find_image(repository, stream)
    suspicious = stored is not None and _has_nul_names(repository, stream, stored[0])
    if stored and version in {None, stored[1]} and suspicious is (xattr_names is XattrNames.UPSTREAM):
        return stored[0]
    default = repository.erofs_versions[0]
    if xattr_names is XattrNames.STRIPPED and (suspicious or not stored):
        image = _replace_image(repository, stream, stored[0] if stored else None, reporter)
        if version in {None, default}:
            return image
    return _store_beside(repository, stream, version or default, xattr_names, reporter)


def find_image(repository: Repository, stream: CommitStream) -> tuple[ObjectID, FormatVersion] | None:
    """Return the image that a commit stream names and its format, or None if it is missing or not an image.

    Raises:
        OSError: The kernel will not say.
    """
    if stream.image is None or repository.images.find(stream.image.hex()) is None:
        return None
    try:
        with repository.images.map(stream.image.hex()) as data:
            return stream.image, read_superblock(data).version
    except (ErofsError, IntegrityError):
        return None


def _store_beside(
    repository: Repository,
    stream: CommitStream,
    version: FormatVersion,
    xattr_names: XattrNames,
    reporter: Reporter,
) -> ObjectID:
    """Store an image that the commit's stream does not name."""
    from cfsctl.erofs.write.image import build_image  # see `store_images`

    tree = commit_to_filesystem(stream, xattr_names, note=lambda text: reporter(Message(text)))
    image = build_image(tree, version)
    object_id = compute_digest(image, repository.algorithm)
    if repository.images.find(object_id.hex()) is None or not repository.objects.contains(
        object_id, len(image)
    ):
        repository.images.write(image)
    return object_id


def _replace_image(
    repository: Repository, stream: CommitStream, old: ObjectID | None, reporter: Reporter
) -> ObjectID:
    """Give a commit the images it should have."""
    images = store_images(repository, stream)
    image = images[repository.erofs_versions[0]]
    if image == old:
        return image
    objects = stream.as_dict()
    was_proven = is_proven(repository, stream)
    stream_id = name_commit(
        repository, stream.checksum, objects, images, detached=stream.detached, record=stream.record
    )
    if was_proven:
        remember_proof(repository, stream.checksum, stream_id)
        repository.save_marks(())
    if old is not None:
        reporter(
            Message(
                f"commit {stream.checksum.hex()}: its image had names of extended attributes that no program "
                f"can find, made by an older program; replaced by {image.hex()}"
            )
        )
    return image


# --- the original's names -----------------------------------------------------------------------


def _has_nul_names(repository: Repository, stream: CommitStream, image: ObjectID) -> bool:
    """Call `has_nul_names`, and record a negative result with the state of the file.

    Reading every header of a large commit takes longer than all other steps of a pull of a stored commit.
    """
    what = b"names of attributes" + stream.checksum + image
    fact = CachedCheck(repository.verified, what, repository.objects.stat(image))
    if fact.is_known:
        return False
    answer = has_nul_names(repository, stream, image)
    if not answer:
        fact.record()
    return answer


def has_nul_names(repository: Repository, stream: CommitStream, image: ObjectID) -> bool:
    """Return whether an image seems to have the original's names of attributes.

    Names are looked for as the bytes of a stored attribute, so content that contains the same bytes can make
    an image look wrong that is right; never the other way round.
    """
    names = _find_xattr_names(stream)
    if not names:
        return False
    pattern = re.compile(b"|".join(map(_stored_with_nul, names)), re.DOTALL)
    with repository.images.map(image.hex()) as data:
        return pattern.search(data) is not None


def _find_xattr_names(stream: CommitStream) -> set[bytes]:
    """Return the names of attributes, without NUL, of the first object that has any."""
    for checksum in stream:
        found = stream.find(checksum)
        if found and any(namespace in found[0] for namespace in _NAMESPACES):
            names = {name[:-1] for name in _read_xattr_names(found[0])}
            usable = {name for name in names if not name.startswith(XATTR_OVERLAY_PREFIX)}
            if usable:
                return usable
    return set()


def _read_xattr_names(data: bytes) -> list[bytes]:
    """Return the names of attributes of an object whose kind is not known."""
    for parse in (parse_zlib_file_header, parse_dirmeta):
        try:
            return [name for name, _ in parse(data).xattrs]
        except OstreeObjectError:
            continue
    return []


def _stored_with_nul(name: bytes) -> bytes:
    """Return a pattern of how an image holds a name that ends in a NUL.

    Format: EROFS, struct erofs_xattr_entry: length of the name's suffix, index of its prefix, 16 bits.
    """
    index = max(
        (number for number, prefix in enumerate(XATTR_PREFIXES) if name.startswith(prefix)),
        key=lambda number: len(XATTR_PREFIXES[number]),
    )
    suffix = name[len(XATTR_PREFIXES[index]) :] + b"\0"
    return re.escape(bytes((len(suffix) & 0xFF, index))) + b".." + re.escape(suffix)
