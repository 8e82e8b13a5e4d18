"""Options that several commands share."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from cfsctl.cli.context import Session
from cfsctl.cli.errors import STYLE
from cfsctl.cli.help import OUTPUT, section
from cfsctl.digest import Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

F = TypeVar("F", bound="Callable[..., object]")

XATTR_FILTERS = ("allowlist-only", "keep-user-xattrs")


def _parse_algorithm(_context: click.Context, _parameter: click.Parameter, value: str) -> Algorithm:
    """Return the algorithm that meta.json spells like `value`."""
    from cfsctl.library.setup import parse_algorithm  # most commands have no such option

    try:
        return parse_algorithm(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _parse_version(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> FormatVersion | None:
    return None if value is None else FormatVersion(int(value))


def _check_xattr_filter(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value not in XATTR_FILTERS:
        expected = " or ".join(f'"{name}"' for name in XATTR_FILTERS)
        raise click.BadParameter(f'invalid xattr filtering mode "{value}" (expected {expected})')
    return value


_SECONDS_OF_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MAX_DURATION_S = 1e10
"""More than three centuries."""


def parse_duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Return the seconds that a time span stands for: ``90``, ``90s``, ``15m``, ``2h``, ``7d``, ``1w``."""
    if value is None:
        return None
    unit = _SECONDS_OF_UNIT.get(value[-1:])
    try:
        seconds = float(value if unit is None else value[:-1]) * (unit or 1)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_DURATION_S:
        raise click.BadParameter(f"{value!r} is not a valid duration (expected a number and s, m, h, d or w)")
    return seconds


def check_writable_fd(_context: click.Context, _parameter: click.Parameter, value: int | None) -> int | None:
    """Return a descriptor that is open for writing, which programs that are started do not get."""
    if value is None:
        return None
    try:
        is_writable = fcntl.fcntl(value, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except (OSError, OverflowError):
        is_writable = False
    if not is_writable:
        raise click.BadParameter(f"file descriptor {value} is not open for writing")
    if value > _STDERR:
        os.set_inheritable(value, False)  # noqa: FBT003 - has no keywords
    return value


_STDERR = 2


def algorithm_option(function: F) -> F:
    """Add ``--algorithm``, spelt as in meta.json."""
    return click.option(
        "--algorithm",
        callback=_parse_algorithm,
        default=Algorithm.SHA512.label,
        help="fs-verity algorithm: fsverity-sha512-12 (the default) or fsverity-sha256-12.",
    )(function)


def erofs_version_option(text: str, envvar: str | None = None) -> Callable[[F], F]:
    """Add ``--erofs-version`` with this help text; `envvar` can set it too."""
    versions = [str(version.value) for version in FormatVersion]
    return click.option(
        "--erofs-version", type=click.Choice(versions), callback=_parse_version, envvar=envvar, help=text
    )


if TYPE_CHECKING:
    _TextType = click.ParamType[str]
else:  # click has it generic only in newer releases than the oldest that we work with
    _TextType = click.ParamType


class Text(_TextType):
    """Text, which is UTF-8 in any locale; other parameters are names or paths, and those are bytes."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text.

        Raises:
            click.BadParameter: It has bytes in it that are not UTF-8.
        """
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"expected UTF-8, found '{printable(value)}'", param, ctx)
        return value


TEXT = Text()


class ImageReference(Text):
    """An OCI image elsewhere: a name in a registry, which is text, or a path with a prefix."""

    name = "reference"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the reference.

        Raises:
            click.BadParameter: A name has bytes in it that are not UTF-8.
        """
        is_path = value.startswith(("oci:", "oci-archive:", "dir:", "docker-archive:"))
        return value if is_path else super().convert(value, param, ctx)


IMAGE_REFERENCE = ImageReference()


class OnceOption(click.Option):
    """An option with a value that may be given once, since of two values one would be ignored."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:  # noqa: ANN401 - private in click
        """Collect every value that is given."""
        self.multiple = True
        super().add_to_parser(parser, ctx)
        self.multiple = False

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Return the one value."""
        values = opts.get(self.name or "") or ()
        if len(values) > 1:
            raise click.BadParameter("given more than once", ctx, self)
        return super().consume_value(ctx, {self.name or "": values[0]} if values else {})


def tell_as_json(_context: click.Context, _parameter: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's
    """Report errors as JSON from now on if the flag is set."""
    STYLE.as_json = STYLE.as_json or value
    return value


def keep_tracebacks(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    """Show tracebacks from here on if the flag is set."""
    STYLE.with_traceback = STYLE.with_traceback or value


def json_option(text: str = "Print a JSON document.") -> Callable[[F], F]:
    """Add ``--json``, which before the command means the same."""
    option = click.option("--json", "as_json", is_flag=True, is_eager=True, callback=_want_json, help=text)
    return section(OUTPUT, option)


def asks_for_json(context: click.Context) -> bool:
    """Return whether ``--json`` stands behind the command, which is where the original has it.

    What the original prints there is printed as it does. With ``--json`` before the command, or in the
    environment, the same commands print documents like all others of this program.
    """
    return context.get_parameter_source("as_json") is ParameterSource.COMMANDLINE


def _want_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's
    session = context.find_object(Session)
    return tell_as_json(context, parameter, value or (session is not None and session.as_json))


def xattrs_option(function: F) -> F:
    """Add ``--xattrs``: which extended attributes stay."""
    return click.option(
        "--xattrs",
        metavar="MODE",
        callback=_check_xattr_filter,
        default=XATTR_FILTERS[0],
        help="Extended attributes to keep: allowlist-only (only security.capability; the default) "
        "or keep-user-xattrs.",
    )(function)


def xattr_names_option(function: F) -> F:
    """Add ``--ostree-xattr-names`` for commands that make images of commits."""
    return click.option(
        "--ostree-xattr-names",
        type=click.Choice(["stripped", "upstream"]),
        default="stripped",
        help="Names of extended attributes: without the NUL that ends them in a commit (the default), "
        "or with it, as composefs-rs writes them, for comparison.",
    )(function)
