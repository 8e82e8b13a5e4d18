"""The options of commands that print a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.columns import TEMPLATE, Column, ListRequest
from cfsctl.cli.help import OUTPUT, section
from cfsctl.cli.options.groups import option_group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def list_options(columns: Sequence[Column]) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Add the options of a list, as `listing`.

    Args:
        columns: The columns that there are.
    """
    keys = ", ".join(column.key for column in columns)
    has_sizes = any(column.needs_sizes for column in columns)

    def make(
        *,
        only_ids: bool,
        sort: str | None,
        template: str | None,
        column_names: str | None,
        exact: bool,
        whole_ids: bool,
        with_sizes: bool = False,
    ) -> ListRequest:
        return _make_request(
            columns, only_ids, sort, template, column_names, exact=exact, whole=whole_ids, sizes=with_sizes
        )

    return option_group(
        "listing",
        make,
        (section(OUTPUT, *_list_options(keys, has_sizes=has_sizes)),),
    )


def _list_options(keys: str, *, has_sizes: bool) -> list[Callable[..., Callable[..., object]]]:
    """Return the options of a list."""
    size_option = click.option(
        "--size",
        "with_sizes",
        is_flag=True,
        help="Also print sizes: in total, needed by this one alone, and shared. Reads the whole repository.",
    )
    return [
        click.option("-q", "only_ids", is_flag=True, help="Print one ID (or name) per line, whole."),
        click.option("--sort", metavar="COLUMN", help="Sort by this column; -COLUMN is descending."),
        click.option(
            "--format",
            "template",
            metavar="TEMPLATE",
            help="Print this for each row: {COLUMN} or {COLUMN:<WIDTH}, with \\t and \\n; or the word "
            f"table. Columns: {keys}.",
        ),
        click.option("--columns", "column_names", metavar="COLUMN,...", help="Columns of the table."),
        click.option("--bytes", "exact", is_flag=True, help="Print sizes in bytes."),
        click.option("--no-trunc", "whole_ids", is_flag=True, help="Print full digests."),
        *((size_option,) if has_sizes else ()),
    ]


def _make_request(
    columns: Sequence[Column],
    only_ids: bool,  # noqa: FBT001 - handed on
    sort: str | None,
    template: str | None,
    column_names: str | None,
    *,
    exact: bool,
    whole: bool,
    sizes: bool,
) -> ListRequest:
    if sum((only_ids, template not in {None, "table"}, column_names is not None)) > 1:
        raise click.UsageError("-q, --format and --columns cannot be used together")
    keys = {column.key: column for column in columns}
    chosen = tuple(column_names.split(",")) if column_names is not None else None
    if template == "table" and chosen is None:
        chosen = tuple(
            column.key for column in columns if column.is_shown and (sizes or not column.needs_sizes)
        )
        template = None
    used = [*(chosen or ()), *([] if sort is None else [sort.removeprefix("-")])]
    used += [] if template is None else [match[1] for match in TEMPLATE.finditer(template) if match[1]]
    for key in used:
        if key not in keys:
            raise click.UsageError(f"there is no column {key!r}; there are {', '.join(keys)}")
    if template is not None and any(match[0] in "{}" for match in TEMPLATE.finditer(template)):
        raise click.UsageError(f"--format: expected {{COLUMN}} or {{{{, found a single brace in {template!r}")
    return ListRequest(
        only_ids=only_ids,
        sort=sort,
        template=None if template == "table" else template,
        columns=chosen,
        exact=exact,
        whole_ids=whole,
        with_sizes=sizes or any(keys[key].needs_sizes for key in used),
    )
