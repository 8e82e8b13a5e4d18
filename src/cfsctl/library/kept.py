"""Histories of refs, for images, commits and OCI images alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.errors import RefNotFoundError
from cfsctl.library.events import make_reporter
from cfsctl.library.results import KeptTarget, RefChange
from cfsctl.progress import Message
from cfsctl.repository.history.changes import LIST_HINTS, is_usable
from cfsctl.repository.history.changes import roll_back as roll_back_ref
from cfsctl.repository.history.kept import HistoryKey, list_kept, time_of_ref
from cfsctl.repository.history.moves import current_target, describe_target, ref_of

if TYPE_CHECKING:
    from cfsctl.library.events import Progress
    from cfsctl.repository import Repository


def find_target(repository: Repository, key: HistoryKey) -> str | None:
    """Return the ID that a ref names as it is printed, or None if there is no such ref."""
    entry = current_target(repository, key)
    return None if entry is None else describe_target(repository, key.directory, entry)


def roll_back(
    repository: Repository, directory: str, name: str, to: str | None, progress: Progress | None
) -> RefChange:
    """Set a ref to what it named before; see `cfsctl.repository.history.changes.roll_back`."""
    report = make_reporter(progress)
    moved = roll_back_ref(repository, HistoryKey(directory, name), to, lambda text: report(Message(text)))
    old = None if moved.old is None else describe_target(repository, directory, moved.old)
    return RefChange(name, old, describe_target(repository, directory, moved.new))


def list_history(repository: Repository, directory: str, name: str) -> list[KeptTarget]:
    """Return the current target of a ref and the earlier ones that are kept, latest first.

    Raises:
        RefNotFoundError: There is no such ref, and no history of it.
    """
    key = HistoryKey(directory, name)
    current = current_target(repository, key)
    kept = [one for one in list_kept(repository, key) if one.target != current]
    if current is None and not kept:
        hint = LIST_HINTS.get(directory)
        raise RefNotFoundError(f"there is no ref {name!r}, and no history of it", hint=hint)
    found = [
        KeptTarget(
            describe_target(repository, directory, one.target),
            one.set_us / 1e6,
            is_current=False,
            is_stored=is_usable(repository, key, one),
        )
        for one in kept
    ]
    if current is None:
        return found
    set_s = time_of_ref(repository, directory, ref_of(key)) / 1e6
    return [
        KeptTarget(describe_target(repository, directory, current), set_s, is_current=True, is_stored=True),
        *found,
    ]
