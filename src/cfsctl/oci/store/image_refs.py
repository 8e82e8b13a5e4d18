"""Names under which a config's stream keeps the file system images that were made of it.

    composefs.image            format 2        composefs.image.boot       after the boot transformation
    composefs.image.v1         format 0 or 1   composefs.image.boot.v1    the same

A boot image whose attributes were filtered otherwise than usual has ``.xattrs=<filter>`` behind that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import ExitCode, RepositoryError
from cfsctl.tree.transform import XattrFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import ObjectID

_PLAIN: Final = "composefs.image"
_BOOT: Final = "composefs.image.boot"
_XATTRS: Final = ".xattrs="
_VERSION_1: Final = ".v1"


class ImageKind(NamedTuple):
    """What kind of image a name stands for.

    Attributes:
        is_version_2: Whether it is in format 2, and not in 0 or 1.
        is_bootable: Whether it is one after the boot transformation.
        xattr_filter: Which attributes it keeps.
    """

    is_version_2: bool
    is_bootable: bool = False
    xattr_filter: XattrFilter = XattrFilter.ALLOWLIST_ONLY

    @property
    def ref(self) -> str:
        """The name in the config's stream."""
        base = _BOOT if self.is_bootable else _PLAIN
        suffix = "" if self.xattr_filter is XattrFilter.ALLOWLIST_ONLY else _XATTRS + self.xattr_filter.value
        return base + ("" if self.is_version_2 else _VERSION_1) + suffix


KINDS: Final = tuple(
    ImageKind(is_version_2, is_bootable, xattr_filter)
    for is_bootable in (False, True)
    for xattr_filter in (XattrFilter if is_bootable else (XattrFilter.ALLOWLIST_ONLY,))
    for is_version_2 in (True, False)
)
"""All of them, in the order in which they are written."""


def plain_kind(version: FormatVersion) -> ImageKind:
    """Return the kind that an image of a format is, which is not a boot image."""
    return ImageKind(version is FormatVersion.V2)


def is_image_ref(name: str) -> bool:
    """Return whether a name in a config's stream is that of an image, and not of a layer."""
    return name == _PLAIN or name.startswith(_PLAIN + ".")


def list_images(refs: Mapping[str, ObjectID]) -> list[tuple[ImageKind, ObjectID]]:
    """Return the images among the references of a config, in the order of `KINDS`."""
    return [(kind, refs[kind.ref]) for kind in KINDS if kind.ref in refs]


class NoImageError(RepositoryError):
    """A stored image of which no file system image was made."""

    exit_code = ExitCode.NOT_FOUND


def find_image(refs: Mapping[str, ObjectID], kind: ImageKind) -> ObjectID | None:
    """Return the image of a kind among the references of a config, or None."""
    return refs.get(kind.ref)


def linked_image(refs: Mapping[str, ObjectID], version: FormatVersion, *, bootable: bool) -> ObjectID:
    """Return an image that can be mounted, in the format that is requested or else in the other one.

    Raises:
        NoImageError: None exists.
    """
    kind = plain_kind(version)._replace(is_bootable=bootable)
    for candidate in (kind, kind._replace(is_version_2=not kind.is_version_2)):
        if candidate.ref in refs:
            return refs[candidate.ref]
    what, hint = (
        ("boot EROFS image", "pulling with --bootable")
        if bootable
        else ("composefs EROFS image", "re-pulling the image")
    )
    raise NoImageError(f"No {what} linked — try {hint}")
