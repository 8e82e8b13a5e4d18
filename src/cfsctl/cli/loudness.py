"""How much the program says on standard error: ``-q``, ``-v`` and ``--log-level``, and what `logging` has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from cfsctl import logs
from cfsctl.cli.output import STAMPS, Level, tell_lines

if TYPE_CHECKING:
    import logging

LEVELS: Final = ("error", "warning", "notice", "info", "debug", "trace")
"""Names of the levels, each with all before it."""

if TYPE_CHECKING:
    _CountType = click.ParamType[int]
else:
    _CountType = click.ParamType

_BY_COUNT: Final = (Level.NOTICE, Level.INFO, Level.DEBUG, Level.TRACE)
"""What ``-v`` means when it is said so often."""

_TO_LOGGING: Final = {
    Level.ERROR: 40,
    Level.WARNING: 30,
    Level.NOTICE: 30,
    Level.INFO: 20,
    Level.DEBUG: 10,
    Level.TRACE: logs.TRACE,
}


class Count(_CountType):
    """How often a flag was given; in the environment and in files a number, or a word for yes or no."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - as click has it
        """Return the number."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        if text.isascii() and text.isdigit():
            return int(text[:2])
        return int(click.BOOL.convert(text, param, ctx))


def choose_level(context: click.Context, *, quiet: bool, verbose: int, log_level: str | None) -> Level:
    """Return up to which level messages are shown; what the command line says counts more than the rest.

    Raises:
        click.UsageError: The command line says several things.
    """
    wishes = {
        "quiet": Level.ERROR if quiet else None,
        "verbose": _BY_COUNT[min(verbose, len(_BY_COUNT) - 1)] if verbose > 0 else None,
        "log_level": None if log_level is None else Level[log_level.upper()],
    }
    said = [
        name
        for name, wish in wishes.items()
        if wish is not None and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if len(said) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in said[:2])
        raise click.UsageError(f"{first} and {second} cannot be used together")
    if said:
        return wishes[said[0]] or Level.NOTICE
    return wishes["log_level"] or wishes["verbose"] or wishes["quiet"] or Level.NOTICE


def listen(level: Level, *, with_time: bool) -> None:
    """Print what the library logs up to this level; what it logs at all is prepared for only if it does."""
    STAMPS.with_time = with_time
    logs.prepare(lambda: _add_handler(level))
    if level >= Level.INFO:
        logs.get_logger(logs.ROOT)


def _add_handler(level: Level) -> None:
    import logging  # takes milliseconds

    class Handler(logging.Handler):
        """Prints records as all other messages are printed."""

        def emit(self, record: logging.LogRecord) -> None:
            lines = self.format(record).split("\n")
            tell_lines([f"cfsctl: {line}" for line in lines], _level_of(record))

    root = logging.getLogger(logs.ROOT)
    for old in list(root.handlers):
        if type(old).__name__ == Handler.__name__ and type(old).__module__ == __name__:
            root.removeHandler(old)  # of a command that ran before in this process
    root.addHandler(Handler())
    root.setLevel(_TO_LOGGING[level])
    root.propagate = False


def _level_of(record: logging.LogRecord) -> Level:
    for level, number in _TO_LOGGING.items():
        if record.levelno >= number:
            return level
    return Level.TRACE
