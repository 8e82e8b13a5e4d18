"""What is in the trees of a repository; apart from the functions, which need none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.opened import OpenedRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.inspection.contents.extract import ExtractCounts
    from cfsctl.inspection.contents.place import Place
    from cfsctl.library.contents import TreePath, TreeReading
    from cfsctl.library.events import Progress
    from cfsctl.library.paths import StrPath


class ContentMethods(OpenedRepository):
    """Looking into trees without mounting them."""

    def list_tree(self, source: str, path: TreePath = "/", *, is_recursive: bool = False) -> list[Place]:
        """Return the entries of a directory; see `cfsctl.list_tree`."""
        from cfsctl.library.contents import list_tree

        return list_tree(source, path, is_recursive=is_recursive, reading=self._reading(None))

    def iter_file(self, source: str, path: TreePath) -> Iterator[bytes]:
        """Yield the verified content of a file; see `cfsctl.iter_file`."""
        from cfsctl.library.contents import iter_file

        return iter_file(source, path, reading=self._reading(None))

    def extract(
        self, source: str, target: StrPath, path: TreePath = "/", *, progress: Progress | None = None
    ) -> ExtractCounts:
        """Copy a directory of a tree to disk; see `cfsctl.extract`."""
        from cfsctl.library.contents import extract

        return extract(source, target, path, reading=self._reading(progress))

    def iter_tar(
        self, source: str, path: TreePath = "/", *, progress: Progress | None = None
    ) -> Iterator[bytes]:
        """Yield a directory of a tree as a tar archive; see `cfsctl.iter_tar`."""
        from cfsctl.library.contents import iter_tar

        return iter_tar(source, path, reading=self._reading(progress))

    def _reading(self, progress: Progress | None) -> TreeReading:
        from cfsctl.library.contents import as_stored

        return as_stored(lambda: self, progress)
