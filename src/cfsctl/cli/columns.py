"""What a list consists of: its columns, and what a user asks of it."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.cli.output import is_terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cfsctl.library.results import RefSize

    Value = str | int | float | bool | None
    Row = Mapping[str, Value]

SHORT_DIGITS: Final = 12


TEMPLATE: Final = re.compile(r"\{\{|\}\}|\{(\w+)(?::([<>]?)(\d{1,3}))?\}|[{}]|\\[nt\\]")


class Kind(Enum):
    """What the values of a column are."""

    TEXT = "text"
    NAME = "name"
    ID = "ID"
    NUMBER = "number"
    SIZE = "size"
    DATE = "date"

    @property
    def is_numeric(self) -> bool:
        """Whether values stand at the right end of their column."""
        return self in {Kind.NUMBER, Kind.SIZE}


class Column(NamedTuple):
    """A column of a list.

    Attributes:
        key: What `--sort`, `--columns` and templates call it; also the key of its values in a row.
        title: What stands above it.
        kind: What its values are.
        rank: Which columns are left out first where there is no room: the highest. 0 always stays.
        is_shown: Whether it is in the table unless columns are chosen.
        needs_sizes: Whether its values are only there if sizes were asked for.
    """

    key: str
    title: str
    kind: Kind = Kind.TEXT
    rank: int = 0
    is_shown: bool = True
    needs_sizes: bool = False


SIZES: Final = (
    Column("size", "SIZE", Kind.SIZE, rank=3, needs_sizes=True),
    Column("own", "OWN", Kind.SIZE, rank=2, needs_sizes=True),
    Column("shared", "SHARED", Kind.SIZE, rank=5, needs_sizes=True),
)
"""What a ref needs, what of it nothing else needs, and the rest."""


class ListRequest(NamedTuple):
    """How a list is to be printed.

    Attributes:
        only_ids: Print one ID a row and nothing else.
        sort: Key of a column, with ``-`` before it for the other direction; or None for the command's order.
        template: What is printed of each row, or None.
        columns: Keys of the columns of the table, or None.
        exact: Print sizes in bytes.
        whole_ids: Print all digits of IDs.
        with_sizes: Find out sizes.
    """

    only_ids: bool = False
    sort: str | None = None
    template: str | None = None
    columns: tuple[str, ...] | None = None
    exact: bool = False
    whole_ids: bool = False
    with_sizes: bool = False

    @property
    def is_list(self) -> bool:
        """Whether an option asks for lines, of a command that prints something else without."""
        asks = (self.only_ids, self.sort, self.template, self.columns, self.whole_ids)
        return any(asks)

    def needs(self, columns: Sequence[Column], keys: set[str]) -> bool:
        """Return whether any of these columns may be printed or sorted by."""
        used = set() if self.sort is None else {self.sort.removeprefix("-")}
        if self.only_ids:
            return bool(used & keys)
        if self.template is not None:
            used |= {match[1] for match in TEMPLATE.finditer(self.template) if match[1]}
        else:
            shown = (column.key for column in columns if column.is_shown)
            used |= set(shown if self.columns is None else self.columns)
        return bool(used & keys)

    def is_plain(self, *, has_whole_ids: bool = False) -> bool:
        """Return whether the list is printed as it always was: no option, and no terminal.

        Args:
            has_whole_ids: Whether `whole_ids` is one of the options that were always there.
        """
        asks = (self.only_ids, self.sort, self.template, self.columns, self.exact, self.with_sizes)
        return not any(asks) and (has_whole_ids or not self.whole_ids) and not is_terminal()


def size_values(sizes: RefSize | None) -> dict[str, Value]:
    """Return the values of `SIZES`."""
    return {} if sizes is None else {"size": sizes.size, "own": sizes.own, "shared": sizes.shared}


def size_document(sizes: RefSize | None) -> dict[str, object]:
    """Return the same for a JSON document."""
    if sizes is None:
        return {}
    return {"size_bytes": sizes.size, "own_bytes": sizes.own, "shared_bytes": sizes.shared}
