"""The stored history of a commit, in the format of `ostree log`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.ostree.store.metadata_text import version_of
from cfsctl.ostree.store.refs import CommitNotFoundError, open_commit
from cfsctl.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Commit
    from cfsctl.repository import Repository


class LogEntry(NamedTuple):
    """A commit of a history; `commit` is None for one that is not stored, which ends it."""

    checksum: Checksum
    commit: Commit | None


def iter_history(repository: Repository, checksum: Checksum) -> Iterator[LogEntry]:
    """Yield a commit, its parent, that one's parent, and so on, to the first one that is not stored.

    Raises:
        CommitNotFoundError: The first one is not stored.
        FormatError, IntegrityError: One of them is damaged.
    """
    commit = open_commit(repository, checksum).commit
    yield LogEntry(checksum, commit)
    while commit.parent is not None:
        # A commit's checksum covers its parent's, so commits cannot form a circle.
        checksum = commit.parent
        try:
            commit = open_commit(repository, checksum).commit
        except CommitNotFoundError:
            yield LogEntry(checksum, None)
            return
        yield LogEntry(checksum, commit)


def format_entry(entry: LogEntry) -> list[str]:
    """Return the lines that `ostree log` has for a commit, line ends and control characters as they are."""
    checksum, commit = entry
    if commit is None:
        return ["<< History beyond this commit not fetched >>"]
    lines = [f"commit {checksum.hex()}"]
    if commit.parent is not None:
        lines.append(f"Parent:  {commit.parent.hex()}")
    lines.append(f"ContentChecksum:  {_content_checksum(commit)}")
    lines.append(f"Date:  {_format_time(commit.timestamp_s)}")
    version = version_of(commit)
    if version is not None:
        lines.append(f"Version: {version}")
    if commit.subject:
        lines += ["", *_indented(commit.subject)]
    else:
        lines.append("(no subject)")
    if commit.body:
        lines += ["", *_indented(commit.body)]
    lines.append("")
    return lines


def entry_document(entry: LogEntry) -> dict[str, object]:
    """Return the same for a JSON document; of a commit that is not stored, there is only the ID."""
    checksum, commit = entry
    if commit is None:
        return {"commit": checksum.hex(), "stored": False}
    return {
        "commit": checksum.hex(),
        "stored": True,
        "parent": None if commit.parent is None else commit.parent.hex(),
        "content_checksum": _content_checksum(commit),
        "timestamp": format_timestamp(commit.timestamp_s),
        "timestamp_s": commit.timestamp_s,
        "version": version_of(commit),
        "subject": commit.subject,
        "body": commit.body,
    }


def _content_checksum(commit: Commit) -> str:
    return hashlib.sha256(commit.root_dirtree + commit.root_dirmeta).hexdigest()


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.removesuffix("\n").split("\n")]


def _format_time(timestamp_s: int) -> str:
    from cfsctl.ostree.store.binding import format_time  # brings calendars along

    return format_time(timestamp_s).removesuffix(" UTC") + " +0000"
