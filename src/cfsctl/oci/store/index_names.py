"""Find stored indexes by name, and the image of one platform in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.oci.digest import OciDigestError, parse_digest
from cfsctl.oci.manifest import matches
from cfsctl.oci.store.indexes import StoredIndex, iter_listed, open_index
from cfsctl.oci.store.names import INDEX, INDEX_TAGS, find_short_digest
from cfsctl.repository.names.names import InvalidNameError
from cfsctl.repository.names.short_ids import parse_short_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor, Platform
    from cfsctl.repository import Repository

_MIN_DIGITS = 2


def find_index(repository: Repository, text: str) -> OciDigest | None:
    """Return the stored index that a user names, by tag, digest or a prefix of it; or None.

    Raises:
        AmbiguousIdError: The beginning of several digests.
    """
    if not text.startswith("@"):
        tagged = find_tagged_index(repository, text)
        if tagged is not None:
            return tagged
    try:
        digest = parse_digest(text.removeprefix("@"))
    except OciDigestError:
        short = parse_short_id(text, _MIN_DIGITS)
        return None if short is None else find_short_digest(repository, INDEX, short)
    return digest if repository.streams.find(f"{INDEX}{digest}") is not None else None


def find_tagged_index(repository: Repository, tag: str) -> OciDigest | None:
    """Return the stored index that a tag names, or None."""
    try:
        digest = INDEX_TAGS.find(repository.streams, tag)
    except InvalidNameError:
        return None
    return digest if digest is not None and repository.streams.find(f"{INDEX}{digest}") else None


def iter_platforms(
    repository: Repository, index: StoredIndex
) -> Iterator[tuple[Descriptor, Platform | None]]:
    """Yield the images and artifacts that an index leads to, with what each runs on as far as that is known.

    Raises:
        FormatError, IntegrityError: Something stored is damaged.
    """
    from cfsctl.oci.store.images import config_of, open_manifest_stream  # which imports this

    for descriptor, stream_id, inner in iter_listed(repository, index):
        if inner is not None:
            continue
        found = descriptor.platform
        if found is None:
            image = open_manifest_stream(repository, descriptor.digest, stream_id)
            found = config_of(image).config.platform if image.manifest.is_container else None
        yield descriptor, found


def choose_image(repository: Repository, digest: OciDigest, wanted: Platform) -> OciDigest | None:
    """Return the first image of an index that runs on a platform, or None if there is none.

    Raises:
        FormatError, IntegrityError: Something stored is damaged.
    """
    index = open_index(repository, digest)
    for descriptor, found in iter_platforms(repository, index):
        if found is not None and matches(found, wanted):
            return descriptor.digest
    return None
