"""Configuration files: defaults for options, in TOML.

Keys are the long names of options, tables the names of commands:

    repo = "/srv/images"
    lock-timeout = "10m"

    [ostree.pull]
    retries = 5

The command line and the environment override the files, and the user's file that of the system. A file is
only read if nobody but root and this user can have written it, since it can name the repository that a
command of root changes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click

from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM_FILE: Final = "/etc/cfsctl/config.toml"
_USER_FILE: Final = "cfsctl/config.toml"
_MAX_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 3

_NEVER: Final = frozenset({"config", "help", "version", "json", "debug"})
"""Options that no file sets: they would change what scripts rely on, or end every command."""


class ConfigurationError(CfsError):
    """A configuration file that cannot be used."""

    exit_code = ExitCode.USAGE


class ConfiguredContext(click.Context):
    """A context in which defaults may come from a configuration file, by the long names of options."""

    def lookup_default(self, name: str, call: bool = True) -> Any:  # noqa: ANN401, FBT001, FBT002 - as click has it
        """Return the default for a parameter from the files, or None."""
        del call
        for key in self._keys_of(name):
            if self.default_map and key in self.default_map:
                return self.default_map[key]
        return None

    def _keys_of(self, name: str) -> Iterator[str]:
        for parameter in self.command.params:
            if parameter.name == name and isinstance(parameter, click.Option):
                yield from (option[2:] for option in parameter.opts if option.startswith("--"))


def load_configuration(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Read the files and have click take defaults from them.

    Args:
        context: The context of the program.
        value: The only file to read; empty for none, None for those of the system and the user.

    Raises:
        ConfigurationError: A file cannot be read, or has something in it that is not an option.
        OSError: The same.
    """
    if context.resilient_parsing:
        return value
    paths = [SYSTEM_FILE, *_find_user_file()] if value is None else [value] if value else []
    merged: dict[str, object] = {}
    for path in paths:
        if value is not None or os.path.exists(path):
            merged = _merge(merged, _read(path, context.command))
    context.default_map = merged or None
    return value


def _find_user_file() -> list[str]:
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    if not os.path.isabs(base):  # as the specification of these directories has it
        home = os.environ.get("HOME") or ""
        if not os.path.isabs(home):
            return []
        base = os.path.join(home, ".config")
    path = os.path.join(base, _USER_FILE)
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return []
    # With sudo, HOME may be that of the user who called it.
    return [path] if owner in {0, os.geteuid()} else []


def _read(path: str, command: click.Command) -> dict[str, object]:
    from cfsctl.json_fields import JsonError, parse_toml
    from cfsctl.linux.files import open_regular, read_all
    from cfsctl.linux.private_files import check_private_file

    fd = open_regular(-100, os.path.realpath(path))
    try:
        check_private_file(fd, path)
        data = read_all(fd, _MAX_BYTES)
    finally:
        os.close(fd)
    try:
        document = parse_toml(data, path).to_dict()
    except JsonError as error:
        raise ConfigurationError(str(error)) from error
    _check(path, "", document, command)
    return document


def _check(path: str, where: str, table: Mapping[str, object], command: click.Command) -> None:
    """Refuse keys that are not options, and tables that are not commands."""
    if where.count(".") >= _MAX_DEPTH:
        raise ConfigurationError(f"{path}: {where}: tables nested too deeply")
    options = {
        option[2:]
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    }
    for key, value in table.items():
        name = f"{where}.{key}" if where else key
        if isinstance(value, dict):
            inner = _find_command(command, key)
            if inner is None:
                raise ConfigurationError(f"{path}: [{name}]: no such command")
            _check(path, name, value, inner)
        elif key in _NEVER or key not in options:
            raise ConfigurationError(f"{path}: {name}: no such option, or not one that a file can set")
        elif not isinstance(value, str | int | float | list):
            raise ConfigurationError(f"{path}: {name}: expected text, a number, true, false or a list")


def _find_command(command: click.Command, name: str) -> click.Command | None:
    if not isinstance(command, click.Group):
        return None
    return command.get_command(click.Context(command, info_name=command.name), name)


def _merge(below: dict[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """Return both, where the second has precedence; tables are merged."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]  # both are tables
    return merged
