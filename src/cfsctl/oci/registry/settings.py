"""Where the configuration of registries is, and how their servers are reached."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cfsctl.http.fetcher import Limits, Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.http import Transport

_SYSTEM_CERTIFICATES: Final = ("/etc/containers/certs.d", "/etc/docker/certs.d")
_SYSTEM_REGISTRIES: Final = "/etc/containers/registries.conf"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How registries are accessed.

    Attributes:
        auth_files: Files with credentials, the first one counts most.
        registries_files: Files like ``registries.conf``, in the order in which they apply.
        certificate_directories: Directories like ``certs.d``, the first that has a server counts.
        certificate_directory: In place of all of them: the directory of one server; or None.
        verifies_tls: False lets every server do without a proof of who it is, and without TLS; None is what
            the configuration says of each.
        limits: How far to go.
        options: Proxies and authorities.
        transport: What fetches; None is the fastest that is installed.
        helper_path: Where credential helpers are looked for, as in PATH.
        environment: Variables that say where images of containers-storage are.
    """

    auth_files: tuple[str, ...] = ()
    registries_files: tuple[str, ...] = ()
    certificate_directories: tuple[str, ...] = ()
    certificate_directory: str | None = None
    verifies_tls: bool | None = None
    limits: Limits = field(default_factory=Limits)
    options: Options = field(default_factory=Options)
    transport: Transport | None = None
    helper_path: str = os.defpath
    environment: Mapping[str, str] = field(default_factory=dict)


def find_auth_files(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return where credentials may be, as podman, skopeo and docker have it."""
    chosen = environment.get("REGISTRY_AUTH_FILE")
    if chosen:
        return (chosen,)
    home = environment.get("HOME", "")
    runtime = environment.get("XDG_RUNTIME_DIR")
    config = environment.get("XDG_CONFIG_HOME") or _below(home, ".config")
    docker = environment.get("DOCKER_CONFIG") or _below(home, ".docker")
    found = (
        f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{os.getuid()}/auth.json",
        f"{config}/containers/auth.json" if config else "",
        f"{docker}/config.json" if docker else "",
    )
    return tuple(filter(None, found))


def find_registries_files(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the existing configuration files of registries: one, and the drop-in files.

    Raises:
        OSError: A directory of drop-in files cannot be read: what it blocks would be lost.
    """
    home = environment.get("HOME", "")
    config = environment.get("XDG_CONFIG_HOME") or _below(home, ".config")
    own = f"{config}/containers/registries.conf" if config else ""
    usual = own if own and os.path.exists(own) else _SYSTEM_REGISTRIES
    first = environment.get("CONTAINERS_REGISTRIES_CONF") or usual
    directories = [f"{_SYSTEM_REGISTRIES}.d", *([f"{own}.d"] if own else [])]
    return (first, *(path for directory in directories for path in _list_drop_ins(directory)))


def _list_drop_ins(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [f"{directory}/{name}" for name in names if name.endswith(".conf")]


def find_certificate_directories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the directories that may have certificates of servers."""
    home = environment.get("HOME", "")
    config = environment.get("XDG_CONFIG_HOME") or _below(home, ".config")
    own = (f"{config}/containers/certs.d",) if config else ()
    return (*own, *_SYSTEM_CERTIFICATES)


def _below(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else ""
