"""Refs of images: set, renamed, removed, and taken back to what they named before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.library.ids import ObjectID
from cfsctl.library.opened import OpenedRepository, moving

if TYPE_CHECKING:
    from cfsctl.library.events import Progress
    from cfsctl.library.results import KeptTarget, RefChange

_IMAGES = "images"


_LIST_HINT: Final = "list the images with `cfsctl images`"


class ImageRefMethods(OpenedRepository):
    """Naming images."""

    def tag_image(
        self,
        image: str | ObjectID,
        ref: str,
        *,
        replace: bool = True,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> RefChange:
        """Give an image a ref.

        Args:
            image: Its ref or ID, or a prefix of its ID.
            ref: The ref.
            replace: Move the ref if another image has it.
            keep: Number of earlier images of the ref to keep; None leaves its history as it is.
            progress: Told which image had the ref before.

        Raises:
            RefNotFoundError: There is no such image.
            RefExistsError: The ref belongs to an image, and may not be taken from it.
            InvalidNameError: The ref cannot be one.
            AmbiguousIdError: It is a prefix of more than one ID.
        """
        from cfsctl.library.kept import find_target
        from cfsctl.repository.history.kept import HistoryKey
        from cfsctl.repository.names.names import check_new_ref

        ref = check_new_ref(ref, "image name")
        image_id = self._require_image(image if isinstance(image, str) else image.hex())
        old = find_target(self._store, HistoryKey(_IMAGES, ref))
        with moving(self, progress, replace=replace, keep=keep):
            self._store.images.link(image_id, ref)
        from cfsctl.library.results import RefChange

        return RefChange(ref, old, f"{self.algorithm.hash_name}:{image_id.hex()}")

    def _require_image(self, image: str) -> ObjectID:
        from cfsctl.errors import RefNotFoundError
        from cfsctl.repository.names.names import suggest

        found = self._store.images.find(image)
        if found is None:
            known = (ref.name for ref in self._store.images.list_refs())
            raise RefNotFoundError(f"image not found: {image}", hint=suggest(image, known) or _LIST_HINT)
        return ObjectID(found)

    def rename_image(self, ref: str, new: str) -> RefChange:
        """Give a ref of an image another name; its history goes along.

        Raises:
            RefNotFoundError: There is no such ref.
            RefExistsError: The new name belongs to another image.
            InvalidNameError: The new name cannot be one.
        """
        from cfsctl.repository.history.changes import rename
        from cfsctl.repository.history.kept import HistoryKey
        from cfsctl.repository.history.moves import describe_target

        entry = rename(self._store, HistoryKey(_IMAGES, _bare(ref)), HistoryKey(_IMAGES, new))
        target = describe_target(self._store, _IMAGES, entry)
        from cfsctl.library.results import RefChange

        return RefChange(_bare(new), target, target)

    def remove_image(self, ref: str) -> RefChange:
        """Remove the ref of an image and its history; images stay until garbage is collected.

        Raises:
            RefNotFoundError: There is no such ref.
        """
        from cfsctl.errors import RefNotFoundError
        from cfsctl.library.kept import find_target
        from cfsctl.repository.history.changes import forget_history
        from cfsctl.repository.history.kept import HistoryKey
        from cfsctl.repository.names.names import suggest

        name = self._find_ref_name(ref)
        key = HistoryKey(_IMAGES, name)
        old = find_target(self._store, key)
        forgotten = 0 if old is None else forget_history(self._store, key)
        try:
            self._store.images.remove_ref(name)
        except RefNotFoundError as error:
            known = (one.name for one in self._store.images.list_refs())
            raise RefNotFoundError(
                f"there is no image ref {ref!r}", hint=suggest(name, known) or _LIST_HINT
            ) from error
        from cfsctl.library.results import RefChange

        return RefChange(name, old, None, forgotten)

    def _find_ref_name(self, ref: str) -> str:
        """Return a ref as it is stored; the original makes refs that begin with ``refs/``."""
        bare = _bare(ref)
        if bare != ref and self._store.images.links.read_ref(bare) is None:
            return ref
        return bare

    def roll_back_image(
        self, ref: str, to: str | None = None, *, progress: Progress | None = None
    ) -> RefChange:
        """Set a ref to the image that it named before; what it names now is kept, so that this can be undone.

        Args:
            ref: The ref.
            to: The ID of a kept image or a prefix of it; None is the latest.
            progress: Told if the image that the ref leaves is damaged, and so is not kept.

        Raises:
            RefNotFoundError: There is no such ref.
            NothingKeptError: No such image is kept.
        """
        from cfsctl.library.kept import roll_back

        return roll_back(self._store, _IMAGES, _bare(ref), to, progress)

    def image_history(self, ref: str) -> list[KeptTarget]:
        """Return the current image of a ref and the earlier ones that are kept, latest first.

        Raises:
            RefNotFoundError: There is no such ref, and no history of it.
        """
        from cfsctl.library.kept import list_history

        return list_history(self._store, _IMAGES, _bare(ref))


def _bare(ref: str) -> str:
    return ref.removeprefix("refs/")
