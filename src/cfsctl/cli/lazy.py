"""Command groups that import their commands on use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click

from cfsctl.cli.errors import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class UnknownCommandError(click.UsageError):
    """An unknown command.

    Attributes:
        possibilities: Commands with names of nearly that spelling.
    """

    def __init__(self, name: str, names: Iterable[str], context: click.Context) -> None:
        """Find similar names."""
        from difflib import get_close_matches  # noqa: PLC0415 - only for those who mistype

        super().__init__(f"No such command '{name}'.", context)
        self.possibilities = get_close_matches(name, list(names))


class LazyGroup(click.Group):
    """A group that imports the module of a command only when the command runs or is described.

    Importing every command would take longer than most of them run.
    """

    def __init__(self, *args: object, package: str, modules: Mapping[str, str], **kwargs: object) -> None:
        """Take the names of the commands.

        Args:
            *args: For `click.Group`.
            package: Package that holds the modules.
            modules: Command name to module name below `package`; the module's `command` is the command.
                Several names may lead to one module: all but the command's own name are aliases.
            **kwargs: For `click.Group`.
        """
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through as click gave them
        self._package = package
        self._modules = dict(modules)

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
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments begin with, or say which one might have been meant."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise UnknownCommandError(name, [*self._modules, *self.commands], ctx)
        STYLE.command = name
        return super().resolve_command(ctx, args)
