"""Commits of a repository by name: tags, commit IDs, and what a user types for either.

    streams/ostree-commit-<hex>      a commit
    streams/refs/ostree/<escaped>    a tag; ``%`` is written ``%25`` and ``/`` is written ``%2F``

So every tag is one link directly below ``refs/ostree``, even if it contains slashes. A tag keeps its commit
from being collected.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import Checksum, parse_checksum
from cfsctl.errors import ExitCode, RefNotFoundError
from cfsctl.repository.names.names import InvalidNameError, check_not_id, suggest
from cfsctl.repository.names.short_ids import choose_id, parse_short_id
from cfsctl.repository.names.tags import TagNamespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.repository import Repository

_STREAM_PREFIX: Final = "ostree-commit-"
_STREAM_NAME: Final = re.compile(r"ostree-commit-([0-9a-f]{64})")
_MIN_DIGITS: Final = 1
"""Digits of a commit's ID that suffice, as for the original."""
_ID_LENGTH: Final = 64
_COMMIT_ID: Final = re.compile(r"[0-9a-fA-F]{64}")


class CommitNotFoundError(RefNotFoundError):
    """A name, ID or prefix that no commit in the repository has."""

    exit_code = ExitCode.NOT_FOUND


class Tag(NamedTuple):
    """A tag.

    Attributes:
        name: Its name, not escaped.
        commit: The commit that it names, which may be gone.
    """

    name: str
    commit: Checksum


def parse_commit_id(text: str) -> Checksum | None:
    """Return the commit that 64 hex digits of either case name, or None for any other text."""
    return parse_checksum(text.lower()) if _COMMIT_ID.fullmatch(text) else None


def stream_name(checksum: Checksum) -> str:
    """Return the content identifier of a commit's stream."""
    return _STREAM_PREFIX + checksum.hex()


def parse_commit_name(name: str | None) -> Checksum | None:
    """Return the commit whose stream has this content identifier, or None for any other stream."""
    match = _STREAM_NAME.fullmatch(name or "")
    return parse_checksum(match[1]) if match else None


# --- tags ---------------------------------------------------------------------------------------


TAGS: Final = TagNamespace("ostree", parse_commit_name, lists_nested=True)
"""The tags of whole commits; what is in directories is listed, as the original does."""


def tag_ref(name: str) -> str:
    """Return the stream ref that a tag is.

    Raises:
        InvalidNameError: The name cannot be one.
    """
    return TAGS.ref(name)


def new_tag_ref(name: str) -> str:
    """Return the stream ref of a tag that is to be set.

    Raises:
        InvalidNameError: The name cannot be one, or is the spelling of an ID.
    """
    return TAGS.ref(check_not_id(name, "tag"))


def is_tag_name(name: str) -> bool:
    """Return whether a tag can have this name."""
    try:
        tag_ref(name)
    except InvalidNameError:
        return False
    return True


def list_tags(repository: Repository) -> list[Tag]:
    """Return all tags, sorted by name; links that name no commit are skipped."""
    return [Tag(*tag) for tag in TAGS.list(repository.streams)]


def find_tag(repository: Repository, name: str) -> Checksum | None:
    """Return the commit that a tag names, or None if there is no such tag; the commit may be gone.

    Raises:
        InvalidNameError: The name cannot be one.
    """
    return TAGS.find(repository.streams, name)


def set_tag(repository: Repository, source: str, name: str) -> Checksum:
    """Make a tag name a commit that is stored, in place of what it named before.

    Args:
        repository: Where.
        source: A tag, the ID of a commit, or a prefix of one.
        name: The tag.

    Returns:
        The commit.

    Raises:
        CommitNotFoundError, AmbiguousIdError: The source names none, or more than one.
        InvalidNameError: The name cannot be one.
    """
    ref = new_tag_ref(name)
    checksum = resolve_source(repository, source)
    repository.streams.set_ref(ref, stream_name(checksum))
    return checksum


def remove_tag(repository: Repository, name: str) -> None:
    """Remove a tag; its commit stays until it is collected.

    Raises:
        CommitNotFoundError: There is no such tag.
    """
    try:
        repository.streams.remove_ref(tag_ref(name))
    except (RefNotFoundError, InvalidNameError) as error:
        similar = suggest(name, (tag.name for tag in list_tags(repository)))
        hint = similar or "list the tags with `cfsctl ostree images`"
        raise CommitNotFoundError(f"Failed to remove tag {name}: {error}", hint=hint) from error


# --- commits ------------------------------------------------------------------------------------


def iter_commits(repository: Repository) -> Iterator[Checksum]:
    """Yield the commits of the repository, tagged or not, ascending."""
    for stream in repository.streams.list_streams():
        checksum = parse_commit_name(stream.name)
        if checksum is not None:
            yield checksum


def resolve_source(repository: Repository, source: str) -> Checksum:
    """Return the commit that a user means.

    Args:
        repository: Where to look.
        source: A tag, the ID of a commit, or a prefix of one; a tag of the same spelling wins.

    Raises:
        CommitNotFoundError: Nothing of that name, or a tag whose commit is gone.
        AmbiguousIdError: The beginning of several IDs.
    """
    tagged = _find_tag_of_user(repository, source)
    if tagged is not None:
        if repository.streams.find(stream_name(tagged)) is None:
            raise CommitNotFoundError(
                f"ref '{source}' points to missing stream '{stream_name(tagged)}'", hint="pull it again"
            )
        return tagged
    short = parse_short_id(source, _MIN_DIGITS)
    if short is None or short.hash_name == "sha512" or len(short.digits) > _ID_LENGTH:
        hint = suggest(source, (tag.name for tag in list_tags(repository)))
        raise CommitNotFoundError(
            f"'{source}' is not a known ostree ref or valid commit ID",
            hint=hint or "list the images with `cfsctl ostree images`",
        )
    return _resolve_id(repository, short.digits)


def _find_tag_of_user(repository: Repository, source: str) -> Checksum | None:
    try:
        return find_tag(repository, source)
    except InvalidNameError:
        return None


def _resolve_id(repository: Repository, digits: str) -> Checksum:
    """Return the commit with this ID, or the only one whose ID begins with this prefix."""
    if len(digits) == _ID_LENGTH:
        if repository.streams.find(_STREAM_PREFIX + digits) is None:
            raise CommitNotFoundError(f"ostree commit ID not found in repository: {digits}")
        return parse_checksum(digits)
    commits = (parse_commit_name(name) for name in repository.streams.links.list_names())
    ids = (commit.hex() for commit in commits if commit is not None)
    found = choose_id(digits, ids, "commit ID", lambda one: _describe(repository, one))
    if found is None:
        raise CommitNotFoundError(f"ostree commit prefix '{digits}' not found in repository")
    return parse_checksum(found)


def _describe(repository: Repository, commit_id: str) -> str | None:
    """Return the tags of a commit as they are listed next to its ID."""
    return ", ".join(tag.name for tag in list_tags(repository) if tag.commit.hex() == commit_id) or None


def open_commit(repository: Repository, checksum: Checksum, *, checks_table: bool = True) -> CommitStream:
    """Return a stored commit.

    Args:
        repository: Where it is.
        checksum: The commit.
        checks_table: As for `CommitStream`.

    Raises:
        CommitNotFoundError: It is not stored.
        FormatError: Its stream is damaged.
        IntegrityError: Its stream is missing, or holds another commit.
    """
    return open_commit_object(
        repository, find_commit(repository, checksum), checksum, checks_table=checks_table
    )


def find_commit(repository: Repository, checksum: Checksum) -> ObjectID:
    """Return the splitstream object of a stored commit.

    Raises:
        CommitNotFoundError: It is not stored.
    """
    object_id = repository.streams.find(stream_name(checksum))
    if object_id is None:
        raise CommitNotFoundError(f"ostree commit ID not found in repository: {checksum.hex()}")
    return object_id


def open_commit_object(
    repository: Repository, object_id: ObjectID, checksum: Checksum, *, checks_table: bool = True
) -> CommitStream:
    """Return the commit that a splitstream object holds; see `open_commit` and `CommitStream`."""
    # Imported here, since commands that only name commits start in two thirds of the time without.
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.splitstream.format import ContentType

    with repository.streams.open_object(object_id, ContentType.OSTREE_COMMIT) as reader:
        stream = CommitStream.read(reader, checksum, checks_table=checks_table)
    stream.object_id = object_id
    return stream
