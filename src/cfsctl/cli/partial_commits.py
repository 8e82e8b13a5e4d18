"""What `fsck` and `gc` say about commits of which only a part is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cfsctl.repository import Repository


def find_partial_commits(repository: Repository) -> dict[str, str]:
    """Return the commits of which a part was asked for and is kept, by tag; mostly there are none."""
    if not repository.streams.list_refs("ostree-partial"):
        return {}
    from cfsctl.ostree.store.partial_tags import list_parts  # noqa: PLC0415 - hardly ever needed

    return {part.name: part.commit.hex() for part in list_parts(repository)}


def partial_lines(commits: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each of them."""
    for name, commit in commits.items():
        yield f"partial commit: {commit} ({name})"


def partial_json(commits: Mapping[str, str]) -> dict[str, object]:
    """Return what they add to a JSON document: nothing where there are none."""
    return {"partial_commits": dict(commits)} if commits else {}
