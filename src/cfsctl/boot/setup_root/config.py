"""The configuration file: how ``/etc``, ``/var`` and the root are mounted. No I/O.

Format: TOML, everything optional, unknown keys ignored.

    [root]
    transient = false       changes to the whole tree are lost at the next boot
    [etc]
    mount = "overlay"       none, bind, overlay or transient
    transient = false       the same as mount = "transient"
    [var]
    mount = "bind"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cfsctl.errors import FormatError

DEFAULT_PATH: Final = "/usr/lib/composefs/setup-root-conf.toml"
MAX_BYTES: Final = 1 << 20


class SetupConfigError(FormatError):
    """A configuration that cannot be used."""


class MountKind(Enum):
    """How a directory of the image becomes writable, or not."""

    NONE = "none"
    """It stays as it is in the image."""

    BIND = "bind"
    """The directory of the state takes its place."""

    OVERLAY = "overlay"
    """Changes go to the directory of the state."""

    TRANSIENT = "transient"
    """Changes go to memory."""

    @property
    def needs_state(self) -> bool:
        """Whether a directory of the state is used."""
        return self in {MountKind.BIND, MountKind.OVERLAY}


@dataclass(frozen=True, slots=True)
class SetupConfig:
    """How the root is set up.

    Attributes:
        etc: How ``/etc`` is mounted.
        var: How ``/var`` is mounted.
        is_root_transient: Whether changes to the whole tree go to memory.
    """

    etc: MountKind = MountKind.OVERLAY
    var: MountKind = MountKind.BIND
    is_root_transient: bool = False

    @property
    def needs_state(self) -> bool:
        """Whether a directory of the state is used."""
        return self.etc.needs_state or self.var.needs_state


def parse_config(content: bytes) -> SetupConfig:
    """Return the configuration that a file has.

    Raises:
        SetupConfigError: It is not TOML, or a value is of the wrong type.
    """
    if len(content) > MAX_BYTES:
        raise SetupConfigError(f"{len(content)} bytes; expected {MAX_BYTES} at most")
    try:
        document = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise SetupConfigError(f"not valid UTF-8 at byte {error.start}", offset=error.start) from error
    except tomllib.TOMLDecodeError as error:
        raise SetupConfigError(f"not valid TOML: {error}") from error
    except RecursionError:
        raise SetupConfigError("not valid TOML: nested too deeply") from None
    return SetupConfig(
        etc=_mount_kind(document, "etc", MountKind.OVERLAY),
        var=_mount_kind(document, "var", MountKind.BIND),
        is_root_transient=_flag(_table(document, "root"), "root"),
    )


def _table(document: dict[str, object], name: str) -> dict[str, object]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise SetupConfigError(f"{name}: expected a table, found {table!r}", field=name)
    return table


def _mount_kind(document: dict[str, object], name: str, default: MountKind) -> MountKind:
    table = _table(document, name)
    is_transient = _flag(table, name)
    value = table.get("mount")
    if value is None:
        return MountKind.TRANSIENT if is_transient else default
    try:
        return MountKind(value)
    except ValueError:
        known = ", ".join(kind.value for kind in MountKind)
        raise SetupConfigError(
            f"{name}.mount: expected one of {known}, found {value!r}", field=f"{name}.mount"
        ) from None


def _flag(table: dict[str, object], name: str) -> bool:
    value = table.get("transient", False)
    if not isinstance(value, bool):
        raise SetupConfigError(
            f"{name}.transient: expected true or false, found {value!r}", field=f"{name}.transient"
        )
    return value
