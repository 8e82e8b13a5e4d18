"""Groups of options: what belongs together reaches a command as one object, checked before it runs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeVar, cast

from cfsctl.cli.help import assign_section, parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Decorator = Callable[["Callable[..., object]"], "Callable[..., object]"]

F = TypeVar("F", bound="Callable[..., object]")


def option_group(
    name: str, build: Callable[..., object], decorators: Sequence[Decorator], title: str | None = None
) -> Callable[[F], F]:
    """Return what adds parameters to a command, and hands them to it as one argument.

    Args:
        name: The argument.
        build: Makes its value of the parameters, which it takes by keyword; raises `click.UsageError` if they
            do not go together. Called before the command.
        decorators: Add the parameters, the first one last in the help.
        title: Section of the help for those that are in no other; None is the first one.
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
        if title is not None:
            own = [one for one in parameters_of(grouped) if one.name in names]
            assign_section(own, title)
        return cast("F", grouped)  # called as before, with other keywords

    return decorate


def _names(function: Callable[..., object]) -> set[str]:
    """Return the names of the parameters that a function has been given."""
    return {str(parameter.name) for parameter in parameters_of(function)}
