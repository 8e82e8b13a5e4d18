"""Tags of parts of commits; see `cfsctl.ostree.partial`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import parse_checksum
from cfsctl.ostree.refs import escape_tag, unescape_tag
from cfsctl.repository.streams import read_ref_entry

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.repository import Repository

PART_DIRECTORY: Final = "ostree-partial"
_PREFIX: Final = "ostree-partial-"


class Part(NamedTuple):
    """A part of a commit that was asked for.

    Attributes:
        name: Its tag, or the commit's ID if it was pulled by that.
        commit: The commit.
    """

    name: str
    commit: Checksum


def partial_name(checksum: Checksum) -> str:
    """Return the content identifier of what is there of a commit."""
    return f"{_PREFIX}{checksum.hex()}"


def list_parts(repository: Repository) -> list[Part]:
    """Return the parts of commits that were asked for, sorted by name."""
    parts = []
    for ref in repository.streams.list_refs(PART_DIRECTORY):
        commit = parse_partial_name(ref.entry)
        if commit is not None:
            parts.append(Part(unescape_tag(ref.name), commit))
    return sorted(parts)


def find_part_tag(repository: Repository, name: str) -> Checksum | None:
    """Return the commit of which a tag names a part, or None."""
    if name in {"", ".", ".."}:
        return None
    return parse_partial_name(
        read_ref_entry(repository.streams.links, f"{PART_DIRECTORY}/{escape_tag(name)}")
    )


def remove_part_tag(repository: Repository, name: str) -> bool:
    """Remove the tag of a part of a commit; return whether there was one."""
    if find_part_tag(repository, name) is None:
        return False
    repository.streams.remove_ref(f"{PART_DIRECTORY}/{escape_tag(name)}")
    return True


def parse_partial_name(entry: str | None) -> Checksum | None:
    """Return the commit of which this content identifier names a part, or None for any other stream."""
    if entry is None or not entry.startswith(_PREFIX):
        return None
    try:
        return parse_checksum(entry.removeprefix(_PREFIX))
    except ValueError:
        return None
