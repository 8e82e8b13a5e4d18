"""OSTree repositories in directories, as a source to pull from.

A repository may have a parent, another repository that has what it lacks, objects and refs alike; the parent
may have one as well, and each may store content in another way. Nothing is trusted about any of them: where
one has an object, the caller must verify its checksum.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Final, TypeVar

from cfsctl.errors import ExitCode
from cfsctl.ostree.objects import MAX_DETACHED_SIZE, MAX_METADATA_SIZE, ObjectKind, OstreeObjectError
from cfsctl.ostree.source import SourceError, SourceObjectMissingError, check_ref_name, ref_not_found
from cfsctl.ostree.sources.local_files import send_file
from cfsctl.ostree.sources.local_refs import find_ref, list_branches
from cfsctl.ostree.sources.local_repository import LocalRepository, NotAnOstreeRepositoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.digest import Checksum
    from cfsctl.ostree.source import ContentSink

T = TypeVar("T")

MAX_PARENTS: Final = 16
"""Repositories in a chain of parents; real ones have one or two."""

_TOMBSTONE: Final = "tombstone-commit"


class DeletedCommitError(SourceError):
    """A commit that the repository says it had, and that was deleted."""

    exit_code = ExitCode.NOT_FOUND


class LocalSource:
    """A repository in a directory, with its parents; see `cfsctl.ostree.source.Source`.

    Attributes:
        description: Its path as the user named it.
        repositories: The repository itself, then its parent, then that one's.
    """

    def __init__(self, path: str) -> None:
        """Open the repository and its parents, and read their configuration.

        Raises:
            NotAnOstreeRepositoryError: None exists, or too many parents.
            UnsupportedModeError: Its mode is unknown.
        """
        self.description = path
        self.repositories: list[LocalRepository] = []
        try:
            self._open_chain(path)
        except BaseException:
            self.close()
            raise

    def _open_chain(self, path: str) -> None:
        following: str | None = path
        while following is not None:
            if len(self.repositories) > MAX_PARENTS:
                raise NotAnOstreeRepositoryError(
                    f"{path}: expected a chain of at most {MAX_PARENTS} parent repositories, found more",
                    hint="is one of them its own parent?",
                )
            self.repositories.append(LocalRepository(following))
            following = self.repositories[-1].parent

    def close(self) -> None:
        """Close all directories; they are opened again when needed."""
        for repository in self.repositories:
            repository.close()

    # Refs

    def resolve_ref(self, name: str) -> Checksum:
        """Return the commit a ref stands for; see `local_refs.find_ref` for what may be named.

        Raises:
            RefNotFoundError: No such ref.
            InvalidRefError: No valid name, or a file that does not hold a checksum.
        """
        check_ref_name(name)
        for repository in self.repositories:
            found = find_ref(repository, name)
            if found is not None:
                return found
        raise ref_not_found(name, self.description, hint=self._suggest(name))

    def _suggest(self, name: str) -> str:
        """Return a hint with refs of similar names; if others cannot be read, that is not the error."""
        from cfsctl.repository.names.names import suggest  # only for those who mistype

        similar = None
        with contextlib.suppress(SourceError, OSError):
            similar = suggest(name, self.list_refs())
        return similar or f"see its refs with `ostree refs --repo={self.description}`"

    def list_refs(self) -> dict[str, Checksum]:
        """Return the repository's own branches, sorted by name.

        Raises:
            InvalidRefError: A file among them that does not hold a checksum.
        """
        return list_branches(self.repositories[0])

    def list_ref_names(self) -> list[str]:
        """Return the names of the repository's own branches; see `ObjectSource.list_ref_names`."""
        return list(self.list_refs())

    # Objects

    def fetch_metadata(
        self,
        request: Callable[[], tuple[Checksum, ObjectKind] | None],
        deliver: Callable[[Checksum, ObjectKind, bytes], None],
    ) -> None:
        """Read what `request` names, one after the other; see `ObjectSource.fetch_metadata`.

        Raises:
            ObjectMissingError: There is no such object.
            DeletedCommitError: There was such a commit.
            OstreeObjectError: It is larger than any metadata may be.
        """
        while (wanted := request()) is not None:
            deliver(*wanted, self._read_metadata(*wanted))

    def _read_metadata(self, checksum: Checksum, kind: ObjectKind) -> bytes:
        for repository in self.repositories:
            try:
                return repository.read_object(checksum, kind.suffix, MAX_METADATA_SIZE)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.EFBIG:
                    raise
                name = f"{kind.label} object {checksum.hex()}"
                message = f"{name}: expected at most {MAX_METADATA_SIZE} bytes, found more"
                raise OstreeObjectError(message) from error
        if kind is ObjectKind.COMMIT:
            self._refuse_deleted(checksum)
        raise SourceObjectMissingError(checksum, kind, self.description, hint=self._hint())

    def _refuse_deleted(self, commit: Checksum) -> None:
        for repository in self.repositories:
            if repository.contains_object(commit, _TOMBSTONE):
                raise DeletedCommitError(
                    f"commit {commit.hex()} was deleted from {repository.path}",
                    hint="its tombstone is still there; pull another commit, or from another repository",
                )

    def find_detached(self, commit: Checksum) -> bytes | None:
        """Return the detached metadata of a commit, or None; see `ObjectSource.find_detached`."""
        for repository in self.repositories:
            try:
                data = repository.read_object(commit, "commitmeta", MAX_DETACHED_SIZE)
            except FileNotFoundError:
                continue
            return data or None  # An empty file means that it was deleted.
        return None

    def measure_files(self, checksums: Iterable[Checksum]) -> int:
        """Return how many bytes content objects take; those that are not there count nothing."""
        return sum(map(self._measure_file, checksums))

    def _measure_file(self, checksum: Checksum) -> int:
        for repository in self.repositories:
            size = repository.find_size(checksum, repository.mode.file_suffix)
            if size is not None:
                return size
        return 0

    def fetch_files(
        self, checksums: Iterable[Checksum], make_sink: Callable[[Checksum], ContentSink[T]]
    ) -> Iterator[T]:
        """Pass content objects through sinks, one after the other; see `ObjectSource.fetch_files`.

        Raises:
            ObjectMissingError: There is no such object.
        """
        for checksum in checksums:
            yield self._import_file(checksum, make_sink)

    def _import_file(self, checksum: Checksum, make_sink: Callable[[Checksum], ContentSink[T]]) -> T:
        for repository in self.repositories:
            sink = make_sink(checksum)
            try:
                send_file(repository, checksum, sink)
            except FileNotFoundError:
                continue
            return sink.finish()
        raise SourceObjectMissingError(checksum, ObjectKind.FILE, self.description, hint=self._hint())

    def explain_missing(self, commit: Checksum) -> str | None:
        """Return why a commit lacks objects, if the repository knows; see `ObjectSource.explain_missing`."""
        for repository in self.repositories:
            reason = repository.describe_partial(commit)
            if reason is not None:
                return (
                    f"commit {commit.hex()} is partial in {repository.path}: {reason}; "
                    "pull what it lacks into that repository first"
                )
        return None

    def _hint(self) -> str | None:
        """Add a hint if the repository has marked the commit as partial."""
        if any(repository.has_partial_commits() for repository in self.repositories):
            return "the repository has partial commits; pull what it lacks into it first"
        return None
