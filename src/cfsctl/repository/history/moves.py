"""What happens when a ref moves: it may be refused, its old target may be kept, and it is reported.

A guard is in place for one operation and sees every ref of a user that the operation sets. Refs that this
program makes for itself, such as histories, are not its business.

    lock of histories ─▶ old target into the history ─▶ the ref moves ─▶ what is too much of the history goes

If this is killed between two steps, the target that the ref still has is in its history as well, which the
next move puts right. The lock orders moves of the same ref, so that no target is lost between two programs.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError
from cfsctl.repository.history.kept import (
    HISTORY,
    HistoryKey,
    add_kept,
    drop_kept,
    list_kept,
    time_of_ref,
)
from cfsctl.repository.names.images import IMAGES
from cfsctl.repository.names.links import Ref, RefExistsError
from cfsctl.repository.names.short_ids import SHOWN_DIGITS
from cfsctl.repository.names.tags import escape_tag, unescape_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.repository.history.kept import Kept
    from cfsctl.repository.names.links import LinkDirectory, RefMove
    from cfsctl.repository.repository import Repository

TAG_DIRECTORIES: Final = frozenset({"ostree", "oci"})
"""Directories below ``streams/refs`` whose refs are tags of users."""


class Moved(NamedTuple):
    """A ref that was set to something else.

    Attributes:
        key: The ref.
        old: The entry that it named before, or None if it is new.
        new: The entry that it names now.
    """

    key: HistoryKey
    old: str | None
    new: str

    def describe(self) -> str:
        """Return what is said about it."""
        return f"{self.key.name}: moved from {short_entry(self.old or '')} to {short_entry(self.new)}"


def short_entry(entry: str) -> str:
    """Return the beginning of the ID in an entry, as lists print it."""
    return entry.rpartition("-")[2].rpartition(":")[2][:SHOWN_DIGITS]


class RefMoves:
    """The guard of one operation.

    Attributes:
        moved: The refs that were set to something else, in order.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        may_replace: bool = True,
        keep: int | None = None,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Guard nothing yet.

        Args:
            repository: Where.
            may_replace: Whether refs may be taken from what they name.
            keep: How many earlier targets of each ref are kept; None keeps none and removes none.
            tell: Called with a sentence about each ref that was set to something else.
        """
        self.moved: list[Moved] = []
        self._repository = repository
        self._may_replace = may_replace
        self._keep = keep
        self._tell = tell

    @contextlib.contextmanager
    def in_place(self) -> Iterator[RefMoves]:
        """Guard the refs of the repository within the block."""
        links = (self._repository.images.links, self._repository.streams.links)
        before = [one.guard for one in links]
        for one in links:
            one.guard = self
        try:
            yield self
        finally:
            for one, guard in zip(links, before, strict=True):
                one.guard = guard

    @contextlib.contextmanager
    def moving(self, move: RefMove) -> Iterator[bool]:
        """Guard one ref while it is set; see `MoveGuard`."""
        key = find_key(move.category, move.ref)
        if key is None:
            yield True
            return
        with contextlib.ExitStack() as stack:
            if self._keep:
                stack.enter_context(lock_histories(self._repository))
            old = current_target(self._repository, key)
            if old is not None and not self._may_replace:
                raise exists_error(key, old)
            if old is not None and old != move.entry and self._keep:
                keep_target(self._repository, key, old, self._tell)
            yield self._may_replace
            if self._keep is not None:
                kept = list_kept(self._repository, key)
                _drop(self._repository, key, kept, move.entry, self._keep)
        if old != move.entry:
            self.moved.append(Moved(key, old, move.entry))
            if old is not None:
                self._tell(self.moved[-1].describe())


def keep_target(repository: Repository, key: HistoryKey, target: str, tell: Callable[[str], object]) -> None:
    """Put the target of a ref into its history; one that is gone or damaged is nothing to come back to.

    The caller holds the lock of histories.

    Args:
        repository: Where.
        key: The ref.
        target: The entry that it names.
        tell: Called with a sentence if it cannot be kept.
    """
    try:
        if entry_exists(repository, key, target):
            add_kept(repository, key, target, time_of_ref(repository, key.directory, ref_of(key)))
    except CfsError as error:
        tell(f"{key.name}: its earlier target is not kept: {error}")


def _drop(repository: Repository, key: HistoryKey, kept: list[Kept], current: str, most: int) -> None:
    """Remove from a history what the ref names now, and what is too much of the rest."""
    others = [one for one in kept if one.target != current]
    drop_kept(repository, key, [*(one for one in kept if one.target == current), *others[most:]])


@contextlib.contextmanager
def lock_histories(repository: Repository) -> Iterator[None]:
    """Hold the lock that orders changes of histories, and of the refs that they belong to."""
    with repository.streams.links.locked_refs(HISTORY):
        yield


def find_key(category: str, ref: str) -> HistoryKey | None:
    """Return the ref of a user that a path below ``refs`` is, or None for one that this program makes."""
    if category == IMAGES:
        return HistoryKey(IMAGES, ref)
    directory, slash, rest = ref.partition("/")
    if not slash or "/" in rest or directory not in TAG_DIRECTORIES:
        return None
    return HistoryKey(directory, unescape_tag(rest))


def ref_of(key: HistoryKey) -> str:
    """Return the path below ``refs`` of a ref."""
    return key.name if key.directory == IMAGES else f"{key.directory}/{escape_tag(key.name)}"


def describe_target(repository: Repository, directory: str, entry: str) -> str:
    """Return the ID that a ref names as it is printed: ``sha512:...`` of an image, a commit, a digest."""
    if directory == IMAGES:
        return f"{repository.algorithm.hash_name}:{entry}"
    return entry.rpartition("-")[2]


def links_of(repository: Repository, key: HistoryKey) -> LinkDirectory:
    """Return the links that a ref is one of."""
    return repository.images.links if key.directory == IMAGES else repository.streams.links


def current_target(repository: Repository, key: HistoryKey) -> str | None:
    """Return the entry that a ref names, or None if there is no such ref; the entry may be gone."""
    text = links_of(repository, key).read_ref(ref_of(key))
    return None if text is None else Ref(ref_of(key), text).entry


def entry_exists(repository: Repository, key: HistoryKey, entry: str) -> bool:
    """Return whether the entry that a ref names exists."""
    return links_of(repository, key).read_entry(entry) is not None


def exists_error(key: HistoryKey, target: str) -> RefExistsError:
    """Return the error for a name that is in use."""
    return RefExistsError(
        f"{key.name!r} exists and names {short_entry(target)}; nothing was changed",
        hint="choose another name, or leave --no-clobber out to move it",
    )


def check_free(repository: Repository, key: HistoryKey) -> None:
    """Check that nothing has a name, before work is done for something that is to have it.

    Raises:
        RefExistsError: Something has.
    """
    target = current_target(repository, key)
    if target is not None:
        raise exists_error(key, target)
