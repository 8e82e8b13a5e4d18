"""The links of a repository: entries of a category, and the refs that name them.

    images/                     or streams/
      <entry>    -> ../objects/xx/rest
      refs/
        <ref>    -> ../<entry>             a ref of one component
        a/b      -> ../../<entry>          slashes in a ref are directories

A link is made or replaced in one rename, from a temporary link in the repository's directory, where
no reader looks for names; directories on the way are opened without following links (`SafePaths`).

Nothing here makes content durable: callers pass the barrier (`Repository.sync`) before they name what
they stored. The directory that holds a changed ref is synced, so a ref that was reported is there after
a power failure.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from cfsctl.errors import ExitCode, RefNotFoundError, RepositoryError
from cfsctl.linux.files import open_handle, open_regular, replace_symlink
from cfsctl.repository.names.names import (
    MAX_DEPTH,
    REFS,
    check_entry,
    check_ref,
    find_entry_in,
    object_link_text,
    ref_link_text,
)
from cfsctl.repository.names.safe_paths import BlockedNameError, SafePaths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from cfsctl.digest import ObjectID

_OBJECT_LINK: Final = re.compile(r"\.\./objects/([0-9a-f]{2})/([0-9a-f]+)")


class RefExistsError(RepositoryError):
    """A name that is in use and may not be moved."""

    exit_code = ExitCode.POLICY


class Ref(NamedTuple):
    """A ref as it is found.

    Attributes:
        name: Its path below ``refs``.
        text: The text of the link.
    """

    name: str
    text: str

    @property
    def entry(self) -> str | None:
        """The entry that the ref names, or None if the text names none."""
        return find_entry_in(self.text)


class RefMove(NamedTuple):
    """A ref that is set.

    Attributes:
        category: ``images`` or ``streams``.
        ref: Its path below ``refs``.
        entry: The entry that it is to name.
    """

    category: str
    ref: str
    entry: str


class MoveGuard(Protocol):
    """Decides whether refs may be set, and stays in place while they are."""

    def moving(self, move: RefMove) -> AbstractContextManager[bool]:
        """Return a block in which the ref is set, with whether it may be taken from what it names.

        Raises:
            CfsError: The ref must not be set; nothing has changed.
        """


class Found(NamedTuple):
    """Something below ``refs``.

    Attributes:
        path: Its path relative to ``refs``.
        kind: Its own type, links not followed: one of ``stat.S_IFMT``.
        text: The text of a link, or None for anything else.
    """

    path: str
    kind: int
    text: str | None


class LinkDirectory:
    """The links below ``images`` or ``streams``.

    Attributes:
        name: The category's directory.
        guard: Asked before a ref is set, or None.
    """

    def __init__(self, dirfd: int, name: str, check_writable: Callable[[], None]) -> None:
        """Prepare; no system call is made yet.

        Args:
            dirfd: The repository's directory, borrowed; must stay open.
            name: ``images`` or ``streams``.
            check_writable: Raises if nothing may be written.
        """
        self.name = name
        self.guard: MoveGuard | None = None
        self._paths = SafePaths(dirfd)
        self._root = dirfd
        self._check_writable = check_writable

    @property
    def is_synced(self) -> bool:
        """Whether a changed ref is made durable at once."""
        return self._paths.is_synced

    @is_synced.setter
    def is_synced(self, is_synced: bool) -> None:
        self._paths.is_synced = is_synced

    # Reading

    def read_entry(self, entry: str) -> str | None:
        """Return the text of an entry's link, or None if there is no such entry.

        Raises:
            BlockedNameError: It is not a link.
        """
        return self._read_link([self.name], check_entry(entry))

    def read_ref(self, ref: str) -> str | None:
        """Return the text of a ref's link, or None if there is no such ref.

        A directory of refs is not a ref, and nothing is below a ref: the name may be one of another kind
            then.

        Raises:
            BlockedNameError: It is neither a link nor a directory.
        """
        *parents, last = check_ref(ref).split("/")
        path = [self.name, REFS, *parents]
        try:
            return self._read_link(path, last)
        except BlockedNameError:
            if self._is_of_another_kind([*parents, last]):
                return None
            raise

    def _is_of_another_kind(self, parts: list[str]) -> bool:
        """Return whether a directory stands where the ref would be, or a ref where a directory would be."""
        try:
            with contextlib.ExitStack() as opened:
                directory = opened.enter_context(self._paths.open_directory([self.name, REFS]))
                for part in parts:
                    mode = os.stat(part, dir_fd=directory, follow_symlinks=False).st_mode
                    if not stat.S_ISDIR(mode):
                        return stat.S_ISLNK(mode)
                    directory = self._paths.open_inner(directory, part)
                    opened.callback(os.close, directory)
        except FileNotFoundError:  # removed in the meantime
            return True
        return True

    def _read_link(self, parents: list[str], last: str) -> str | None:
        try:
            with self._paths.open_directory(parents) as directory:
                return os.readlink(last, dir_fd=directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.EINVAL:
                path = "/".join([*parents, last])
                raise BlockedNameError(f"{path}: expected a symbolic link, found something else") from error
            raise

    @contextlib.contextmanager
    def open_entry(self, entry: str) -> Iterator[int]:
        """Open what an entry leads to, through its link, for as long as the block lasts.

        For checks, which look at what any reader would find; others open the object by its ID.

        Raises:
            OSError: As open(2); EINVAL (EISDIR) for anything but a regular file.
        """
        match = _OBJECT_LINK.fullmatch(self.read_entry(entry) or "")
        if match is None:
            handle = self._paths.open_target([self.name], entry)
            try:
                fd = open_handle(handle, entry)
            finally:
                os.close(handle)
        else:
            with self._paths.open_directory(["objects", match[1]]) as directory:
                fd = open_regular(directory, match[2])
        try:
            yield fd
        finally:
            os.close(fd)

    def list_names(self) -> list[str]:
        """Return the names directly below the category, in no particular order; nothing is opened."""
        try:
            with self._paths.open_directory([self.name]) as directory:
                return [name for name in os.listdir(directory) if name != REFS]
        except FileNotFoundError:
            return []

    def iter_entries(self) -> Iterator[Found]:
        """Yield what is directly below the category, except ``refs``, sorted by name."""
        try:
            with self._paths.open_directory([self.name]) as directory:
                names = sorted(name for name in os.listdir(directory) if name != REFS)
                for name in names:
                    found = _look(directory, name, name)
                    if found is not None:
                        yield found
        except FileNotFoundError:
            return

    def iter_refs_tree(self, prefix: str = "") -> Iterator[Found]:
        """Yield everything below ``refs`` but directories, sorted by name within each directory.

        Args:
            prefix: Directory below ``refs`` to start at; paths are relative to it.

        Raises:
            BlockedNameError: Directories nested deeper than any ref that can be made.
        """
        start = check_ref(prefix).split("/") if prefix else []
        pending: list[list[str]] = [[]]
        while pending:
            parts = pending.pop()
            if len(parts) > 2 * MAX_DEPTH:
                raise BlockedNameError(f"{self.name}/{REFS}/{parts[0]}: directories nested too deeply")
            try:
                with self._paths.open_directory([self.name, REFS, *start, *parts]) as directory:
                    found = [
                        _look(directory, n, "/".join([*parts, n])) for n in sorted(os.listdir(directory))
                    ]
            except FileNotFoundError:
                continue
            items = [item for item in found if item is not None]
            yield from (item for item in items if item.kind != stat.S_IFDIR)
            inner = [item.path.split("/") for item in items if item.kind == stat.S_IFDIR]
            pending.extend(reversed(inner))

    def list_refs(self, prefix: str = "") -> list[Ref]:
        """Return all refs below a directory of refs, sorted by name.

        Args:
            prefix: Directory below ``refs``; names are relative to it.

        Returns:
            All refs, even broken ones, their names decoded by `os.fsdecode`.
        """
        refs = [Ref(item.path, item.text) for item in self.iter_refs_tree(prefix) if item.text is not None]
        return sorted(refs)

    def stat_ref(self, ref: str) -> os.stat_result | None:
        """Return the status of a ref's own link, or None if there is no such ref."""
        *parents, last = check_ref(ref).split("/")
        try:
            with self._paths.open_directory([self.name, REFS, *parents]) as directory:
                return os.stat(last, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def locked_refs(self, prefix: str) -> Iterator[None]:
        """Hold a directory of refs, which is made if it is missing, against everybody else who locks it."""
        self._check_writable()
        parts = [self.name, REFS, *check_ref(prefix).split("/")]
        with self._paths.open_directory(parts, create=True) as directory:
            fcntl.flock(directory, fcntl.LOCK_EX)  # ends when the directory is closed
            yield

    def follow_ref(self, ref: str) -> os.stat_result:
        """Return the status of what a ref leads to as a path, through every link on the way.

        Raises:
            OSError: As stat(2); EXDEV if it leads out of the repository. Nothing is opened.
        """
        *parents, last = ref.split("/")
        handle = self._paths.open_target([self.name, REFS, *parents], last)
        try:
            return os.fstat(handle)
        finally:
            os.close(handle)

    # Writing

    def set_entry(self, entry: str, object_id: ObjectID) -> None:
        """Make an entry name an object, in place of what it named before.

        Raises:
            InvalidNameError: The entry cannot be a name here.
            BlockedNameError: A directory is in the way.
        """
        check_entry(entry)
        self._check_writable()
        self._set([self.name], entry, object_link_text(object_id))

    def set_ref(self, ref: str, entry: str) -> None:
        """Make a ref name an entry, in place of what it named before; the entry need not exist.

        Raises:
            InvalidNameError: The ref or the entry cannot be a name here.
            BlockedNameError: A directory, or a ref that would have to be one, is in the way.
            CfsError: The guard refuses it.
        """
        ref = check_ref(ref)
        text = ref_link_text(ref, check_entry(entry))
        self._check_writable()
        *parents, last = ref.split("/")
        if self.guard is None:
            self._set([self.name, REFS, *parents], last, text, sync=True)
            return
        with self.guard.moving(RefMove(self.name, ref, entry)) as may_replace:
            self._set([self.name, REFS, *parents], last, text, sync=True, may_replace=may_replace)

    def _set(
        self, parents: list[str], last: str, text: str, *, sync: bool = False, may_replace: bool = True
    ) -> None:
        with self._paths.open_directory(parents, create=True) as directory:
            if not self._needs_change(directory, parents, last, text):
                return
            if sync:
                # What the ref names must be there after a power failure if the ref is.
                self.sync_entries()
            try:
                os.symlink(text, last, dir_fd=directory)
            except FileExistsError:
                if not may_replace:  # made by another program since it was looked for
                    raise RefExistsError(f"{'/'.join([*parents, last])} exists; it was not changed") from None
                replace_symlink(directory, last, text, temporary_dirfd=self._root)
            if sync:
                self._paths.sync(directory)

    def sync_entries(self) -> None:
        """Make the entries durable, unless the repository is not synced at all."""
        if self._paths.is_synced:
            with self._paths.open_directory([self.name]) as directory:
                os.fsync(directory)

    @staticmethod
    def _needs_change(directory: int, parents: list[str], last: str, text: str) -> bool:
        try:
            return os.readlink(last, dir_fd=directory) != text
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            path = "/".join([*parents, last])
            raise BlockedNameError(f"{path}: something other than a link is in the way") from error

    def remove_ref(self, ref: str) -> None:
        """Remove a ref; what it named stays until it is collected.

        Raises:
            RefNotFoundError: There is no such ref.
            BlockedNameError: It is a directory of refs.
        """
        ref = check_ref(ref)
        self._check_writable()
        *parents, last = ref.split("/")
        try:
            with self._paths.open_directory([self.name, REFS, *parents]) as directory:
                if _is_directory(directory, last):
                    raise BlockedNameError(f"{self.name}/{REFS}/{ref}: is a directory of refs")
                os.unlink(last, dir_fd=directory)
                self._paths.sync(directory)
        except FileNotFoundError as error:
            raise RefNotFoundError(f"ref {ref!r} not found in {self.name}") from error

    def prune(self, entries: Iterable[str], refs: Iterable[str]) -> None:
        """Remove entries and refs, and make that durable; for the collector.

        Raises:
            OSError: One could not be removed; some may be gone.
        """
        with self._paths.open_directory([self.name]) as directory:
            for entry in entries:
                os.unlink(entry, dir_fd=directory)
            # Always sync here, even with --fsync=none: objects are removed next, and a restored name would be
            # broken.
            os.fsync(directory)
        for ref in refs:
            self.remove_ref(ref)


def _look(directory: int, name: str, path: str) -> Found | None:
    """Return what is called `name`, or None if it is gone in the meantime."""
    try:
        try:
            # Nearly all are links, which saves a look at the type.
            return Found(path, stat.S_IFLNK, os.readlink(name, dir_fd=directory))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        kind = stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
        # It may have become a link since.
        text = os.readlink(name, dir_fd=directory) if kind == stat.S_IFLNK else None
    except FileNotFoundError:
        return None
    return Found(path, kind, text)


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
