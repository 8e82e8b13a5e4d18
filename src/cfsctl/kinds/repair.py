"""Sources of content for `fsck --repair`: what each kind can rebuild, and the sources that a user names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.errors import CfsError
from cfsctl.kinds.registry import find_claiming, stream_kinds
from cfsctl.repository import NotARepositoryError, Repository, read_config
from cfsctl.repository.repair.sources import RepositorySource, TreeSource

if TYPE_CHECKING:
    from cfsctl.progress import Reporter
    from cfsctl.repository.repair.sources import RepairSource


class ComposefsRepairSource(RepositorySource):
    """Another composefs repository of the same hash, whose streams are proven as their kind demands."""

    def restore_stream(self, name: str, repository: Repository) -> bool:
        """Copy the stream of this name as its kind does; see `RepairSource.restore_stream`."""
        kind = find_claiming(name)
        if kind is None:
            return super().restore_stream(name, repository)
        try:
            with Repository.open(self.description) as source:
                kind.restore_stream(source, repository, name)
        except (CfsError, FileNotFoundError):
            return False
        return True


def list_repair_sources(repository: Repository) -> list[RepairSource]:
    """Return what can be made again from what the repository has."""
    return [source for kind in stream_kinds() for source in kind.list_repair_sources(repository)]


def open_repair_source(repository: Repository, path: str, reporter: Reporter) -> RepairSource:
    """Open a repository of any kind, or just a directory.

    Args:
        repository: The repository that is repaired.
        path: The directory.
        reporter: Told what the user should know.

    Raises:
        CfsError, OSError: It cannot be opened.
    """
    try:
        is_alike = read_config(path, may_infer=False).algorithm is repository.algorithm
    except NotARepositoryError:
        for kind in stream_kinds():
            source = kind.open_repair_source(repository, path, reporter)
            if source is not None:
                return source
        return TreeSource(path)
    return ComposefsRepairSource(path, repository.objects) if is_alike else TreeSource(path)
