"""The EROFS images of commits: made, found again, and made anew where they are missing or wrong.

A commit stream names the image of the repository's default format as ``composefs.image``; images of further
formats are kept alive by names of their own. The original, up to 0.9.0, leaves the NUL that ends each
name of an extended attribute in OSTree's objects in the names in the image, where the kernel then finds no
attribute of the right name, SELinux labels among them. Such an image is recognised, replaced, and said to be.
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
from cfsctl.ostree.store.commit_stream import DETACHED_REF, IMAGE_REF, RECORD_REF, write_commit_stream
from cfsctl.ostree.store.refs import open_commit, stream_name
from cfsctl.ostree.tree.to_tree import XattrNames, commit_to_filesystem
from cfsctl.progress import Message, silent
from cfsctl.repository.objects.verified import CachedCheck
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.ostree.tree.to_tree import CommitObjects
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem

_NAMESPACES: Final = (b"security.", b"user.", b"trusted.", b"system.")
"""One of these is in every object with an attribute that Linux knows."""


def named_ref_of(version: FormatVersion, default: FormatVersion) -> str:
    """Return the name under which a commit stream keeps its image of a format."""
    return IMAGE_REF if version is default else f"{IMAGE_REF}.v{version.value}"


def store_images(
    repository: Repository, commit: CommitObjects, xattr_names: XattrNames = XattrNames.STRIPPED
) -> dict[FormatVersion, ObjectID]:
    """Make and store the commit's image in each format that the repository is set up for.

    Naming them, behind the barrier, is the caller's.

    Returns:
        ID by format, the default format first.

    Raises:
        FormatError: No image can hold this commit.
    """
    return store_images_of(repository, commit_to_filesystem(commit, xattr_names))


def store_images_of(repository: Repository, filesystem: FileSystem) -> dict[FormatVersion, ObjectID]:
    """Make and store the images of a tree, as `store_images` does those of a commit."""
    from cfsctl.erofs.write.image import build_image  # noqa: PLC0415 - most uses find what they need

    return {
        version: repository.objects.ensure_bytes(build_image(filesystem, version)).object_id
        for version in repository.erofs_versions
    }


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

    It is made if it is missing, and made anew if it is the original's with unusable names of attributes.

    Args:
        repository: Where the commit is.
        checksum: The commit.
        version: Format that the image must have; None takes the one that is there, or the default.
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

    Of a commit of which only a part is here it is the image of that part, which is said to the reporter.

    Raises:
        CommitNotFoundError, AmbiguousPrefixError: The source names none, or more than one.
        FormatError, IntegrityError: See `commit_image`.
    """
    from cfsctl.ostree.store.partial_commits import describe_partial, open_source  # noqa: PLC0415 - needs this module

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
    """Do what `commit_image` does, for a commit that is open."""
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
    """Return the image that a commit stream names and its format, or None if it is not there, or is none.

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
    from cfsctl.erofs.write.image import build_image  # noqa: PLC0415 - see `store_images`

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
        repository, stream.checksum, objects, lambda: images, detached=stream.detached, record=stream.record
    )
    if was_proven:
        remember_proof(repository, stream.checksum, stream_id)
        repository.save_marks(())
    if old is not None:
        reporter(
            Message(
                f"commit {stream.checksum.hex()}: its image had names of extended attributes that no program "
                f"can find, as older programs made them; replaced by {image.hex()}"
            )
        )
    return image


def name_commit(
    repository: Repository,
    checksum: Checksum,
    objects: Mapping[Checksum, tuple[bytes, ObjectID | None]],
    images: Callable[[], Mapping[FormatVersion, ObjectID]],
    tag: str | None = None,
    sync: Callable[[], None] | None = None,
    detached: ObjectID | None = None,
    record: ObjectID | None = None,
    image_objects: Iterable[ObjectID] = (),
) -> ObjectID:
    """Store a commit's stream, make everything durable, and only then name images, stream and tag.

    Args:
        repository: Where; contents are stored there already.
        checksum: The commit.
        objects: All of its objects, as `write_commit_stream` takes them.
        images: Called once, when the rest of the stream is there; returns its images by format.
        tag: The stream ref to move to it, or None.
        sync: Makes everything durable; None is the repository's barrier.
        detached: The object that is its detached metadata, or None.
        record: The object that says which signatures were found good, or None.
        image_objects: As for `write_commit_stream`. Images that are made of the commit need no objects but
            the commit's, and their streams are those of the original byte for byte.

    Returns:
        The ID of the splitstream object.
    """
    stream_id = store_stream(
        repository, checksum, objects, images, detached, record, sync=sync, image_objects=image_objects
    )
    repository.streams.link(stream_name(checksum), stream_id, tag)
    return stream_id


def store_stream(
    repository: Repository,
    checksum: Checksum,
    objects: Mapping[Checksum, tuple[bytes, ObjectID | None]],
    images: Callable[[], Mapping[FormatVersion, ObjectID]],
    detached: ObjectID | None,
    record: ObjectID | None,
    *,
    sync: Callable[[], None] | None = None,
    content_type: ContentType = ContentType.OSTREE_COMMIT,
    image_objects: Iterable[ObjectID] = (),
) -> ObjectID:
    """Do what `name_commit` does before the stream has a name; that is the caller's.

    Args:
        repository: See there, as for the others.
        checksum: The commit.
        objects: Its objects.
        images: Returns its images by format.
        detached: Its detached metadata, or None.
        record: What is known of its signatures, or None.
        sync: Makes everything durable; None is the repository's barrier.
        content_type: Tells a whole commit from a partial one.
        image_objects: See `name_commit`.

    Returns:
        The ID of the splitstream object.
    """
    default = repository.erofs_versions[0]

    def find_refs() -> dict[str, ObjectID]:
        made = images()
        # The order of the original, which is that of the references in the stream.
        refs = {
            named_ref_of(version, default): image for version, image in made.items() if version is not default
        }
        if detached is not None:
            refs[DETACHED_REF] = detached
        if record is not None:
            refs[RECORD_REF] = record
        refs[IMAGE_REF] = made[default]
        linked.extend(made.values())
        return refs

    linked: list[ObjectID] = []
    stream_id = write_commit_stream(
        repository.objects, repository.algorithm, checksum, objects, find_refs, content_type, image_objects
    )
    (sync or repository.sync)()
    for image in linked:
        repository.images.link(image)
    return stream_id


def restate_commit(
    repository: Repository, checksum: Checksum, detached: ObjectID | None, record: ObjectID | None
) -> ObjectID:
    """Store a whole commit's stream with other things beside it; its images, and all else, stay as they are.

    Args:
        repository: Where the commit is.
        checksum: The commit.
        detached: The object that is its detached metadata now, or None.
        record: The object that says which signatures were found good, or None.

    Returns:
        The ID of the splitstream object.
    """
    stream = open_commit(repository, checksum)
    refs = {name: ref for name, ref in stream.named_refs.items() if name != IMAGE_REF}
    for name, object_id in ((DETACHED_REF, detached), (RECORD_REF, record)):
        refs.pop(name, None)
        if object_id is not None:
            refs[name] = object_id
    if stream.image is not None:
        refs[IMAGE_REF] = stream.image
    stream_id = write_commit_stream(
        repository.objects,
        repository.algorithm,
        checksum,
        stream.as_dict(),
        lambda: refs,
        image_objects=stream.object_refs,
    )
    repository.sync()
    repository.streams.link(stream_name(checksum), stream_id)
    return stream_id


# --- the original's names -----------------------------------------------------------------------


def _has_nul_names(repository: Repository, stream: CommitStream, image: ObjectID) -> bool:
    """Return what `has_nul_names` does; that an image has none is remembered with the state of its file.

    Looking at every header of a large commit takes longer than all else that a pull of what is here does.
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
