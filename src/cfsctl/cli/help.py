"""Help texts: options in sections, commands in groups, examples, and lines that fit the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import click

from cfsctl.cli.configuration import ConfiguredContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

F = TypeVar("F", bound="Callable[..., object]")

OUTPUT: Final = "Output"
SOURCE: Final = "Source"
TRUST: Final = "Trust"
CONNECTION: Final = "Connection"

GENERAL: Final = "Options"

_ORDER: Final = (GENERAL, SOURCE, TRUST, CONNECTION)
"""Sections in the order of the help; the output is last, and others stand before it."""

HELP_WIDTH: Final = 120
"""Help texts get no wider than this, however wide the terminal is."""

CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH}
"""For groups; their commands inherit it."""


def section(title: str, *decorators: Callable[..., Callable[..., object]]) -> Callable[[F], F]:
    """Return what adds options to a command, in this order and in a section of its help."""

    def decorate(function: F) -> F:
        before = len(parameters_of(function))
        for add in reversed(decorators):
            add(function)
        assign_section(parameters_of(function)[before:], title)
        return function

    return decorate


def assign_section(parameters: Iterable[click.Parameter], title: str) -> None:
    """Put options into a section, unless they are in one."""
    for parameter in parameters:
        if isinstance(parameter, click.Option) and not hasattr(parameter, "section"):
            parameter.section = title  # type: ignore[attr-defined]  # click's class has no place for it


def parameters_of(function: Callable[..., object]) -> list[click.Parameter]:
    """Return the parameters that decorators have added so far, the last one first."""
    return getattr(function, "__click_params__", [])


def iter_option_sections(
    command: click.Command, context: click.Context
) -> list[tuple[str, list[click.Option]]]:
    """Return the visible options by section, in the order of the help."""
    found: dict[str, list[click.Option]] = {}
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and not parameter.hidden:
            found.setdefault(getattr(parameter, "section", GENERAL), []).append(parameter)
    return [(title, found[title]) for title in sorted(found, key=_place_of)]


def _place_of(title: str) -> int:
    if title == OUTPUT:
        return len(_ORDER) + 1
    return _ORDER.index(title) if title in _ORDER else len(_ORDER)


def write_options(command: click.Command, context: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of a command, by section."""
    for title, options in iter_option_sections(command, context):
        heading = title if title == GENERAL else f"{title} options"
        records = [record for option in options if (record := option.get_help_record(context)) is not None]
        with formatter.section(heading):
            formatter.write_dl(records)


def write_examples(context: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the examples of a command, if it has any."""
    from cfsctl.cli.examples import EXAMPLES  # for help only

    lines = EXAMPLES.get(context.command_path.partition(" ")[2], ())
    if lines:
        with formatter.section("Examples"):
            for line in lines:
                formatter.write(f"{' ' * formatter.current_indent}{line}".rstrip() + "\n")


class Command(click.Command):
    """A command whose help has its options in sections, and examples."""

    context_class = ConfiguredContext

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_examples(ctx, formatter)
        super().format_epilog(ctx, formatter)


def write_commands(
    formatter: click.HelpFormatter, groups: Sequence[tuple[str, Sequence[tuple[str, str]]]]
) -> None:
    """Write names of commands and what they do, a line each, all in the same columns."""
    width = max((len(name) for _, commands in groups for name, _ in commands), default=0)
    for title, commands in groups:
        with formatter.section(title):
            formatter.write_dl([(name.ljust(width), summary) for name, summary in commands])
