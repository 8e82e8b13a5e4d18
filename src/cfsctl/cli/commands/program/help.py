"""``cfsctl help``."""

from __future__ import annotations

import click

from cfsctl.cli.help import Command
from cfsctl.cli.output import print_block


@click.command("help", cls=Command)
@click.argument("command", nargs=-1)
@click.pass_context
def command(context: click.Context, *, command: tuple[str, ...]) -> None:
    """Print the help of COMMAND, or that of the program.

    COMMAND may have two words, such as `ostree pull`.
    """
    described = context.find_root()
    for word in command:
        described = _enter(described, word)
    print_block(described.get_help())


def _enter(context: click.Context, word: str) -> click.Context:
    """Return the context of a command of a group.

    Raises:
        click.UsageError: There is no such command.
    """
    from cfsctl.cli.lazy import UnknownCommandError  # this module is imported by it
    from cfsctl.cli.suggestions import suggest_commands  # only for those who mistype

    group = context.command
    if not isinstance(group, click.Group):
        raise click.UsageError(f"'{context.command_path}' has no commands, found '{word}'", context)
    found = group.get_command(context, word)
    if found is None:
        raise UnknownCommandError(word, context, suggest_commands(word, context))
    return click.Context(
        found,
        info_name=word,
        parent=context,
        help_option_names=context.help_option_names,
        max_content_width=context.max_content_width,
    )
