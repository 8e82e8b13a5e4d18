"""Open the destination that a reference names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.oci.reference import UnsupportedTransportError, parse_reference, split_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.oci.destinations.base import ImageDestination
    from cfsctl.oci.registry.settings import RegistrySettings


def open_destination(text: str, settings: RegistrySettings | None = None) -> ImageDestination:
    """Open the destination that a reference names.

    Args:
        text: The reference.
        settings: How registries are accessed; None is without credentials and configuration.

    Raises:
        ImageReferenceError: It names none.
        UnsupportedTransportError: It is of a transport that cannot be written to.
        OSError: It cannot be written to.
    """
    reference = parse_reference(text)
    opener = _OPENERS.get(reference.transport)
    if opener is None:
        raise UnsupportedTransportError(
            f"{text}: images cannot be pushed by {reference.transport}",
            hint="push to oci-archive:FILE:TAG and copy that with `skopeo copy`",
        )
    return opener(reference.place, settings)


# One destination is used, so that only its modules are imported.


def _open_registry(place: str, settings: RegistrySettings | None) -> ImageDestination:
    from cfsctl.oci.destinations.registry import RegistryDestination
    from cfsctl.oci.registry.settings import RegistrySettings

    return RegistryDestination(place, settings or RegistrySettings())


def _open_directory(place: str, _: RegistrySettings | None) -> ImageDestination:
    from cfsctl.oci.destinations.directory import DirectoryDestination

    return DirectoryDestination(place)


def _open_layout(place: str, _: RegistrySettings | None) -> ImageDestination:
    from cfsctl.oci.destinations.layout import LayoutDestination

    return LayoutDestination(split_path(place))


def _open_archive(place: str, _: RegistrySettings | None) -> ImageDestination:
    from cfsctl.oci.destinations.archive import ArchiveDestination

    return ArchiveDestination(split_path(place))


_OPENERS: Final[dict[str, Callable[[str, RegistrySettings | None], ImageDestination]]] = {
    "dir": _open_directory,
    "docker": _open_registry,
    "oci": _open_layout,
    "oci-archive": _open_archive,
    "registry": _open_registry,
}
