"""Groups of options: what belongs together reaches a command as one object, checked before it runs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import click

    Decorator = Callable[["Callable[..., object]"], "Callable[..., object]"]

F = TypeVar("F", bound="Callable[..., object]")


def option_group(
    name: str, build: Callable[..., object], decorators: Sequence[Decorator]
) -> Callable[[F], F]:
    """Return what adds parameters to a command, and hands them to it as one argument.

    Args:
        name: The argument.
        build: Makes its value of the parameters, which it takes by keyword; raises `click.UsageError` if they
            do not go together. Called before the command.
        decorators: Add the parameters, the first one last in the help.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*positional: object, **arguments: object) -> object:
            own = {key: arguments.pop(key) for key in names}
            return function(*positional, **{name: build(**own)}, **arguments)

        before = _names(call)
        grouped: Callable[..., object] = call
        for add in decorators:
            grouped = add(grouped)
        names = _names(grouped) - before
        return cast("F", grouped)  # called as before, with other keywords

    return decorate


def _names(function: Callable[..., object]) -> set[str]:
    """Return the names of the parameters that a function has been given."""
    parameters: list[click.Parameter] = getattr(function, "__click_params__", [])
    return {str(parameter.name) for parameter in parameters}
