"""Options that say how long to wait for a server, and how often to ask again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from cfsctl.cli.options.common import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., object]], Callable[..., object]]

_MAX_RETRIES: Final = 1000


def _parse_patience(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Return a duration that is not 0."""
    seconds = parse_duration(context, parameter, value)
    if seconds == 0:
        raise click.BadParameter(f"expected more than 0, found {value!r}")
    return seconds


PATIENCE_OPTIONS: Final[tuple[Decorator, ...]] = (
    click.option(
        "--retries",
        metavar="N",
        type=click.IntRange(0, _MAX_RETRIES),
        help="How often to retry after a temporary failure; the default is 4, or 1 after a timeout.",
    ),
    click.option(
        "--stall-timeout",
        "stall_timeout_s",
        metavar="DURATION",
        callback=_parse_patience,
        help="Give up on a request when nothing has come from the server for this time (30, 30s, 5m); the "
        "default is 30s.",
    ),
    click.option(
        "--connect-timeout",
        "connect_timeout_s",
        metavar="DURATION",
        callback=_parse_patience,
        help="Time for a connection to a server, TLS included; the default is 30s.",
    ),
)
"""Decorators that add the options, the first one last in the help."""
