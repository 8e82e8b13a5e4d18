"""Comparing what is in a repository; apart from the rest of comparing, which few commands load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.events import cancellable
from cfsctl.library.opened import OpenedRepository

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cfsctl.inspection.diff import Attribute, Difference
    from cfsctl.library.events import Progress


class ComparisonMethods(OpenedRepository):
    """Comparing what is in the repository."""

    @cancellable
    def diff(
        self,
        old: str,
        new: str,
        *,
        ignore: Collection[Attribute] = (),
        as_root: bool = True,
        progress: Progress | None = None,
    ) -> Iterator[Difference]:
        """Return what is different between two trees, in the order of paths, each as soon as it is known.

        Args:
            old: A directory, an image, a dump, an OSTree commit or a container image; what a name means can
                be said by ``dir:``, ``image:``, ``dump:``, ``commit:`` or ``oci:`` before it.
            new: The same.
            ignore: Attributes that do not count.
            as_root: Take directories as `create_image` does.
            progress: Told how many entries of a directory have been seen.

        Raises:
            CfsError: A name leads to nothing, or to what cannot be read.
        """
        from cfsctl.library.comparison import ReadingOptions, diff

        options = ReadingOptions(as_root=as_root)
        return diff(
            old,
            new,
            open_repository=lambda: self,
            ignore=ignore,
            options=options,
            algorithm=self.algorithm,
            progress=progress,
        )
