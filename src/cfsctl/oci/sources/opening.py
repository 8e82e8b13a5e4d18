"""Open the source that a reference names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.oci.reference import UnsupportedTransportError, parse_reference, split_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.oci.registry.settings import RegistrySettings
    from cfsctl.oci.source import ImageSource


def open_source(text: str, settings: RegistrySettings | None = None) -> ImageSource:
    """Open the source that a reference names.

    Args:
        text: The reference.
        settings: How registries are accessed; None is without credentials and configuration.

    Raises:
        ImageReferenceError: It names none.
        UnsupportedTransportError: It is of a transport that cannot be read from.
        ImageNotFoundError: There is nothing.
        FormatError: It is not valid.
    """
    reference = parse_reference(text)
    opener = _OPENERS.get(reference.transport)
    if opener is None:
        raise UnsupportedTransportError(
            f"{text}: images cannot be pulled by {reference.transport} yet",
            hint="copy it with `skopeo copy` to oci:DIRECTORY:TAG first",
        )
    return opener(reference.place, settings)


# One source is used, so that only its modules are imported.


def _open_registry(place: str, settings: RegistrySettings | None) -> ImageSource:
    from cfsctl.oci.registry.settings import RegistrySettings
    from cfsctl.oci.sources.registry import RegistrySource

    return RegistrySource(place, settings or RegistrySettings())


def _open_directory(place: str, _: RegistrySettings | None) -> ImageSource:
    from cfsctl.oci.sources.directory import DirectorySource

    return DirectorySource(place)


def _open_layout(place: str, _: RegistrySettings | None) -> ImageSource:
    from cfsctl.oci.sources.files import DirectoryFiles
    from cfsctl.oci.sources.layout import LayoutSource

    wanted = split_path(place)
    return LayoutSource("oci", DirectoryFiles(wanted.path), wanted)


def _open_archive(place: str, _: RegistrySettings | None) -> ImageSource:
    from cfsctl.oci.sources.archive import ArchiveFiles
    from cfsctl.oci.sources.layout import LayoutSource

    wanted = split_path(place)
    return LayoutSource("oci-archive", ArchiveFiles(wanted.path), wanted)


def _open_docker_archive(place: str, _: RegistrySettings | None) -> ImageSource:
    from cfsctl.oci.sources import docker_archive
    from cfsctl.oci.sources.archive import ArchiveFiles

    wanted = docker_archive.parse_docker_archive_name(place)
    return docker_archive.DockerArchiveSource(ArchiveFiles(wanted.path), wanted)


def _open_docker_daemon(place: str, _: RegistrySettings | None) -> ImageSource:
    from cfsctl.oci.sources.docker_daemon import DockerDaemonSource

    return DockerDaemonSource(place)


def _open_containers_storage(place: str, settings: RegistrySettings | None) -> ImageSource:
    from cfsctl.oci.containers_storage.configuration import find_stores
    from cfsctl.oci.sources.containers_storage import ContainersStorageSource

    locations = () if settings is None else find_stores(settings.environment, os.geteuid())
    return ContainersStorageSource(place, locations)


_OPENERS: Final[dict[str, Callable[[str, RegistrySettings | None], ImageSource]]] = {
    "containers-storage": _open_containers_storage,
    "dir": _open_directory,
    "docker": _open_registry,
    "docker-archive": _open_docker_archive,
    "docker-daemon": _open_docker_daemon,
    "oci": _open_layout,
    "oci-archive": _open_archive,
    "registry": _open_registry,
}
