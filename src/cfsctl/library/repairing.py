"""Repairing a repository from sources that are named as a user names them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cfsctl.kinds.checks import content_checks
from cfsctl.kinds.repair import list_repair_sources, open_repair_source
from cfsctl.library.sources import (
    DEFAULT_SOURCE_OPTIONS,
    Location,
    SourceOptions,
    content_urls_of,
    find_remote,
    make_connection,
    open_server,
)
from cfsctl.repository.repair.repair import repair_repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository as Store
    from cfsctl.repository.repair.repair import RepairReport
    from cfsctl.repository.repair.sources import RepairSource


def repair(
    store: Store,
    places: Sequence[str],
    remotes: str | None,
    lock_timeout_s: float | None,
    reporter: Reporter,
) -> RepairReport:
    """Repair a repository; see `Repository.repair`."""
    with contextlib.ExitStack() as stack:
        sources = []
        for place in places:
            sources.append(_open_source(store, place, remotes, reporter))
            stack.callback(sources[-1].close)
        return repair_repository(
            store,
            [*sources, *list_repair_sources(store)],
            lock_timeout_s=lock_timeout_s,
            content_checks=content_checks(store),
            reporter=reporter,
        )


def _open_source(store: Store, place: str, remotes: str | None, reporter: Reporter) -> RepairSource:
    """Open a source as what it is; a name is that of a directory if there is one, else that of a remote."""
    if "://" in place:
        return _open_url(store, place, reporter)
    if "/" in place or os.path.lexists(place):
        return open_repair_source(store, place, reporter)
    remote = find_remote(place, remotes)
    options = SourceOptions(connection=make_connection(remote=remote), content_urls=content_urls_of(remote))
    return _open_url(store, remote.url, reporter, options)


def _open_url(
    store: Store, url: str, reporter: Reporter, options: SourceOptions = DEFAULT_SOURCE_OPTIONS
) -> RepairSource:
    """Open an OSTree repository on a server; it is asked for objects by their names, and each is verified."""
    from cfsctl.ostree.exchange.repair import OstreeRepairSource  # few repairs ask a server

    path = Location(url, is_url=True).find_directory()
    if path is not None:
        return open_repair_source(store, path, reporter)
    return OstreeRepairSource(store, open_server(url, options), reporter)
