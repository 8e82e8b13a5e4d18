"""Progress of long operations as events.

A library function takes a `Reporter` and tells it what happens; only the command line turns the
events into text. Nothing here prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Unit(Enum):
    """What the numbers of an event count."""

    BYTES = "bytes"
    ITEMS = "items"


@dataclass(frozen=True, slots=True)
class Started:
    """Work on `id` began; `total` is None when it is not known."""

    id: str
    total: int | None
    unit: Unit


@dataclass(frozen=True, slots=True)
class Advanced:
    """Work on `id` stands at `done` of `total`; later events replace earlier ones."""

    id: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing had to be done for `id`; may come without `Started`."""

    id: str


@dataclass(frozen=True, slots=True)
class Done:
    """Work on `id` ended after `done` units."""

    id: str
    done: int


@dataclass(frozen=True, slots=True)
class Message:
    """A line for the person who watches, not part of any result."""

    text: str


Event = Started | Advanced | Skipped | Done | Message


class Reporter(Protocol):
    """Whoever wants to hear about progress."""

    def __call__(self, event: Event, /) -> None:
        """Take one event; must return quickly and not raise."""


def silent(event: Event, /) -> None:
    """Ignore the event."""
