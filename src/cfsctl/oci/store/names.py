"""Names of streams, and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.oci.digest import OciDigest, OciDigestError, parse_digest
from cfsctl.repository.names.names import InvalidNameError, check_not_id
from cfsctl.repository.names.short_ids import choose_id
from cfsctl.repository.names.tags import TagNamespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.repository import Repository
    from cfsctl.repository.names.short_ids import ShortId

LAYER: Final = "oci-layer-"
CONFIG: Final = "oci-config-"
MANIFEST: Final = "oci-manifest-"
INDEX: Final = "oci-index-"
BLOB: Final = "oci-blob-"

BLOB_REF: Final = "blob:"
"""What stands before the digest of a kept blob in the name under which a manifest's stream refers to it."""

CONFIG_REF: Final = "config:"
"""What stands before the config's digest in the name under which a manifest's stream refers to it."""


def parse_manifest_name(name: str) -> OciDigest | None:
    """Return the manifest whose stream has this name, or None for any other stream."""
    return _parse(name, MANIFEST)


def parse_index_name(name: str) -> OciDigest | None:
    """Return the index whose stream has this name, or None for any other stream."""
    return _parse(name, INDEX)


def _parse(name: str, prefix: str) -> OciDigest | None:
    if not name.startswith(prefix):
        return None
    try:
        return parse_digest(name.removeprefix(prefix))
    except OciDigestError:
        return None


def parse_stream_name(name: str) -> tuple[str, OciDigest] | None:
    """Return the kind of a stream, as the constants above, and the digest in its name; or None."""
    for prefix in (LAYER, CONFIG, MANIFEST, BLOB, INDEX):
        digest = _parse(name, prefix)
        if digest is not None:
            return prefix, digest
    return None


def is_stream_name(name: str) -> bool:
    """Return whether this is the name of a stream of an image or artifact."""
    return parse_stream_name(name) is not None


TAGS: Final = TagNamespace("oci", parse_manifest_name)
"""The tags of images and artifacts."""

INDEX_TAGS: Final = TagNamespace("oci", parse_index_name)
"""The tags of indexes, which are in the same directory."""


def list_tag_names(repository: Repository) -> list[str]:
    """Return all tags, of whatever they name, sorted."""
    streams = repository.streams
    return sorted(tag.name for tag in (*TAGS.list(streams), *INDEX_TAGS.list(streams)))


def check_tag(name: str) -> str:
    """Return a name that a tag may be given.

    Raises:
        InvalidNameError: It cannot be one.
    """
    if name.startswith("@"):
        raise InvalidNameError(f"Invalid ref name {name!r}: leading '@' is reserved for digest references")
    TAGS.ref(check_not_id(name, "tag"))
    return name


def is_tag_name(name: str) -> bool:
    """Return whether a tag can have this name."""
    try:
        TAGS.ref(name)
    except InvalidNameError:
        return False
    return True


def iter_digests(repository: Repository, prefix: str) -> Iterator[OciDigest]:
    """Yield the digests of all streams of one kind, ascending; streams whose names hold none are skipped."""
    for stream in repository.streams.list_streams():
        digest = _parse(stream.name, prefix)
        if digest is not None:
            yield digest


def find_short_digest(
    repository: Repository,
    prefix: str,
    short: ShortId,
    describe: Callable[[str], str | None] = lambda _: None,
) -> OciDigest | None:
    """Return the only stream of a kind whose digest begins with what was typed, or None.

    Args:
        repository: Where to look.
        prefix: The kind: `MANIFEST`, `CONFIG` or `LAYER`.
        short: What was typed.
        describe: Returns what else a digest is known by, for the message.

    Raises:
        AmbiguousIdError: More than one begins so.
    """
    digests = {
        digest.encoded: digest
        for digest in iter_digests(repository, prefix)
        if short.hash_name in {None, digest.algorithm}
    }
    found = choose_id(short.digits, digests, f"{prefix.split('-')[1]} digest", describe)
    return None if found is None else digests[found]
