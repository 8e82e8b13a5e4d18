"""The repositories that a connection has opened.

A handle holds neither a lock nor a descriptor while no call uses it, so that clients that wait, or were
forgotten, keep nobody from collecting garbage. There is one exception: after layers have been put into a
repository, its lock is held until an image names them. Within a process a repository is open once, however
many handles there are, because a process would wait for its own lock forever.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import cfsctl
from cfsctl.varlink.registry import HandleRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.varlink.options import ServiceOptions
    from cfsctl.varlink.registry import HandleStore

    Identity = tuple[int, int]


class InvalidHandleError(Exception):
    """A handle that does not exist, or that this connection may not use."""


class ReplacedError(cfsctl.RepositoryError):
    """A path that no longer leads to the repository that a handle was opened for."""


class TooManyHandlesError(cfsctl.CfsError):
    """More handles than a connection may have."""


class Handles:
    """The repositories of one connection."""

    def __init__(self, store: HandleStore, options: ServiceOptions) -> None:
        """Have none yet.

        Args:
            store: Knows the handles of all connections.
            options: How repositories are opened.
        """
        self._store = store
        self._options = options
        self._paths: dict[int, str] = {}
        self._kept: dict[Identity, cfsctl.Repository] = {}
        self._keepers: dict[int, tuple[Identity, set[str]]] = {}

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[tuple[int, cfsctl.Repository]]:
        """Open a repository for the block, and yield its new handle with it.

        Raises:
            TooManyHandlesError: There are too many.
            CfsError: There is no repository, or it is not as the options have it.
        """
        with self._open(path) as repository:
            handle = self._store.open(HandleRecord(os.path.abspath(path), *repository.identity))
            if handle is None:
                raise TooManyHandlesError("too many handles", hint="close those that are no longer needed")
            yield handle, repository

    def _open(self, path: str) -> cfsctl.Repository:
        options = self._options
        return cfsctl.Repository.open(
            path,
            upgrade=options.upgrade,
            insecure=options.insecure,
            require_verity=options.require_verity,
            lock_timeout_s=options.lock_timeout_s,
            durability=options.durability or cfsctl.Durability.BARRIER,
        )

    @contextlib.contextmanager
    def use(self, handle: int) -> Iterator[cfsctl.Repository]:
        """Open the repository of a handle for the block.

        Raises:
            InvalidHandleError: There is no such handle.
            ReplacedError: There is another repository at its path now.
            CfsError: It no longer exists.
        """
        record = self._store.find(handle)
        if record is None:
            raise InvalidHandleError
        self._paths[handle] = record.path
        identity = (record.device, record.inode)
        kept = self._kept.get(identity)
        if kept is not None:
            yield kept
            return
        with contextlib.ExitStack() as stack:
            repository = stack.enter_context(self._open(record.path))
            if repository.identity != identity:
                raise ReplacedError(
                    f"{record.path} is no longer the repository that the handle was opened for",
                    hint="open it again",
                )
            yield repository
            if identity in self._kept:
                stack.pop_all()

    @contextlib.contextmanager
    def use_alone(self, handle: int) -> Iterator[cfsctl.Repository]:
        """Open the repository of a handle once more, in a process that was forked and has a lock of its own.

        Raises:
            CfsError: The repository no longer exists.
        """
        with self._open(self._paths[handle]) as repository:
            yield repository

    def keep(self, handle: int, repository: cfsctl.Repository, root: str) -> None:
        """Keep the repository of a handle open when the block of `use` ends, and something in it from `Gc`.

        Args:
            handle: The handle.
            repository: Its repository.
            root: What a collection on this connection has to keep.
        """
        identity = repository.identity
        self._kept[identity] = repository
        self._keepers.setdefault(handle, (identity, set()))[1].add(root)

    def list_roots(self, repository: cfsctl.Repository) -> list[str]:
        """Return what a collection of a repository has to keep."""
        identity = repository.identity
        return sorted(root for kept, roots in self._keepers.values() if kept == identity for root in roots)

    def release(self, handle: int) -> None:
        """Close a repository that was kept open, unless another handle keeps it."""
        found = self._keepers.pop(handle, None)
        if found is not None and all(identity != found[0] for identity, _ in self._keepers.values()):
            self._kept.pop(found[0]).close()

    def close_all(self) -> None:
        """Close all repositories."""
        for handle in list(self._keepers):
            self.release(handle)

    def close(self, handle: int) -> None:
        """Forget a handle.

        Raises:
            InvalidHandleError: There is no such handle.
        """
        if not self._store.close(handle):
            raise InvalidHandleError
        self.release(handle)
