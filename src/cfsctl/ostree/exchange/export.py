"""Write a stored commit to an OSTree repository in a directory.

    state/<commit>.commitpartial    first of all
    files, dirtrees, dirmetas       verified while they are copied, then given their names
    barrier
    detached metadata, commit
    barrier
    state/<commit>.commitpartial    removed, then the ref moved

After an interrupted export, the repository has a marker that the commit is partial, and no ref to it.
Existing objects are not changed. The repository is locked like `ostree` locks it for writers, so that no
objects are pruned during the export.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.files import AnonymousFile, fsync_directory, write_all
from cfsctl.linux.syscalls import syncfs
from cfsctl.ostree.exchange.export_files import FileExporter
from cfsctl.ostree.objects import ObjectKind, parse_dirtree
from cfsctl.ostree.source import check_ref_name
from cfsctl.ostree.sources.local_repository import (
    LocalRepository,
    RepositoryMode,
    UnsupportedModeError,
    make_fan_out,
    open_made,
)
from cfsctl.ostree.store.commitmeta import read_detached
from cfsctl.ostree.store.refs import open_commit
from cfsctl.ostree.store.upstream_made import require_ostree_form
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.repository.objects.space import explain_no_space

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

EXPORT_ID: Final = "export"
"""ID of the progress events of an export."""

_WRITABLE_MODES: Final = [mode for mode in RepositoryMode if mode is not RepositoryMode.BARE_SPLIT_XATTRS]

_FILE_MODE: Final = 0o644
_REPORT_EVERY: Final = 64
"""Files between two events of progress."""


def export_commit(
    repository: Repository,
    checksum: Checksum,
    path: str,
    reference: str | None = None,
    reporter: Reporter = silent,
) -> None:
    """Write a stored commit to an OSTree repository.

    Args:
        repository: Where the commit is.
        checksum: The commit.
        path: The OSTree repository, in mode archive, bare, bare-user or bare-user-only.
        reference: A branch to move to the commit, or None.
        reporter: Told how many files have been written.

    Raises:
        CommitNotFoundError: The commit is not stored.
        InvalidRefError: The branch cannot be one; nothing was written.
        NotAnOstreeRepositoryError: There is no OSTree repository at the path.
        UnsupportedModeError: It has a mode that nothing can be written in.
        OstreeObjectError: An object that the mode cannot hold, or no program of OSTree can read; nothing was
            written.
        RepositoryInUseError: It is being pruned, and that does not end.
        FormatError, IntegrityError: What is stored is damaged.
    """
    if reference is not None:
        check_ref_name(reference)
    stream = open_commit(repository, checksum)
    require_ostree_form(stream)
    target = LocalRepository(path, is_written=True)
    try:
        if target.mode is RepositoryMode.BARE_SPLIT_XATTRS:
            raise UnsupportedModeError(target.mode.value, path, _WRITABLE_MODES)
        with relative_to(path):
            _Export(repository, stream, target, reporter).run(reference)
    except OSError as error:
        explain_no_space(error, target.root(), f"OSTree repository {path}")
        raise
    finally:
        target.close()


class _Export:
    """The export of one commit."""

    def __init__(
        self, repository: Repository, stream: CommitStream, target: LocalRepository, reporter: Reporter
    ) -> None:
        self._repository = repository
        self._stream = stream
        self._target = target
        self._report = reporter
        self._temporary = open_made(target.root(), "tmp")

    def run(self, reference: str | None) -> None:
        try:
            self._run(reference)
        finally:
            os.close(self._temporary)

    def _run(self, reference: str | None) -> None:
        exporter = FileExporter(self._repository.objects, self._target, self._temporary)
        files, metadata = self._walk()
        for file in files:
            exporter.check(file, self._find(file, ObjectKind.FILE)[0])
        commit = self._stream.checksum
        state = open_made(self._target.root(), "state")
        partial = f"{commit.hex()}.commitpartial"
        try:
            self._write(state, partial, b"")
            self._report(Started(EXPORT_ID, len(files), Unit.ITEMS))
            for done, file in enumerate(files):
                exporter.export(file, *self._find(file, ObjectKind.FILE))
                if not done % _REPORT_EVERY:
                    self._report(Advanced(EXPORT_ID, done, len(files)))
            self._report(Done(EXPORT_ID, len(files)))
            for checksum, kind in metadata.items():
                self._write_object(checksum, kind.suffix, self._stream.get_metadata(checksum, kind))
            self._sync()
            self._write_commit()
            self._sync()
            os.unlink(partial, dir_fd=state)
            fsync_directory(state)
        finally:
            os.close(state)
        if reference is not None:
            self._write_ref(reference)

    def _walk(self) -> tuple[list[Checksum], dict[Checksum, ObjectKind]]:
        """Return all files and all metadata of the commit's tree, each once."""
        commit = self._stream.commit
        files: dict[Checksum, None] = {}
        metadata = {commit.root_dirmeta: ObjectKind.DIRMETA, commit.root_dirtree: ObjectKind.DIRTREE}
        pending = [commit.root_dirtree]
        while pending:
            tree = parse_dirtree(self._stream.get_metadata(pending.pop(), ObjectKind.DIRTREE))
            files.update(dict.fromkeys(entry[1] for entry in tree.files))
            for _, dirtree, dirmeta in tree.dirs:
                metadata[dirmeta] = ObjectKind.DIRMETA
                if dirtree not in metadata:
                    metadata[dirtree] = ObjectKind.DIRTREE
                    pending.append(dirtree)
        return list(files), metadata

    def _find(self, checksum: Checksum, kind: ObjectKind) -> StoredContent:
        found = self._stream.find(checksum)
        return found if found is not None else self._stream.fail_missing(checksum, kind)

    def _write_commit(self) -> None:
        """Write the commit after what is said about it, so that it is never there without."""
        commit = self._stream.checksum
        detached = read_detached(self._repository, self._stream)
        directory = make_fan_out(self._target, commit)
        name = commit.hex()[2:]
        if detached is not None:
            self._write(directory, f"{name}.commitmeta", detached)
        self._write_object(commit, "commit", self._stream.commit_data)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{name}.tombstone-commit", dir_fd=directory)

    def _write_object(self, checksum: Checksum, suffix: str, data: bytes) -> None:
        if not self._target.contains_object(checksum, suffix):
            self._write(make_fan_out(self._target, checksum), f"{checksum.hex()[2:]}.{suffix}", data)

    def _write(self, directory: int, name: str, data: bytes) -> None:
        with AnonymousFile(self._temporary, _FILE_MODE) as file:
            write_all(file.fd, data)
            os.utime(file.fd, (0, 0))
            file.replace(directory, name)

    def _write_ref(self, reference: str) -> None:
        """Move a branch; it is durable when this returns."""
        *parents, name = reference.split("/")
        # One by one, without following links: the links are not trusted and could lead out of the repository.
        directory = open_made(self._target.root(), "refs")
        try:
            path = "refs"
            for parent in ("heads", *parents):
                with relative_to(path):
                    below = open_made(directory, parent)
                path = f"{path}/{parent}"
                fsync_directory(directory)
                os.close(directory)
                directory = below
            with AnonymousFile(self._temporary, _FILE_MODE) as file:
                write_all(file.fd, self._stream.checksum.hex().encode() + b"\n")
                os.fsync(file.fd)
                with relative_to(path):
                    file.replace(directory, name)
            fsync_directory(directory)
        finally:
            os.close(directory)

    def _sync(self) -> None:
        syncfs(self._temporary)
