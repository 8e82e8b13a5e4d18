"""Progress of long operations as events.

A library function calls a `Reporter` with each event; only the command line turns the
events into text. Nothing here prints. Every command imports this, so the events are named tuples: a
dataclass takes ten times as long to define.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol


class Unit(Enum):
    """What the numbers of an event count."""

    BYTES = "bytes"
    ITEMS = "items"


class Started(NamedTuple):
    """Work on `id` began; `total` is None when it is not known."""

    id: str
    total: int | None
    unit: Unit


class Advanced(NamedTuple):
    """Work on `id` stands at `done` of `total`; later events replace earlier ones.

    Attributes:
        id: As in `Started`.
        done: Units that are done.
        total: Units there are, or None if that is not known.
        size_bytes: Where items are counted, the number of bytes in them; None if not counted.
    """

    id: str
    done: int
    total: int | None
    size_bytes: int | None = None


class Skipped(NamedTuple):
    """Nothing had to be done for `id`; may come without `Started`."""

    id: str


class Done(NamedTuple):
    """Work on `id` ended after `done` units."""

    id: str
    done: int


class Message(NamedTuple):
    """A line for the person who watches, not part of any result.

    Attributes:
        text: The line.
        is_warning: Whether something is wrong, or less safe than it could be.
    """

    text: str
    is_warning: bool = False


class Waiting(NamedTuple):
    """Nothing is new, but the operation goes on: sent to programs several times a second while it waits."""


Event = Started | Advanced | Skipped | Done | Message | Waiting


class Reporter(Protocol):
    """Receiver of progress."""

    def __call__(self, event: Event, /) -> None:
        """Take one event; must return quickly and not raise."""


def silent(event: Event, /) -> None:
    """Ignore the event."""
