"""Where the storage is: ``storage.conf``, the environment, and the storage that a reference names.

Format: containers-storage.conf(5). As for podman, the first of these that exists is read: the file named by
CONTAINERS_STORAGE_CONF; for root /etc/containers/storage.conf, else that below /usr/share; for other users
~/.config/containers/storage.conf, and of the system's file the driver, the stores with more images and
`rootless_storage_path`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import FormatError
from cfsctl.json_fields import JsonError, parse_toml
from cfsctl.oci.reference import ImageReferenceError
from cfsctl.oci.registry.files import read_config_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cfsctl.json_fields import JsonFields

_SYSTEM_FILES: Final = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
_SYSTEM_ROOT: Final = "/var/lib/containers/storage"
_MORE_IMAGES: Final = frozenset({"additionalimagestore", "imagestore"})
_VARIABLE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_DRIVER: Final = re.compile(r"[a-z0-9-]+")


class StorageConfigError(FormatError):
    """A ``storage.conf`` that is not valid."""


class StoreLocation(NamedTuple):
    """A directory that may have images.

    Attributes:
        path: The directory.
        driver: The driver that its layers are of, or None for any.
    """

    path: str
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class _Config:
    """What a file says."""

    driver: str | None = None
    root: str | None = None
    rootless_root: str | None = None
    more_images: tuple[str, ...] = ()


class StorageReference(NamedTuple):
    """What follows ``containers-storage:``.

    Attributes:
        name: The image's name or ID.
        stores: Where to look, if the reference says so; else empty.
    """

    name: str
    stores: tuple[StoreLocation, ...] = ()


def parse_storage_reference(place: str) -> StorageReference:
    """Return what follows the transport: ``[[DRIVER@]ROOT[+RUNROOT][:OPTIONS]]NAME``, or just NAME.

    Raises:
        ImageReferenceError: It names nothing.
    """
    if not place.startswith("["):
        return StorageReference(place)
    specifier, bracket, name = place[1:].partition("]")
    if not bracket or not name:
        raise ImageReferenceError(
            f"containers-storage:{place}: expected [DRIVER@ROOT+RUNROOT]NAME, found no name after the bracket"
        )
    driver, at, rest = specifier.partition("@")
    if not at:
        driver, rest = "", specifier
    paths, _, options = rest.partition(":")
    root = paths.partition("+")[0]
    if not root.startswith("/") or (driver and not _DRIVER.fullmatch(driver)):
        raise ImageReferenceError(
            f"containers-storage:{place}: expected [DRIVER@ROOT+RUNROOT]NAME with an absolute ROOT,"
            f" found [{specifier}]"
        )
    more = _parse_options(options.split(","))
    return StorageReference(name, tuple(StoreLocation(path, driver or None) for path in (root, *more)))


def find_stores(environment: Mapping[str, str], user_id: int) -> tuple[StoreLocation, ...]:
    """Return the directories that may have images of a user, in the order in which they are asked.

    Args:
        environment: Variables: CONTAINERS_STORAGE_CONF, CONTAINERS_STORAGE_ROOT, STORAGE_DRIVER,
            STORAGE_OPTS, HOME and XDG_DATA_HOME, XDG_CONFIG_HOME.
        user_id: The effective user.

    Raises:
        StorageConfigError: A file is not valid.
        OSError: A file cannot be read.
    """
    config = _read_config(environment, user_id)
    driver = environment.get("STORAGE_DRIVER") or config.driver
    options = environment.get("STORAGE_OPTS")
    more = config.more_images if options is None else _parse_options(options.split(","))
    roots = [
        environment.get("CONTAINERS_STORAGE_ROOT"),
        config.root or _default_root(environment, user_id),
        None if user_id == 0 else _SYSTEM_ROOT,
    ]
    places = dict.fromkeys(path for path in (*roots, *more) if path)
    return tuple(StoreLocation(path, driver) for path in places)


def _default_root(environment: Mapping[str, str], user_id: int) -> str | None:
    if user_id == 0:
        return _SYSTEM_ROOT
    home = environment.get("HOME")
    data = environment.get("XDG_DATA_HOME") or (f"{home}/.local/share" if home else None)
    return f"{data}/containers/storage" if data else None


def _read_config(environment: Mapping[str, str], user_id: int) -> _Config:
    chosen = environment.get("CONTAINERS_STORAGE_CONF")
    if chosen:
        return _read_file(chosen, environment, user_id) or _Config()
    system = next(filter(None, (_read_file(path, environment, user_id) for path in _SYSTEM_FILES)), _Config())
    if user_id == 0:
        return system
    home = environment.get("HOME")
    directory = environment.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else None)
    own = None
    if directory:
        own = _read_file(f"{directory}/containers/storage.conf", environment, user_id)
    own = own or _Config()
    return _Config(
        own.driver or system.driver,
        own.root or own.rootless_root or system.rootless_root,
        None,
        own.more_images or system.more_images,
    )


def _read_file(path: str, environment: Mapping[str, str], user_id: int) -> _Config | None:
    data = read_config_file(path, StorageConfigError)
    if data is None:
        return None
    variables = {"UID": str(user_id), **environment}
    try:
        fields = parse_toml(data, path).find_fields("storage")
        return _Config() if fields is None else _parse_config(fields, variables)
    except JsonError as error:
        raise StorageConfigError(str(error), field=error.field) from error


def _parse_config(fields: JsonFields, variables: Mapping[str, str]) -> _Config:
    options = fields.find_fields("options")
    more: list[str] = []
    if options is not None:
        if options.find_list("additionalimagestores") is not None:
            more = options.get_list_of_strings("additionalimagestores")
        for driver in ("overlay", "vfs", "btrfs"):
            found = options.find_fields(driver) if isinstance(options.to_dict().get(driver), dict) else None
            store = None if found is None else found.find_string("imagestore")
            more += [store] if store else []
    return _Config(
        fields.find_string("driver") or None,
        _expand(fields.find_string("graphroot"), variables),
        _expand(fields.find_string("rootless_storage_path"), variables),
        tuple(filter(None, (_expand(path, variables) for path in more))),
    )


def _expand(path: str | None, variables: Mapping[str, str]) -> str | None:
    """Return a path with its variables replaced, as the storage's own library does; None if it is empty."""
    if not path:
        return None
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], ""), path)


def _parse_options(options: Iterable[str]) -> tuple[str, ...]:
    """Return the stores with more images that options name, for example ``overlay.imagestore=/x``."""
    found = []
    for option in options:
        key, _, value = option.partition("=")
        if key.strip().rpartition(".")[2] in _MORE_IMAGES and value.strip():
            found.append(os.path.normpath(value.strip()))
    return tuple(found)
