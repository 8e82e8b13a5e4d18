"""Suggest what an unknown command or option may have been meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WORDS: Final = {
    "add": ("create-image", "remote add"),
    "check": ("fsck",),
    "checkout": ("extract", "mount"),
    "clean": ("gc",),
    "clone": ("copy", "ostree pull"),
    "cp": ("extract", "copy"),
    "create": ("create-image", "init"),
    "delete": ("untag", "ostree untag", "oci untag"),
    "du": ("stats", "report"),
    "expire": ("prune",),
    "forget": ("prune",),
    "import": ("create-image", "import-image"),
    "info": ("stats", "ostree inspect"),
    "list": ("images", "ostree images"),
    "refs": ("images", "ostree images"),
    "remove": ("untag", "ostree untag", "oci untag"),
    "repair": ("fsck --repair",),
    "restore": ("extract", "image rollback"),
    "rm": ("untag", "ostree untag", "oci untag"),
    "status": ("stats", "doctor"),
    "unmount": ("umount",),
    "version": ("--version",),
}
"""Commands that other tools have, and what does their job here."""


def suggest_commands(name: str, context: click.Context) -> list[str]:
    """Return what may have been meant by an unknown command, best first, as one types it.

    At the top level, that is what does the job of a command of this name in other tools, and a command of the
    same name in a group; else one that is spelt nearly so in this group.
    """
    from difflib import get_close_matches  # only for those who mistype

    root = context.find_root()
    paths = list(_WORDS.get(name, ())) if context.parent is None else []
    paths += [path for path in _iter_paths(root) if path.rpartition(" ")[2] == name and path not in paths]
    if paths:
        return [f"'{root.command_path} {path}'" for path in paths]
    group = context.command
    assert isinstance(group, click.Group)
    return get_close_matches(name, group.list_commands(context))


def _iter_paths(root: click.Context) -> Iterator[str]:
    """Yield every command as it is typed after the program's name."""
    group = root.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(root):
        command = group.get_command(root, name)
        yield name
        if isinstance(command, click.Group):
            yield from (f"{name} {below}" for below in command.list_commands(root))


def explain_misplaced_option(error: click.NoSuchOption, arguments: Sequence[str]) -> tuple[str, str] | None:
    """Return message and hint for an option that stands before or behind its place, or None for another.

    Args:
        error: Names the option, and the command that does not have it.
        arguments: What the program was called with.
    """
    context, name = error.ctx, error.option_name
    if context is None:
        return None
    root = context.find_root()
    if context is not root and (option := _find_option(root.command, name)):
        path = context.command_path.partition(" ")[2]
        usage = f"{root.command_path} {_describe(option, name)} {path} ..."
        return f"{name} is a global option and stands before the command", f"write it like this: {usage}"
    if context is root and (found := _find_owner(root, name, arguments)):
        path, option = found
        usage = f"{root.command_path} {path} {_describe(option, name)} ..."
        return f"{name} is an option of {path} and stands behind it", f"write it like this: {usage}"
    return None


def _find_option(command: click.Command, name: str) -> click.Option | None:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and name in (*parameter.opts, *parameter.secondary_opts):
            return parameter
    return None


def _describe(option: click.Option, name: str) -> str:
    """Return the option as it is written, with a word for its value."""
    if option.is_flag or option.count:
        return name
    value = option.metavar or (option.name or "value").rpartition("_")[2].upper()
    return f"{name} {value}"


def _find_owner(root: click.Context, name: str, arguments: Sequence[str]) -> tuple[str, click.Option] | None:
    """Return the command among the arguments that has this option, and the option."""
    context, path = root, ""
    for word in arguments:
        command = context.command
        if not isinstance(command, click.Group) or word not in command.list_commands(context):
            continue
        found = command.get_command(context, word)
        assert found is not None
        path = f"{path} {word}".strip()
        if option := _find_option(found, name):
            return path, option
        context = click.Context(found, info_name=word, parent=context)
    return None
