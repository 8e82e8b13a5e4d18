"""Tags of parts of commits; see `cfsctl.ostree.store.partial_commits`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import parse_checksum
from cfsctl.errors import RepositoryError
from cfsctl.ostree.store.refs import (
    find_tag,
    list_tags,
    new_tag_ref,
    parse_commit_name,
    remove_tag,
    set_tag,
    stream_name,
)
from cfsctl.ostree.store.tag_demands import drop_demand, keep_demands, read_demand, save_demand
from cfsctl.repository.names.links import RefExistsError
from cfsctl.repository.names.names import InvalidNameError
from cfsctl.repository.names.tags import TagNamespace

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.repository import Repository

_PREFIX: Final = "ostree-partial-"


class PartialTagError(RepositoryError):
    """The tag of a part of a commit where that of a whole one is needed."""


class Part(NamedTuple):
    """A part of a commit that was requested.

    Attributes:
        name: Its tag, or the commit's ID if it was pulled by that.
        commit: The commit.
    """

    name: str
    commit: Checksum


def partial_name(checksum: Checksum) -> str:
    """Return the content identifier of a partial commit."""
    return f"{_PREFIX}{checksum.hex()}"


def parse_partial_name(entry: str | None) -> Checksum | None:
    """Return the commit of which this content identifier names a part, or None for any other stream."""
    if entry is None or not entry.startswith(_PREFIX):
        return None
    try:
        return parse_checksum(entry.removeprefix(_PREFIX))
    except ValueError:
        return None


PARTS: Final = TagNamespace("ostree-partial", parse_partial_name, lists_nested=True)
"""The tags of parts of commits."""


def list_parts(repository: Repository) -> list[Part]:
    """Return the parts of commits that were asked for and are all there is of that name, sorted by name."""
    return [part for part in list_part_tags(repository) if not is_superseded(repository, part)]


def is_superseded(repository: Repository, part: Part) -> bool:
    """Return whether the commit is stored completely, or a complete commit has the tag.

    The original, which knows nothing of parts, completes and tags commits next to them.
    """
    exists = repository.streams.links.read_entry
    tagged = find_tag(repository, part.name)
    return any(
        commit is not None and exists(stream_name(commit)) is not None for commit in (part.commit, tagged)
    )


def list_part_tags(repository: Repository) -> list[Part]:
    """Return all tags of parts, also those that whole commits have superseded, sorted by name."""
    return [Part(*tag) for tag in PARTS.list(repository.streams)]


def find_part_tag(repository: Repository, name: str) -> Checksum | None:
    """Return the commit of which a tag names a part, or None."""
    try:
        return PARTS.find(repository.streams, name)
    except InvalidNameError:
        return None


def remove_part_tag(repository: Repository, name: str) -> bool:
    """Remove the tag of a part of a commit; return whether there was one."""
    if find_part_tag(repository, name) is None:
        return False
    repository.streams.remove_ref(PARTS.ref(name))
    return True


def tag_commit(repository: Repository, source: str, name: str) -> Checksum:
    """Make a tag name a whole commit instead of what it named before.

    See `cfsctl.ostree.store.refs.set_tag`.
    """
    drop_lost_demand(repository, name)
    commit = set_tag(repository, source, name)
    remove_part_tag(repository, name)
    return commit


def drop_lost_demand(repository: Repository, name: str) -> None:
    """Forget the requirements of a tag that has been removed, before it is set again."""
    if find_tag(repository, name) is None and find_part_tag(repository, name) is None:
        drop_demand(repository, name)


def drop_lost_demands(repository: Repository) -> None:
    """Remove the requirements of deleted tags; the caller must hold the exclusive lock."""
    tags = {tag.name for tag in list_tags(repository)} | {part.name for part in list_part_tags(repository)}
    keep_demands(repository, tags)


def untag(repository: Repository, name: str) -> None:
    """Remove a tag, of a whole commit, of a part of one, or of both.

    Raises:
        CommitNotFoundError: There is no such tag.
    """
    was_part = remove_part_tag(repository, name)
    if not was_part or find_tag(repository, name) is not None:
        remove_tag(repository, name)
    drop_demand(repository, name)


def rename_tag(repository: Repository, name: str, new: str) -> Checksum:
    """Give a tag another name, with its history and with what it was set under; return its commit.

    Raises:
        RefNotFoundError: There is no such tag.
        RefExistsError: The new name belongs to another commit, or to a part of one.
        InvalidNameError: The new name cannot be one.
    """
    from cfsctl.repository.history.changes import rename  # few commands rename
    from cfsctl.repository.history.kept import HistoryKey

    new_tag_ref(new)
    part = find_part_tag(repository, name)
    if part is not None and find_tag(repository, name) is None:
        raise PartialTagError(
            f"'{name}' is the tag of a partial commit, which cannot be renamed",
            hint="pull the commit again without --subpath, or remove the tag",
        )
    taken = find_tag(repository, new)
    if taken is not None and taken != find_tag(repository, name):
        raise RefExistsError(
            f"{new!r} exists and names commit {taken.hex()}; nothing was changed",
            hint="remove it first, or choose another name",
        )
    demand = read_demand(repository, name)
    if demand is not None:  # before the name: whoever pulls to it meets the demand
        save_demand(repository, new, demand)
    entry = rename(repository, HistoryKey("ostree", name), HistoryKey("ostree", new))
    if new != name:
        drop_demand(repository, name)
    commit = parse_commit_name(entry)
    assert commit is not None
    return commit


def drop_superseded(repository: Repository) -> None:
    """Remove the tags of parts that whole commits have superseded, and the demands of tags that are gone.

    A collection then removes the parts.

    The caller must hold the exclusive lock: a process that moves a tag to a partial commit sets the new tag
    before it removes the old one.
    """
    for part in list_part_tags(repository):
        if is_superseded(repository, part):
            remove_part_tag(repository, part.name)
    drop_lost_demands(repository)
