"""How extended attributes and files of an image are presented.

An image holds attributes for overlayfs: the writer's own (``trusted.overlay.X``), and those of the tree,
escaped (``trusted.overlay.overlay.X``). In a plain mount there is no overlayfs, so the tree's own are shown
as the tree has them. Below an overlay with ``userxattr``, the writer's are called ``user.overlay.X``, the
only name that overlayfs reads there, and the tree's own attributes of that name are escaped instead:

    in the image                     plain                    below an overlay      what the overlay shows
    trusted.overlay.X                -                        user.overlay.X        -
    trusted.overlay.overlay.X        trusted.overlay.X        trusted.overlay.X     trusted.overlay.X
    user.overlay.X                   user.overlay.X           user.overlay.overlay.X  user.overlay.X
    others                           as they are              as they are           as they are

So both show the same as an overlay that the kernel mounts for root.
"""

from __future__ import annotations

import functools
from binascii import hexlify
from enum import Enum
from typing import TYPE_CHECKING, Final

from cfsctl.erofs.format import METACOPY_HEADER, XATTR_OVERLAY_ESCAPED_PREFIX, XATTR_OVERLAY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.erofs.read.attributes import Attribute

_USER_PREFIX: Final = b"user.overlay."
_USER_ESCAPED_PREFIX: Final = b"user.overlay.overlay."

_METACOPY: Final = b"user.overlay.metacopy"
_REDIRECT: Final = b"user.overlay.redirect"


class View(Enum):
    """Who looks at the tree."""

    PLAIN = "fuse"
    """Programs; files have their content."""

    OVERLAY = "fuse-overlay"
    """overlayfs, with ``userxattr``; it takes the content of large files from the objects."""

    @property
    def hides_whiteouts(self) -> bool:
        """Whether whiteouts are left out, as overlayfs does."""
        return self is View.PLAIN


@functools.lru_cache(512)
def present(name: bytes, view: View) -> bytes | None:
    """Return the name under which an attribute of an image is presented; None if it is not."""
    if name.startswith(XATTR_OVERLAY_PREFIX):
        if name.startswith(XATTR_OVERLAY_ESCAPED_PREFIX):
            return XATTR_OVERLAY_PREFIX + name[len(XATTR_OVERLAY_ESCAPED_PREFIX) :]
        return None if view is View.PLAIN else _USER_PREFIX + name[len(XATTR_OVERLAY_PREFIX) :]
    if view is View.OVERLAY and name.startswith(_USER_PREFIX):
        return _USER_ESCAPED_PREFIX + name[len(_USER_PREFIX) :]
    return name


def present_all(attributes: Iterable[Attribute], view: View) -> dict[bytes, bytes]:
    """Return attributes as they are presented, in their order; of equal names the first one counts."""
    shown: dict[bytes, bytes] = {}
    for stored, value in attributes:
        name = present(stored, view)
        if name is not None:
            shown.setdefault(name, value)
    if view is View.OVERLAY and _REDIRECT not in shown:
        # A file of nothing but a hole: overlayfs would look for its content elsewhere, and fail.
        shown.pop(_METACOPY, None)
    return shown


def present_own(own: Mapping[bytes, bytes], view: View) -> Mapping[bytes, bytes]:
    """Return attributes by the names that the tree has for them by those under which they are presented."""
    if view is View.PLAIN:
        return own
    return {
        _USER_ESCAPED_PREFIX + name[len(_USER_PREFIX) :] if name.startswith(_USER_PREFIX) else name: value
        for name, value in own.items()
    }


def external_presenter(algorithm: Algorithm) -> Callable[[ObjectID], dict[bytes, bytes]]:
    """Return a function that returns what tells an overlay where the content of a file is, and which."""
    start = METACOPY_HEADER.pack(0, METACOPY_HEADER.size + algorithm.digest_size, 0, algorithm.value)
    slash = algorithm.digest_size - 1

    def present_external(object_id: ObjectID) -> dict[bytes, bytes]:
        # With a slash before all bytes but the first.
        return {_METACOPY: start + object_id, _REDIRECT: b"/" + hexlify(object_id, b"/", slash)}

    return present_external
