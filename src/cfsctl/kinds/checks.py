"""Checks of stream contents for `fsck`, by content type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.kinds.registry import stream_kinds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.repository import Repository
    from cfsctl.repository.check.links import ContentCheck, ContentChecks
    from cfsctl.splitstream import SplitstreamReader


def content_checks(repository: Repository, *, is_deep: bool = True) -> ContentChecks:
    """Return the checks of all kinds; see `cfsctl.repository.check.links.ContentChecks`.

    Args:
        repository: The repository that is checked.
        is_deep: Check again what was proven before.
    """
    checks: dict[int | None, ContentCheck] = {None: _iter_false_claims}
    for kind in stream_kinds():
        check = kind.find_check(repository, is_deep=is_deep)
        if check is not None:
            checks |= dict.fromkeys(kind.content_types, _with_claims(check))
    return checks


def _with_claims(check: ContentCheck) -> ContentCheck:
    def check_both(reader: SplitstreamReader, name: str) -> Iterable[str]:
        yield from _iter_false_claims(reader, name)
        yield from check(reader, name)

    return check_both


def _iter_false_claims(reader: SplitstreamReader, name: str) -> Iterator[str]:
    """Yield that the name of a stream says that it is of a kind that it is not of."""
    for kind in stream_kinds():
        if reader.content_type not in kind.content_types and kind.claims(name):
            yield f"expected a {kind.noun}, found a stream of the content type {reader.content_type:#x}"
