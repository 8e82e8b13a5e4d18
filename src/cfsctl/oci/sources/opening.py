"""From a reference to the source that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.errors import CfsError
from cfsctl.oci.reference import parse_reference, split_path

if TYPE_CHECKING:
    from cfsctl.oci.registry.settings import RegistrySettings
    from cfsctl.oci.sources.base import ImageSource


class UnsupportedTransportError(CfsError):
    """A transport that there is, and that this program cannot read from."""


def open_source(text: str, settings: RegistrySettings | None = None) -> ImageSource:
    """Open the source that a reference names.

    Args:
        text: The reference.
        settings: How registries are talked to; None is without credentials and configuration.

    Raises:
        ImageReferenceError: It names none.
        UnsupportedTransportError: It is of a transport that cannot be read from.
        ImageNotFoundError: There is nothing.
        FormatError: It is not valid.
    """
    reference = parse_reference(text)
    if reference.transport == "dir":
        from cfsctl.oci.sources.directory import DirectorySource  # noqa: PLC0415 - one source is used

        return DirectorySource(reference.place)
    if reference.transport in {"docker", "registry"}:
        from cfsctl.oci.registry.settings import RegistrySettings  # noqa: PLC0415 - the same
        from cfsctl.oci.sources.registry import RegistrySource  # noqa: PLC0415 - the same

        return RegistrySource(reference.place, settings or RegistrySettings())
    if reference.transport not in {"oci", "oci-archive"}:
        raise UnsupportedTransportError(
            f"{text}: images cannot be pulled by {reference.transport} yet",
            hint="copy it with `skopeo copy` to oci:DIRECTORY:TAG first",
        )
    from cfsctl.oci.sources.layout import LayoutSource  # noqa: PLC0415 - the same

    wanted = split_path(reference.place)
    if reference.transport == "oci":
        from cfsctl.oci.sources.files import DirectoryFiles  # noqa: PLC0415 - the same

        return LayoutSource("oci", DirectoryFiles(wanted.path), wanted)
    from cfsctl.oci.sources.archive import ArchiveFiles  # noqa: PLC0415 - the same

    return LayoutSource("oci-archive", ArchiveFiles(wanted.path), wanted)
