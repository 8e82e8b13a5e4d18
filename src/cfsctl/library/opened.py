"""Opening and closing a repository; the base of all that `Repository` does."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.library.configuration import Configuration
from cfsctl.library.events import cancellable, make_reporter
from cfsctl.progress import Message
from cfsctl.repository import Durability
from cfsctl.repository import Repository as Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from cfsctl.library.events import Progress
    from cfsctl.library.paths import StrPath


class OpenedRepository:
    """A repository that is open until it is closed."""

    def __init__(self, store: object) -> None:
        """Wrap an opened repository; programs call `open` or `init`.

        Raises:
            TypeError: This is not an open repository.
        """
        if not isinstance(store, Store):
            name = type(self).__name__
            raise TypeError(f"{name}({store!r}) opens nothing: use {name}.open(path) or {name}.init(path)")
        self._opened: Store | None = store
        self._path = store.path

    @classmethod
    @cancellable
    def init(
        cls,
        path: StrPath,
        *,
        algorithm: Algorithm = Algorithm.SHA512,
        erofs_version: FormatVersion = FormatVersion.V1,
        insecure: bool = False,
        exist_ok: bool = False,
        lock_timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Make a directory a repository, and open it.

        Args:
            path: The directory; it and its parents are made where they are missing.
            algorithm: Hash of its objects.
            erofs_version: Format of its images.
            insecure: Do without fs-verity.
            exist_ok: Open a repository that exists, however it is configured; without, it must be
                configured as asked for.
            lock_timeout_s: Longest time to wait for a collection to end; None waits forever.
            progress: Told when that has to be waited for.

        Raises:
            RepositoryError: There is a repository with another configuration, or no fs-verity.
            LockedError: The timeout expired.
        """
        from cfsctl.library.setup import init_repository

        init_repository(
            path,
            algorithm=algorithm,
            erofs_version=erofs_version,
            insecure=insecure,
            exist_ok=exist_ok,
            lock_timeout_s=lock_timeout_s,
            progress=progress,
        )
        return cls.open(path, insecure=insecure, lock_timeout_s=lock_timeout_s, progress=progress)

    @classmethod
    @cancellable
    def open(
        cls,
        path: StrPath,
        *,
        algorithm: Algorithm | None = None,
        erofs_version: FormatVersion | None = None,
        upgrade: bool = True,
        insecure: bool = False,
        require_verity: bool = False,
        durability: Durability = Durability.BARRIER,
        lock_timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Open the repository in a directory.

        Args:
            path: The directory.
            algorithm: The hash that it must have, or None for any.
            erofs_version: Make images in this format only, or None for those that the repository is
                configured for.
            upgrade: Write a meta.json where there is only a repository of the old format.
            insecure: Do without fs-verity even if the repository has it.
            require_verity: Refuse a repository without.
            durability: When what is written reaches the disk.
            lock_timeout_s: Longest time to wait for a collection to end; None waits forever.
            progress: Told when that has to be waited for.

        Raises:
            NotARepositoryError: None exists.
            RepositoryError: It does not meet the arguments.
            LockedError: The timeout expired.
        """
        store = Store.open(
            os.fspath(path),
            algorithm=algorithm,
            upgrade=upgrade,
            insecure=insecure,
            require_verity=require_verity,
            erofs_version=erofs_version,
            lock_timeout_s=lock_timeout_s,
            durability=durability,
            reporter=make_reporter(progress),
        )
        return cls(store)

    def close(self) -> None:
        """Close the repository; may be called again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> Self:
        """Return the repository itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it.

        Raises:
            RepositoryError: Its file system is full, if that is what ended the block.
        """
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.__exit__(kind, value, trace)

    def __repr__(self) -> str:
        """Return the path and whether it is open."""
        state = "" if self._opened is not None else ", closed"
        return f"<{type(self).__name__} {self._path!r}{state}>"

    @property
    def _store(self) -> Store:
        """The open repository of the room below.

        Raises:
            ValueError: It is closed.
        """
        if self._opened is None:
            raise ValueError(f"repository {self._path} is closed: open it again to use it")
        return self._opened

    @property
    def path(self) -> str:
        """The directory as it was named."""
        return self._path

    @property
    def stateroot(self) -> str:
        """The directory that has the repository: where a booted system has ``state/deploy``."""
        return os.path.dirname(os.path.abspath(self._path))

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of its directory, which are the same whatever path it was opened by."""
        status = os.fstat(self._store.dirfd)
        return status.st_dev, status.st_ino

    @property
    def is_closed(self) -> bool:
        """Whether it is closed."""
        return self._opened is None

    @property
    def algorithm(self) -> Algorithm:
        """Hash of all object IDs."""
        return self._store.algorithm

    @property
    def erofs_versions(self) -> tuple[FormatVersion, ...]:
        """Formats of which images are made, the default first."""
        return tuple(self._store.erofs_versions)

    @property
    def configuration(self) -> Configuration:
        """How it is configured, whatever it was opened for."""
        return Configuration.of(self._store.config)

    @property
    def is_secure(self) -> bool:
        """Whether everything in it must have fs-verity."""
        return self._store.is_secure


def store_of(repository: OpenedRepository) -> Store:
    """Return the open repository of the room below, for other modules of this room.

    Raises:
        ValueError: It is closed.
    """
    return repository._store  # noqa: SLF001 - this is what it is for


@contextlib.contextmanager
def moving(
    repository: OpenedRepository, progress: Progress | None, *, replace: bool = True, keep: int | None = None
) -> Iterator[None]:
    """Report what happens to refs that are set within the block, for other modules of this room.

    Args:
        repository: The repository.
        progress: Told which refs were taken from what they named.
        replace: Whether they may be taken from it.
        keep: Number of earlier targets of each to keep; None leaves histories as they are.

    Raises:
        ValueError: The repository is closed.
    """
    from cfsctl.repository.history.moves import RefMoves  # only what sets refs comes here

    report = make_reporter(progress)
    moves = RefMoves(
        store_of(repository), may_replace=replace, keep=keep, tell=lambda text: report(Message(text))
    )
    with moves.in_place():
        yield
