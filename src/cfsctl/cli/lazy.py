"""Command groups that import their commands on use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from cfsctl.cli.configuration import ConfiguredContext
from cfsctl.cli.errors import STYLE
from cfsctl.cli.help import write_commands, write_examples, write_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cfsctl.cli.catalog import Catalog

_OTHERS: Final = "Other commands"


class UnknownCommandError(click.UsageError):
    """An unknown command.

    Attributes:
        possibilities: Commands that may have been meant, as they are written after the program's name.
    """

    def __init__(self, name: str, context: click.Context, possibilities: Iterable[str]) -> None:
        """Take the name, and what may have been meant."""
        super().__init__(f"No such command '{name}'.", context)
        self.possibilities = list(possibilities)


class MissingCommandError(click.UsageError):
    """A group without a command behind it."""

    def __init__(self, context: click.Context) -> None:
        """Take the context of the group."""
        super().__init__(f"{context.command_path} needs a command", context)


class LazyGroup(click.Group):
    """A group that imports the module of a command only when the command runs or is described.

    Importing every command would take longer than most of them run.
    """

    context_class = ConfiguredContext

    def __init__(
        self,
        *args: object,
        package: str,
        modules: Mapping[str, str],
        catalog: Catalog | None = None,
        **kwargs: object,
    ) -> None:
        """Take the names of the commands.

        Args:
            *args: For `click.Group`.
            package: Package that holds the modules.
            modules: Command name to module name below `package`; the module's `command` is the command.
                Several names may lead to one module: all but the command's own name are aliases.
            catalog: Headings of the help, and what the commands below each do.
            **kwargs: For `click.Group`.
        """
        # A group without a command is an error of ours, since versions of click differ in what they do.
        settings = {"invoke_without_command": True, "subcommand_metavar": "COMMAND [ARGS]...", **kwargs}
        super().__init__(*args, **settings)  # type: ignore[arg-type]  # passed through as click gave them
        self._package = package
        self._modules = dict(modules)
        self._catalog = catalog or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every name, without aliases, in alphabetical order."""
        names = set(super().list_commands(ctx))
        first_of_module: dict[str, str] = {}
        for name, module in self._modules.items():
            if module not in first_of_module or name.replace("-", "_") == module.rpartition(".")[2]:
                first_of_module[module] = name
        return sorted(names | set(first_of_module.values()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command called `cmd_name`, importing its module if need be."""
        module = self._modules.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        command = import_module(f"{self._package}.{module}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"{self._package}.{module}.command is not a click command")
        command.short_help = self._summaries().get(cmd_name, command.short_help)
        return command

    def knows(self, name: str) -> bool:
        """Return whether there is a command of this name, importing nothing."""
        return name in self._modules or name in self.commands

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments begin with, or say which one might have been meant."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and not self.knows(name):
            from cfsctl.cli.suggestions import suggest_commands  # only for those who mistype

            raise UnknownCommandError(name, ctx, suggest_commands(name, ctx))
        STYLE.command = name
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - whatever the command returns
        """Run the command.

        Raises:
            MissingCommandError: The arguments name none.
        """
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            raise MissingCommandError(ctx)
        return result

    def _summaries(self) -> dict[str, str]:
        return {name: text for commands in self._catalog.values() for name, text in commands.items()}

    def iter_groups(self, ctx: click.Context) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """Yield each heading with the names of its commands and what they do."""
        left = dict.fromkeys(self.list_commands(ctx))
        for title, commands in self._catalog.items():
            known = [(name, text) for name, text in commands.items() if name in left]
            for name, _ in known:
                del left[name]
            yield title, known
        rest = [(name, self.get_command(ctx, name)) for name in left]
        shown = [(name, found.get_short_help_str(60)) for name, found in rest if found and not found.hidden]
        if shown:
            yield _OTHERS, shown

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, and then the options, which fewer readers look for."""
        write_commands(formatter, list(self.iter_groups(ctx)))
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, and how to learn more."""
        write_examples(ctx, formatter)
        with formatter.indentation():
            formatter.write(f"\nRun '{ctx.command_path} COMMAND --help' for the options of a command.\n")
