"""Show events: messages and progress of one command.

The progress views are imported when there is something to show: most commands end long before that.
"""

from __future__ import annotations

import os
import sys
from enum import Enum
from typing import TYPE_CHECKING

from cfsctl.cli.errors import STYLE
from cfsctl.cli.output import Level, tell
from cfsctl.progress import Message, Waiting

if TYPE_CHECKING:
    from cfsctl.progress import Event, Reporter


class ProgressMode(Enum):
    """How progress is shown on standard error."""

    AUTO = "auto"
    """Bars on a terminal, otherwise a line every few seconds; nothing with ``--json``."""

    PLAIN = "plain"
    """A line every few seconds."""

    JSON = "json"
    """One JSON object in a line for each event."""

    NONE = "none"
    """Not at all."""


class Progress:
    """Where the events of one run go; call it with each."""

    def __init__(
        self, mode: ProgressMode = ProgressMode.NONE, fd: int | None = None, level: Level = Level.NOTICE
    ) -> None:
        """Show nothing yet.

        Args:
            mode: What to do on standard error.
            fd: Descriptor that gets each event as a line of JSON, or None; borrowed.
            level: Up to which messages are printed.
        """
        self._mode = mode
        self._fd = fd
        self._level = level
        self._watchers: list[Reporter] | None = None

    def __call__(self, event: Event, /) -> None:
        """Show an event, or do not."""
        if isinstance(event, Waiting):
            return  # a person sees that, and the program is ended by a signal
        if self._watchers is None:
            if isinstance(event, Message) and self._fd is None and self._mode is not ProgressMode.JSON:
                self._print_message(event)
                return
            self._watchers = self._start()
        for watch in self._watchers:
            watch(event)

    def close(self) -> None:
        """Take away what is drawn; what is printed next begins on a line of its own."""
        for watch in self._watchers or ():
            end = getattr(watch, "close", None)
            if end is not None:
                end()

    def _start(self) -> list[Reporter]:
        from cfsctl.cli import progress_views as views

        watchers: list[Reporter] = []
        match self._choose_mode():
            case ProgressMode.AUTO:
                watchers.append(views.Bars(self._shows))
            case ProgressMode.PLAIN:
                watchers += (self._print_message, views.Lines(_print_advance))
            case ProgressMode.JSON:
                watchers.append(views.JsonLines(sys.stderr.fileno()))
            case ProgressMode.NONE:
                watchers.append(self._print_message)
        if self._fd is not None:
            watchers.append(views.JsonLines(self._fd))
        return watchers

    def _print_message(self, event: Event, /) -> None:
        if isinstance(event, Message) and self._shows(event):
            tell(f"cfsctl: {event.text}", level_of(event))

    def _shows(self, message: Message) -> bool:
        return level_of(message) <= self._level

    def _choose_mode(self) -> ProgressMode:
        """Return the mode that `auto` means for this standard error."""
        mode = _choose(self._mode)
        # Workers print lines, too, in the midst of bars.
        return ProgressMode.PLAIN if mode is ProgressMode.AUTO and self._level >= Level.DEBUG else mode


def level_of(message: Message) -> Level:
    """Return how much a message matters."""
    return Level.WARNING if message.is_warning else Level.NOTICE


def _print_advance(text: str) -> None:
    tell(f"cfsctl: {text}", Level.INFO)


def _choose(mode: ProgressMode) -> ProgressMode:
    if mode is not ProgressMode.AUTO:
        return mode
    if STYLE.as_json:
        return ProgressMode.NONE
    try:
        is_terminal = sys.stderr.isatty()
    except ValueError:  # closed
        return ProgressMode.NONE
    return mode if is_terminal and os.environ.get("TERM", "dumb") != "dumb" else ProgressMode.PLAIN
