"""Options of commands that set refs; apart from `refs`, because most of these commands print no lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., object]")


def no_clobber_option(function: F) -> F:
    """Add ``--no-clobber``, as `no_clobber`."""
    return click.option(
        "--no-clobber", is_flag=True, help="Fail with exit status 14 if the name is in use; move nothing."
    )(function)


def keep_option(function: F) -> F:
    """Add ``--keep``, as `keep`."""
    return click.option(
        "--keep",
        metavar="N",
        type=click.IntRange(0, 1 << 20),
        help="Keep the last N targets of a name that is moved, for rollback; 0 removes what was kept. By "
        "default, nothing is kept and nothing removed.",
    )(function)
