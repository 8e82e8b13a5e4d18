"""Renaming a ref, removing it, and going back to what it named before, each together with its history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.digest import find_object_name
from cfsctl.errors import ExitCode, RefNotFoundError, RepositoryError
from cfsctl.repository.history.kept import drop_kept, list_kept, move_kept
from cfsctl.repository.history.moves import (
    Moved,
    current_target,
    entry_exists,
    keep_target,
    links_of,
    lock_histories,
    ref_of,
    short_entry,
)
from cfsctl.repository.names.images import IMAGES
from cfsctl.repository.names.links import RefExistsError
from cfsctl.repository.names.names import check_new_ref, check_not_id, suggest
from cfsctl.repository.names.short_ids import choose_id, parse_short_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.repository.history.kept import HistoryKey, Kept
    from cfsctl.repository.repository import Repository


LIST_HINTS: Final = {
    IMAGES: "list the images with `cfsctl images`",
    "ostree": "list the tags with `cfsctl ostree images`",
    "oci": "list the tags with `cfsctl oci images`",
}


class NothingKeptError(RepositoryError):
    """No such earlier target of a ref is kept."""

    exit_code = ExitCode.NOT_FOUND


def roll_back(
    repository: Repository,
    key: HistoryKey,
    to: str | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Moved:
    """Set a ref to what it named before; what it names now goes into its history, so that this can be undone.

    If this is killed, doing it again with the same `to` ends it.

    Args:
        repository: Where.
        key: The ref.
        to: The earlier target, or the present one: its ID or a prefix of it; None is the latest earlier
            one that still exists.
        tell: Called with a sentence if what the ref names now cannot be kept, since it is damaged.

    Raises:
        RefNotFoundError: There is no such ref.
        NothingKeptError: It has no such earlier target.
        AmbiguousIdError: The beginning of more than one.
    """
    with lock_histories(repository):
        current = _require(repository, key)
        kept = list_kept(repository, key)
        target = _choose(repository, key, [one for one in kept if one.target != current], to, current)
        if target != current:
            keep_target(repository, key, current, tell)
            _set(repository, key, target)
        drop_kept(repository, key, [one for one in list_kept(repository, key) if one.target == target])
    return Moved(key, current, target)


def _choose(repository: Repository, key: HistoryKey, kept: list[Kept], to: str | None, current: str) -> str:
    usable = [one for one in kept if is_usable(repository, key, one)]
    if to is None:
        if not usable:
            raise NothingKeptError(
                f"{key.name}: no earlier targets are kept",
                hint="pull, tag and create-image keep earlier targets with --keep",
            )
        return usable[0].target
    short = parse_short_id(to.rpartition("-")[2])
    targets = (current, *(one.target for one in usable))
    ids = {target.rpartition("-")[2].rpartition(":")[2]: target for target in targets}
    found = None if short is None else choose_id(short.digits, ids, f"earlier target of {key.name}")
    if found is None:
        listed = ", ".join(short_entry(one.target) for one in usable)
        raise NothingKeptError(
            f"{key.name}: {to} is not one of its kept earlier targets",
            hint=f"kept are {listed}" if usable else None,
        )
    return ids[found]


def is_usable(repository: Repository, key: HistoryKey, kept: Kept) -> bool:
    """Return whether an earlier target still exists."""
    if key.directory != IMAGES:
        return entry_exists(repository, key, kept.target)
    image_id = find_object_name(kept.target, repository.algorithm)
    return image_id is not None and repository.objects.contains(image_id)


def _set(repository: Repository, key: HistoryKey, target: str) -> None:
    if key.directory != IMAGES:
        repository.streams.links.set_ref(ref_of(key), target)
        return
    image_id = find_object_name(target, repository.algorithm)
    assert image_id is not None
    repository.images.links.set_entry(target, image_id)
    repository.images.links.set_ref(key.name, target)


def _require(repository: Repository, key: HistoryKey) -> str:
    target = current_target(repository, key)
    if target is None:
        names = (
            [ref.name for ref in repository.images.list_refs()]
            if key.directory == IMAGES
            else [ref.name for ref in repository.streams.list_refs(key.directory)]
        )
        raise RefNotFoundError(
            f"there is no ref {key.name!r}", hint=suggest(key.name, names) or LIST_HINTS.get(key.directory)
        )
    return target


def rename(repository: Repository, key: HistoryKey, new: HistoryKey) -> str:
    """Give a ref another name, and its history with it; return what it names.

    If this is killed, both names may be there, and doing it again removes the old one.

    Raises:
        RefNotFoundError: There is no such ref.
        RefExistsError: The new name belongs to something else.
        InvalidNameError: The new name cannot be one.
    """
    if new.directory == IMAGES:
        new = new._replace(name=check_new_ref(new.name, "image name"))
    else:
        check_not_id(new.name, "tag")
    with lock_histories(repository):
        target = _require(repository, key)
        if new == key:
            return target
        taken = current_target(repository, new)
        if taken not in {None, target}:
            raise RefExistsError(
                f"{new.name!r} exists and names {short_entry(taken or '')}; nothing was changed",
                hint="remove it first, or choose another name",
            )
        links = links_of(repository, key)
        links.set_ref(ref_of(new), target)
        move_kept(repository, key, new)
        links.remove_ref(ref_of(key))
    return target


def forget_history(repository: Repository, key: HistoryKey) -> int:
    """Remove the history of a ref; return how many earlier targets that were."""
    if not list_kept(repository, key):
        return 0
    with lock_histories(repository):
        kept = list_kept(repository, key)
        drop_kept(repository, key, kept)
    return len(kept)
