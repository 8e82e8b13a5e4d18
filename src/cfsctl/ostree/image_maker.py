"""The images of a commit, made by a process of their own while this one writes the commit's stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.ostree.images import store_images
from cfsctl.workers import WorkerPool

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import ObjectID
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.ostree.collected import CollectedCommit
    from cfsctl.ostree.to_tree import XattrNames
    from cfsctl.repository import Repository

_WORTHWHILE_OBJECTS: Final = 4000
"""A commit with fewer objects has its images before a process has begun and ended."""


class ImageMaker:
    """Makes and stores the images of one commit.

    A context manager: leaving it ends the process.
    """

    def __init__(
        self, repository: Repository, commit: CollectedCommit, xattr_names: XattrNames, workers: int | None
    ) -> None:
        """Begin, unless everything is to be done in this process; then `result` does it.

        Args:
            repository: Where the images go.
            commit: The commit, with all of its objects.
            xattr_names: How names of extended attributes are in the images.
            workers: Processes that may be started; 0 is none, None as many as there are processors.
        """
        count = 0 if workers == 0 or len(commit.objects) < _WORTHWHILE_OBJECTS else 1
        self._pool: WorkerPool[XattrNames, dict[FormatVersion, ObjectID]] = WorkerPool(
            lambda: lambda names: store_images(repository, commit, names), count
        )
        self._pool.submit(xattr_names)

    def result(self) -> dict[FormatVersion, ObjectID]:
        """Return what `store_images` does, as soon as it is there; to be called once.

        Raises:
            FormatError: No image can hold this commit.
            OSError: An image could not be stored.
        """
        (images,) = self._pool.poll()
        return images

    def __enter__(self) -> Self:
        """Return the maker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._pool.__exit__(kind, value, trace)
