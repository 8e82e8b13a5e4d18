"""What a marking records: objects in use, problems, and what the links of each category say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.repository.gc.live import LiveObjects
from cfsctl.repository.names.links import Ref
from cfsctl.repository.names.names import (
    find_entry_in,
    find_object_in,
    parse_object_link,
    ref_link_text,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.errors import CfsError
    from cfsctl.repository.names.links import LinkDirectory
    from cfsctl.repository.repository import Repository


class Marks:
    """What is in use, as far as it is known.

    Attributes:
        live: All objects in use.
        problems: What was met that should not be there, one sentence each.
        is_complete: Whether everything that roots lead to could be read; if not, any object may be
            in use.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.live = LiveObjects()
        self.problems: list[str] = []
        self.is_complete = True

    def note(self, problem: str) -> None:
        """Keep a problem that loses nothing."""
        self.problems.append(problem)

    def note_unseen(self, gap: str) -> None:
        """Keep the problem that there may be mounts that cannot be seen."""
        hint = "mount /proc and /sys, and be root outside of containers"
        self.problems.append(f"cannot tell what is mounted, so every object may be in use: {gap} ({hint})")
        self.is_complete = False

    def note_unreadable(self, what: str, error: CfsError | OSError | str) -> None:
        """Keep the problem that something in use could not be read."""
        self.problems.append(f"{what} cannot be read, so every object may be in use: {error}")
        self.is_complete = False


def describe_root(what: str, reason: str) -> str:
    """Return what messages call an entry in use: with the ref that keeps it, which the user can remove."""
    return f"{what} (kept by {reason})" if "/refs/" in reason else what


class CategoryMarks:
    """What refs and entries of one category say.

    Attributes:
        category: The category.
        entries: Object by entry, for links that we or the original write.
        roots: Entries in use, each with one of the things that keep it.
        lost: Refs whose entry is not there.
        misdirected: Refs that name an entry but, followed as a path, do not lead to it.
    """

    def __init__(
        self,
        repository: Repository,
        category: LinkDirectory,
        marks: Marks,
        ignored_refs: Collection[str] = (),
    ) -> None:
        """Read all links of the category, without refs that are to be ignored."""
        self.category = category
        self.entries: dict[str, ObjectID] = {}
        self.roots: dict[str, str] = {}
        self.lost: list[Ref] = []
        self.misdirected: list[Ref] = []
        self._marks = marks
        self._algorithm = repository.algorithm
        strays = list(self._read_entries())
        for name, text in strays:
            self._follow_stray(name, text)
        for found in category.iter_refs_tree():
            if f"{category.name}/refs/{found.path}" in ignored_refs:
                continue
            if found.text is None:
                marks.note(f"{category.name}/refs/{found.path}: expected a symbolic link; left alone")
            else:
                self._follow_ref(Ref(found.path, found.text))

    def _read_entries(self) -> Iterator[tuple[str, str]]:
        """Record all entries; yield name and target of links that this program did not make."""
        for found in self.category.iter_entries():
            if found.text is None:
                self._marks.note(f"{self.category.name}/{found.path}: expected a symbolic link; left alone")
                continue
            object_id = parse_object_link(found.text, self._algorithm)
            if object_id is not None:
                self.entries[found.path] = object_id
            else:
                yield found.path, found.text

    def _follow_stray(self, name: str, text: str) -> None:
        """Treat a link among the entries as a ref, since it may have been meant as one."""
        where = f"{self.category.name}/{name}"
        self._marks.note(f"{where}: expected a link to an object, found {text!r}; kept, with what it names")
        object_id = find_object_in(text, self._algorithm)
        if object_id is not None:
            self.entries[name] = object_id
            self.keep(name, where)
            return
        entry = find_entry_in(text)
        if entry in self.entries:
            self.keep(entry, where)

    def _follow_ref(self, ref: Ref) -> None:
        entry = ref.entry
        if entry not in self.entries:
            self.lost.append(ref)
            return
        self.keep(entry, f"{self.category.name}/refs/{ref.name}")
        if ref.text != ref_link_text(ref.name, entry) and not self._leads_somewhere(ref):
            self.misdirected.append(ref)

    def keep(self, entry: str, reason: str) -> None:
        """Count an entry as in use."""
        self.roots.setdefault(entry, reason)

    def _leads_somewhere(self, ref: Ref) -> bool:
        try:
            self.category.follow_ref(ref.name)
        except FileNotFoundError:
            return False
        except OSError as error:
            self._marks.note(f"{self.category.name}/refs/{ref.name}: {error.strerror}; left alone")
        return True
