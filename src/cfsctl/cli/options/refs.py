"""Options and results of commands that set refs and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from cfsctl.cli.columns import Column, Kind
from cfsctl.cli.listing import show_list
from cfsctl.cli.output import print_document, print_line
from cfsctl.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.cli.columns import ListRequest
    from cfsctl.library.results import KeptTarget, RefChange

F = TypeVar("F", bound="Callable[..., object]")


def to_option(function: F) -> F:
    """Add ``--to``, as `to`."""
    return click.option(
        "--to",
        metavar="ID",
        help="Earlier target: its ID or a unique prefix; the default is the last one.",
    )(function)


def show_change(change: RefChange, kind: str, *, as_json: bool, text: str | None, key: str = "tag") -> None:
    """Print what became of a ref.

    Args:
        change: What did.
        kind: What the ref names, as the documents call it: ``image``, ``commit`` or ``manifest``.
        as_json: Print a document.
        text: The line for people, or None for nothing.
        key: What the documents call the ref.
    """
    if as_json:
        print_document({key: change.name, kind: change.new, "previous": change.old})
    elif text is not None:
        print_line(text)


def rollback_text(change: RefChange) -> str:
    """Return what is said about a ref that was rolled back."""
    if change.old == change.new:
        return f"{change.name} names {change.new} already"
    return f"Rolled {change.name} back from {change.old} to {change.new}"


def show_removal(change: RefChange, *, as_json: bool, text: str | None, key: str = "tag") -> None:
    """Print that a ref was removed, with how many earlier targets of it."""
    if as_json:
        print_document({key: change.name, "previous": change.old, "history_removed": change.forgotten})
    elif text is not None:
        print_line(text)


HISTORY_COLUMNS = (
    Column("id", "ID", Kind.ID),
    Column("date", "SET", Kind.DATE),
    Column("state", "STATE"),
    Column("timestamp", "TIMESTAMP", is_shown=False),
)


def show_history(name: str, found: list[KeptTarget], listing: ListRequest, *, as_json: bool) -> None:
    """Print what a ref names and named before."""
    rows = [
        {
            "id": one.target,
            "date": one.set_s,
            "timestamp": format_timestamp(one.set_s),
            "state": "current" if one.is_current else "kept" if one.is_stored else "missing",
        }
        for one in found
    ]
    if not as_json:
        show_list(listing, HISTORY_COLUMNS, rows, quiet_key="id", nothing="")
        return
    keys = ("id", "timestamp", "state")
    print_document({"name": name, "history": [{key: row[key] for key in keys} for row in rows]})
