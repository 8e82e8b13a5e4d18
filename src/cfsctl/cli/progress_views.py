"""Ways to show progress: bars on a terminal, plain lines, lines of JSON.

Each view is called with every event. Events come as fast as work is done, so each view decides by itself
how many of them are worth showing.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NoReturn

from cfsctl.cli.output import SCHEMA_VERSION, STAMPS, Level, is_journal, shorten, tell
from cfsctl.progress import Advanced, Done, Message, Skipped, Started, Unit, Waiting
from cfsctl.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tqdm import tqdm

    from cfsctl.progress import Event

_BAR_DELAY_S: Final = 0.5
"""What ends sooner needs no bar."""

_LINE_INTERVAL_S: Final = 5.0
"""Between two plain lines about the same work, and before the first."""

_JSON_INTERVAL_S: Final = 0.1
"""Between two lines about the advance of the same work."""

_USUAL_SIZE: Final = 80, 24

_TEXT_CHARACTERS: Final = 600
"""Of a message, so that its line is written at once: a pipe that is ready takes 4096 bytes whole."""

_PATIENCE_MS: Final = 1000
"""How long a reader who does not read may hold up a line that matters."""

_LABELS: Final = {
    "apply": "applying the delta",
    "copy": "copying objects",
    "export": "exporting files",
    "files": "files",
    "fsck": "checking",
    "mark": "looking for what is in use",
    "metadata": "metadata",
    "refs": "following names",
    "scan": "scanning",
    "sweep": "removing objects",
    "tree": "reading the tree",
    "trees": "looking into trees",
    "verify": "verifying stored objects",
}
"""What work is called where people read it."""


class _Work:
    """Something that goes on.

    Attributes:
        label: What it is called.
        total: How much there is to do, if known.
        unit: What is counted.
        begun_s: When it began, by the monotonic clock.
        shown_s: When it was last shown; at first, when it began.
        is_shown: Whether it was shown at all.
    """

    __slots__ = ("begun_s", "is_shown", "label", "shown_s", "total", "unit")

    def __init__(self, event: Started) -> None:
        self.label = _LABELS.get(event.id, printable(event.id))
        self.total = event.total
        self.unit = event.unit
        self.begun_s = self.shown_s = time.monotonic()
        self.is_shown = False


class Lines:
    """A line every few seconds, for logs and for terminals that can do no more; none for messages."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """Show nothing yet.

        Args:
            write: Prints a line.
        """
        self._write = write
        self._works: dict[str, _Work] = {}

    def __call__(self, event: Event, /) -> None:
        """Print a line if it is time for one."""
        match event:
            case Started():
                self._works[event.id] = _Work(event)
            case Advanced():
                self._advance(event)
            case Done():
                work = self._works.pop(event.id, None)
                if work is not None and work.is_shown:
                    spent = _duration(time.monotonic() - work.begun_s)
                    self._write(f"{work.label}: {_amount(event.done, work.unit)}, done in {spent}")
            case Message() | Skipped() | Waiting():
                pass

    def _advance(self, event: Advanced) -> None:
        work = self._works.get(event.id)
        now = time.monotonic()
        if work is None or now - work.shown_s < _LINE_INTERVAL_S:
            return
        work.shown_s = now
        work.is_shown = True
        work.total = event.total
        self._write(f"{work.label}: {_describe(event, work, now - work.begun_s)}")


def _describe(event: Advanced, work: _Work, spent_s: float) -> str:
    parts = [_amount(event.done, work.unit)]
    if event.total:
        parts[0] += f" of {_amount(event.total, work.unit)} ({100 * event.done // event.total} %)"
    if event.size_bytes is not None:
        parts.append(_amount(event.size_bytes, Unit.BYTES))
    rate = event.done / spent_s
    parts.append(f"{_amount(int(rate), work.unit)}/s")
    if event.total and rate:
        parts.append(f"{_duration(max(0, event.total - event.done) / rate)} left")
    return ", ".join(parts)


def _amount(number: float, unit: Unit) -> str:
    if unit is Unit.ITEMS:
        return f"{number:,}"
    for prefix in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g} {prefix}B"
        number /= 1000
    return f"{number:.3g} TB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Bars:
    """A bar for each work that goes on, at the bottom of the terminal."""

    def __init__(self, shows: Callable[[Message], bool]) -> None:
        """Draw nothing yet.

        Args:
            shows: Returns whether to print a message.
        """
        self._shows = shows
        self._works: dict[str, _Work] = {}
        self._bars: dict[str, tqdm[NoReturn]] = {}

    def __call__(self, event: Event, /) -> None:
        """Draw, if something is to be seen of the event."""
        match event:
            case Message(text=text):
                if self._shows(event):
                    self._print(f"cfsctl: {text}")
            case Started():
                self._works[event.id] = _Work(event)
            case Advanced():
                self._advance(event)
            case Done():
                self._works.pop(event.id, None)
                bar = self._bars.pop(event.id, None)
                if bar is not None:
                    bar.close()
            case Skipped() | Waiting():
                pass

    def close(self) -> None:
        """Remove all bars; works that have not ended, ended by an error."""
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()
        self._works.clear()

    def _advance(self, event: Advanced) -> None:
        work = self._works.get(event.id)
        if work is None:
            return
        bar = self._bars.get(event.id)
        if bar is None:
            if time.monotonic() - work.begun_s < _BAR_DELAY_S:
                return
            bar = self._bars[event.id] = self._make_bar(work, event)
        bar.total = event.total
        if event.size_bytes is not None:
            bar.set_postfix_str(_amount(event.size_bytes, Unit.BYTES), refresh=False)
        bar.update(event.done - bar.n)

    def _make_bar(self, work: _Work, event: Advanced) -> tqdm[NoReturn]:
        from tqdm import tqdm  # only where a bar is drawn

        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        tqdm.monitor_interval = 0  # no thread: this process may fork
        tqdm.set_lock(threading.RLock())  # the usual one is shared with processes that never draw
        bar = tqdm(
            desc=work.label,
            total=event.total,
            unit="B" if work.unit is Unit.BYTES else "",
            unit_scale=work.unit is Unit.BYTES,
            file=sys.stderr,
            leave=False,
            # Some terminals do not say how large they are.
            dynamic_ncols=bool(columns),
            ncols=None if columns else _USUAL_SIZE[0],
            nrows=None if columns else _USUAL_SIZE[1],
            position=len(self._bars),
        )
        bar.start_t -= time.monotonic() - work.begun_s
        return bar

    def _print(self, text: str) -> None:
        if not self._bars:
            tell(text)
            return
        line = f"{STAMPS.before(Level.NOTICE)}{printable(shorten(text))}"
        next(iter(self._bars.values())).write(line, file=sys.stderr)


class JsonLines:
    """Each event as one JSON object in a line; the schema is progress.json.

    A reader who goes away is not missed. For one who does not keep up, lines about an advance are left
    out; for the others the work waits a second at most.
    """

    def __init__(self, fd: int) -> None:
        """Write nothing yet; the descriptor is borrowed."""
        self._fd = fd
        self._prefix = f"<{Level.INFO.value}>".encode() if fd == sys.stderr.fileno() and is_journal() else b""
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._due_s: dict[str, float] = {}
        self._is_open = True

    def __call__(self, event: Event, /) -> None:
        """Write the event, unless the same work was written about just now."""
        if not self._is_open:
            return
        if isinstance(event, Advanced):
            now = time.monotonic()
            if now < self._due_s.get(event.id, 0):
                return
            self._due_s[event.id] = now + _JSON_INTERVAL_S
            self._write(event, 0)
        else:
            self._write(event, _PATIENCE_MS)

    def _write(self, event: Event, patience_ms: int) -> None:
        document = {
            "schema_version": SCHEMA_VERSION,
            "event": type(event).__name__.lower(),
            **event._asdict(),
        }
        match event:
            case Started(unit=unit):
                document["unit"] = unit.value
            case Message(text=text):
                del document["is_warning"]
                document |= {"level": "warning" if event.is_warning else "notice"}
                document["text"] = text[:_TEXT_CHARACTERS]
            case _:
                pass
        line = self._prefix + json.dumps(document).encode() + b"\n"
        try:
            if self._poll.poll(patience_ms):
                os.write(self._fd, line)
        except OSError:
            self._is_open = False
