"""Checks of a commit with a correct checksum before a ref is set to it.

A server or a man in the middle can send a valid commit under the wrong ref: one of another branch, or an old
one with known vulnerabilities. The commit itself says for which refs it was made (``ostree.ref-binding``) and
when.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NoReturn

from cfsctl.errors import ExitCode, IntegrityError

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Commit

MAX_AHEAD_S: Final = 24 * 60 * 60
"""Seconds that clocks may differ."""

REF_BINDING: Final = "ostree.ref-binding"
COLLECTION_BINDING: Final = "ostree.collection-binding"


class PolicyError(IntegrityError):
    """A valid commit that must not be stored under the ref it was asked for by."""

    exit_code = ExitCode.POLICY


class BindingError(PolicyError):
    """A commit that was made for other refs."""


class DowngradeError(PolicyError):
    """A commit that is older than the one that the ref names."""


def branch_names(ref: str) -> frozenset[str]:
    """Return what a commit may call the branch that a user calls `ref`.

    A user may name the place as well: ``heads/NAME``, ``remotes/REMOTE/NAME``, ``REMOTE:NAME``.
    """
    names = {ref, ref.partition(":")[2] or ref}
    if ref.startswith("heads/"):
        names.add(ref.removeprefix("heads/"))
    if ref.startswith(("remotes/", "mirrors/")) and ref.count("/") >= 2:
        names.add(ref.split("/", 2)[2])
    return frozenset(names)


def check_binding(checksum: Checksum, commit: Commit, ref: str) -> None:
    """Check that a commit may have the ref it was asked for by; one that says nothing may have any.

    Raises:
        BindingError: It was made for other refs, or what it says is not a list of refs.
    """
    where = f"commit {checksum.hex()}"
    for key, variant in commit.metadata:
        if key != REF_BINDING:
            continue
        if variant.type != "as" or not isinstance(variant.value, list):
            raise BindingError(f"{where}: {REF_BINDING}: expected a list of refs, found type {variant.type}")
        bound_to = [str(name) for name in variant.value]
        if branch_names(ref).isdisjoint(bound_to):
            bound = ", ".join(f"'{name}'" for name in bound_to) or "no refs"
            raise BindingError(
                f"{where}: expected a commit for ref '{ref}', found one that is bound to {bound}",
                hint="to pull it anyway, use its commit ID",
            )


def check_collection(checksum: Checksum, commit: Commit, collection_id: str) -> None:
    """Check that a commit was made for a collection, and says for which refs.

    Raises:
        BindingError: It was made for another one, or does not say.
    """
    where = f"commit {checksum.hex()}"
    values = {key: variant.value for key, variant in commit.metadata if variant.type in {"s", "as"}}
    if REF_BINDING not in values:
        raise BindingError(f"{where}: expected {REF_BINDING}, as its collection needs, found none")
    found = values.get(COLLECTION_BINDING)
    if found != collection_id:
        shown = f"'{found}'" if isinstance(found, str) else "none"
        raise BindingError(f"{where}: {COLLECTION_BINDING}: expected '{collection_id}', found {shown}")


def check_not_older(ref: str, old: tuple[Checksum, Commit] | None, new: tuple[Checksum, Commit]) -> None:
    """Check that a ref does not go back in time.

    Another commit of the same second counts as older unless it is the child of the old one, and one that is
    made more than a day ahead of our clock is refused: what comes after it would be older.

    Args:
        ref: The ref.
        old: Name and commit that the ref names, or None if it names none yet.
        new: Name and commit that it is to name.

    Raises:
        DowngradeError: It would.
    """
    if old is not None and old[0] == new[0]:
        return
    if new[1].timestamp_s > time.time() + MAX_AHEAD_S:
        # Nothing would be newer for as long, so that the tag could not be updated any more.
        raise DowngradeError(
            f"ref '{ref}': expected a commit that was not made in the future, found {_describe(*new)}",
            hint="check the clocks; --allow-downgrade accepts it",
        )
    if old is None or new[1].timestamp_s > old[1].timestamp_s:
        return
    if new[1].timestamp_s == old[1].timestamp_s and new[1].parent == old[0]:
        return
    _refuse_downgrade(ref, old, new)


def _refuse_downgrade(ref: str, old: tuple[Checksum, Commit], new: tuple[Checksum, Commit]) -> NoReturn:
    raise DowngradeError(
        f"ref '{ref}': expected a commit newer than {_describe(*old)}, found {_describe(*new)}",
        hint="to move the tag back, use --allow-downgrade",
    )


def _describe(checksum: Checksum, commit: Commit) -> str:
    return f"{checksum.hex()} of {format_time(commit.timestamp_s)}"


def format_time(timestamp_s: int) -> str:
    """Return a commit's time for people, as a number where no calendar has it."""
    try:
        return f"{datetime.fromtimestamp(timestamp_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return str(timestamp_s)
