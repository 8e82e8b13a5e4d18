"""Lists of what a repository has names for, with what a user wants to know about each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.errors import CfsError
from cfsctl.library.events import make_reporter
from cfsctl.library.ids import Checksum, ObjectID
from cfsctl.library.opened import OpenedRepository
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.library.events import Progress
    from cfsctl.library.results import ListedCommit, ListedImage, RefSize
    from cfsctl.ostree.objects import Commit
    from cfsctl.repository import Repository as Store
    from cfsctl.repository.gc.stats import RefStats


class ListMethods(OpenedRepository):
    """Listing names."""

    def list_images(self, *, with_sizes: bool = False) -> list[ListedImage]:
        """Return the refs of images, sorted.

        Args:
            with_sizes: Find out how much each needs, which reads all that refs lead to.
        """
        from cfsctl.digest import find_object_name
        from cfsctl.library.results import ListedImage
        from cfsctl.repository.history.kept import time_of_ref

        store = self._store
        kept = count_kept(store)
        sizes = measure(store) if with_sizes else {}
        found = []
        for ref in store.images.list_refs():
            image_id = find_object_name(ref.entry or "", store.algorithm)
            found.append(
                ListedImage(
                    name=ref.name,
                    image_id=None if image_id is None else ObjectID(image_id),
                    set_s=time_of_ref(store, "images", ref.name) / 1e6,
                    kept=kept("images", ref.name),
                    sizes=sizes.get(f"images/refs/{ref.name}"),
                )
            )
        return found

    def list_commits(
        self, *, with_details: bool = True, with_sizes: bool = False, progress: Progress | None = None
    ) -> list[ListedCommit]:
        """Return the tags of commits, sorted, and then those of partial commits.

        Args:
            with_details: Read the commits, for what they say about themselves.
            with_sizes: Find out how much each needs, which reads all that refs lead to.
            progress: Told which commits cannot be read.
        """
        from cfsctl.ostree.store.refs import list_tags

        store = self._store
        tags = [(tag.name, tag.commit, False) for tag in list_tags(store)]
        if store.streams.list_refs("ostree-partial"):
            from cfsctl.ostree.store.partial_tags import list_parts

            tags += [(part.name, part.commit, True) for part in list_parts(store)]
        kept = count_kept(store)
        sizes = measure(store) if with_sizes else {}
        details = _Details(store, make_reporter(progress)) if with_details else None
        return [
            self._listed(name, commit, is_partial=is_partial, kept=kept, sizes=sizes, details=details)
            for name, commit, is_partial in tags
        ]

    @staticmethod
    def _listed(
        name: str,
        commit: Checksum,
        *,
        is_partial: bool,
        kept: Callable[[str, str], int],
        sizes: dict[str, RefSize],
        details: _Details | None,
    ) -> ListedCommit:
        from cfsctl.library.results import ListedCommit
        from cfsctl.ostree.store.metadata_text import version_of
        from cfsctl.repository.names.tags import escape_tag

        found = None if details is None else details.find(name, commit, is_partial=is_partial)
        directory = "ostree-partial" if is_partial else "ostree"
        return ListedCommit(
            name=name,
            commit=Checksum(commit),
            is_partial=is_partial,
            timestamp_s=None if found is None else found.timestamp_s,
            version=None if found is None else version_of(found),
            subject=None if found is None else found.subject,
            kept=0 if is_partial else kept("ostree", name),
            sizes=sizes.get(f"streams/refs/{directory}/{escape_tag(name)}"),
        )


class _Details:
    """Reads commits, each once, and nothing of their tables."""

    def __init__(self, store: Store, report: Callable[[Message], object]) -> None:
        self._store = store
        self._report = report
        self._found: dict[tuple[Checksum, bool], Commit | None] = {}

    def find(self, name: str, commit: Checksum, *, is_partial: bool) -> Commit | None:
        key = commit, is_partial
        if key not in self._found:
            try:
                self._found[key] = self._read(commit, is_partial=is_partial)
            except (CfsError, OSError) as error:
                self._report(Message(f"{name}: {error}"))
                self._found[key] = None
        return self._found[key]

    def _read(self, commit: Checksum, *, is_partial: bool) -> Commit | None:
        if is_partial:
            from cfsctl.ostree.store.partial_commits import find_partial

            part = find_partial(self._store, commit)
            return None if part is None else part.commit
        from cfsctl.ostree.store.refs import open_commit

        return open_commit(self._store, commit, checks_table=False).commit


def measure(store: Store) -> dict[str, RefSize]:
    """Return what each ref needs by its path below the repository."""
    from cfsctl.repository.gc.stats import measure_refs

    return {ref.name: size_of(ref) for ref in measure_refs(store)}


def size_of(ref: RefStats) -> RefSize:
    """Return what a ref needs."""
    from cfsctl.library.results import RefSize

    return RefSize(size=ref.bytes, own=ref.exclusive_bytes)


def count_kept(store: Store) -> Callable[[str, str], int]:
    """Return what tells how many earlier targets of a ref are kept."""
    if next(iter(store.streams.links.iter_refs_tree("cfsctl-history")), None) is None:
        return lambda _directory, _name: 0
    from cfsctl.repository.history.kept import HistoryKey, list_all_kept  # few have any

    found = list_all_kept(store)
    return lambda directory, name: len(found.get(HistoryKey(directory, name), ()))
