"""Reports, as data and as pages: what takes up space in a repository, what is different between trees."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.opened import OpenedRepository, store_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cfsctl.digest import Algorithm
    from cfsctl.inspection.diff import Attribute
    from cfsctl.inspection.packages.find import Contents
    from cfsctl.inspection.sources import TreeInput
    from cfsctl.inspection.storage.model import DiffReport, ReportLimits, StoreReport
    from cfsctl.library.comparison import OpenRepository, ReadingOptions, ReadTree
    from cfsctl.library.events import Progress
    from cfsctl.repository.objects.reader import ObjectReader

ROWS = 200
"""Entries that a report about differences has, unless something else is asked for."""


class ReportMethods(OpenedRepository):
    """Reporting on the repository as a whole."""

    @cancellable
    def report(
        self,
        limits: ReportLimits | None = None,
        *,
        made_s: int | None = None,
        progress: Progress | None = None,
    ) -> StoreReport:
        """Return what takes up space, how refs have changed, and what a collection would do.

        Nothing is changed. What cannot be read is in the report, not raised.

        Args:
            limits: How much the report has in it.
            made_s: The time that it has on it, in seconds since 1970; None is now.
            progress: Told how many refs and trees have been read.

        Raises:
            OSError: A directory of the repository cannot be read.
        """
        from cfsctl.inspection.storage.model import ReportLimits
        from cfsctl.inspection.storage.survey import report_store
        from cfsctl.kinds.kind import Reading
        from cfsctl.ostree.tree.xattr_names import XattrNames
        from cfsctl.tree.transform import XattrFilter

        reporter = make_reporter(progress)
        reading = Reading(
            propagate_usr=False,
            xattr_filter=XattrFilter.ALLOWLIST_ONLY,
            xattr_names=XattrNames.STRIPPED,
            reporter=reporter,
        )
        when = int(time.time()) if made_s is None else made_s
        return report_store(self._store, limits or ReportLimits(), reading, when, reporter)


@cancellable
def report_diff(
    old: str,
    new: str,
    *,
    rows: int = ROWS,
    open_repository: OpenRepository | None = None,
    ignore: Collection[Attribute] = (),
    options: ReadingOptions | None = None,
    algorithm: Algorithm | None = None,
    made_s: int | None = None,
    progress: Progress | None = None,
) -> DiffReport:
    """Return what is different between two trees: numbers, the largest entries, and packages.

    Args:
        old: A directory, an image, a dump, an OSTree commit or a container image, as for `diff`.
        new: The same.
        rows: Entries and packages that are kept, those with the most bytes.
        open_repository: As for `diff`.
        ignore: Attributes that do not count.
        options: How trees are read; None is as `diff` reads them.
        algorithm: As for `diff`.
        made_s: The time that the report has on it, in seconds since 1970; None is now.
        progress: As for `diff`.

    Raises:
        CfsError: A name leads to nothing, or to what cannot be read.
    """
    from cfsctl.inspection.diff import iter_differences
    from cfsctl.inspection.packages.find import find_packages
    from cfsctl.inspection.storage.changes import summarize
    from cfsctl.inspection.storage.model import DiffReport
    from cfsctl.library.comparison import DEFAULT_READING, read_pair

    how = options or DEFAULT_READING
    pair = read_pair((old, new), open_repository, how, algorithm, make_reporter(progress))
    before, after = (find_packages(one.tree, _contents_of(one, open_repository)) for one in pair)
    differences = iter_differences(pair[0].tree, pair[1].tree, ignored=ignore)
    changes = summarize(differences, rows, (before, after))
    when = int(time.time()) if made_s is None else made_s
    return DiffReport(old=old, new=new, changes=changes, made_s=when)


def _contents_of(read: ReadTree, open_repository: OpenRepository | None) -> Contents:
    """Return where the contents of a tree are."""
    from cfsctl.inspection.contents.directory import DirectoryContents
    from cfsctl.inspection.contents.reading import ContentReader
    from cfsctl.inspection.sources import DirectorySource

    source: TreeInput = read.source
    if isinstance(source, DirectorySource):
        return DirectoryContents(source.name)
    return ContentReader(lambda: _objects_of(open_repository))


def _objects_of(open_repository: OpenRepository | None) -> ObjectReader:
    from cfsctl.errors import CfsError

    if open_repository is None:
        raise CfsError("no repository was named, which has the contents of files")
    return store_of(open_repository()).objects


def draw_report(report: StoreReport | DiffReport, *, rows: int = 50) -> Iterator[bytes]:
    """Yield a report as a page: HTML in UTF-8, in one file, without scripts and anything from elsewhere.

    Args:
        report: The report.
        rows: Refs that are listed, the largest first.
    """
    from cfsctl.pages.drawing import iter_page  # loads the templates

    return iter_page(report, rows)
