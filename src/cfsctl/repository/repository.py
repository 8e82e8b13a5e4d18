"""An open repository: its directory, its lock, and the stores in it."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import RepositoryError
from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.syscalls import syncfs
from cfsctl.progress import silent
from cfsctl.repository.locking.access import WriteAccess
from cfsctl.repository.locking.durability import Durability
from cfsctl.repository.locking.lock import RepositoryLock
from cfsctl.repository.metadata.config import AlgorithmMismatchError
from cfsctl.repository.metadata.file import Metadata, NotARepositoryError, VerityRequiredError, read_metadata
from cfsctl.repository.names.images import Images
from cfsctl.repository.names.streams import Streams
from cfsctl.repository.objects.space import explain_no_space
from cfsctl.repository.objects.store import ObjectStore
from cfsctl.repository.objects.verified import VerifiedObjects
from cfsctl.repository.setup.upgrade import CannotInferError, infer, infer_config, upgrade

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.progress import Reporter
    from cfsctl.repository.metadata.config import Config


def read_config(path: str, *, may_infer: bool = True) -> Config:
    """Return the configuration of a repository without locking it or changing anything.

    Args:
        path: The repository's directory.
        may_infer: Where there is no meta.json, return what an upgrade would write.

    Raises:
        NotARepositoryError: There is no repository, or no object to tell from.
        ConfigError: Its meta.json cannot be read.
        UnsupportedFeatureError: It was made by a newer program.
    """
    dirfd = _open_directory(path)
    try:
        metadata = read_metadata(dirfd)
        if metadata is not None:
            metadata.config.check_supported()
            return metadata.config
        if not may_infer:
            raise _not_initialised(path)
        try:
            return infer_config(dirfd)
        except CannotInferError as error:
            raise _cannot_infer(path, error) from error
    finally:
        os.close(dirfd)


_CANNOT_WRITE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def check_algorithm(found: Algorithm, expected: Algorithm | None) -> None:
    """Check that a repository has the hash algorithm that was requested.

    Args:
        found: What the repository has.
        expected: What was asked for, or None for anything.

    Raises:
        AlgorithmMismatchError: It has another one.
    """
    if expected is not None and found is not expected:
        raise AlgorithmMismatchError(
            f"repository is configured for {found.label} (from meta.json)"
            f" but --hash {expected.hash_name} was specified",
            hint="leave --hash out, or name another repository with --repo",
        )


def _open_directory(path: str) -> int:
    # Not O_PATH: the descriptor is locked. O_NONBLOCK only matters for what is not a directory.
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotARepositoryError(
            f"opening repository {path}: {error.strerror}",
            hint=f"check the path, or create a repository there with `cfsctl init {path}`",
        ) from error
    except NotADirectoryError as error:
        raise NotARepositoryError(
            f"opening repository {path}: {error.strerror}",
            hint="a repository is a directory: check the path given with --repo or CFSCTL_REPO",
        ) from error
    except PermissionError as error:
        raise RepositoryForbiddenError(
            error.errno or errno.EACCES,
            f"opening repository {path}: {error.strerror}",
            hint="run it as the owner of the repository or as root, or name another one with --repo",
        ) from error


def _not_initialised(path: str) -> NotARepositoryError:
    return NotARepositoryError(
        f"meta.json not found in {path}; this repository must be initialized with `cfsctl init`"
    )


def _cannot_infer(path: str, error: CannotInferError) -> NotARepositoryError:
    for kind, entries, hint in _OTHER_STORES:
        if all(os.path.exists(os.path.join(path, entry)) for entry in entries):
            return NotARepositoryError(
                f"{path} is {kind}, not a composefs repository", hint=hint.format(path=path)
            )
    return NotARepositoryError(
        f"{path} is not a composefs repository: it has no meta.json, and no objects to tell its hash from"
        f" ({error})",
        hint=f"check the path, or create a repository there with `cfsctl init {path}`",
    )


_OTHER_STORES: Final = (
    (
        "an OSTree repository",
        ("config", "objects", "refs"),
        "name a composefs repository with --repo, and pull: cfsctl --repo REPO ostree pull-local {path} REF",
    ),
    (
        "an OCI image layout",
        ("oci-layout", "index.json"),
        "name a composefs repository with --repo, and pull: cfsctl --repo REPO oci pull oci:{path} NAME",
    ),
)
"""What people take for a repository: what it is, entries that tell, and what to do."""


class RepositoryForbiddenError(RepositoryError, PermissionError):
    """A repository that this user may not open."""

    def __init__(self, number: int, message: str, *, hint: str) -> None:
        """Store errno, message and hint."""
        PermissionError.__init__(self, number, message)
        self.hint = hint

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.strerror)


class Repository:
    """A repository that is open, and locked against collection while it is.

    A context manager; `open` makes one.

    Attributes:
        path: The directory as the user named it.
        dirfd: Its descriptor, owned by the repository.
        config: The content of its meta.json.
        is_secure: Whether everything in it must have fs-verity.
        erofs_versions: Formats of which images are made, the default first.
        lock: Its lock, held shared.
        objects: Its objects.
        verified: Which of them need not be read before they are relied on.
        streams: Its named streams.
        images: Its images.
        durability: When what is written reaches the disk.
    """

    def __init__(
        self,
        path: str,
        dirfd: int,
        lock: RepositoryLock,
        metadata: Metadata,
        erofs_version: FormatVersion | None = None,
        durability: Durability = Durability.BARRIER,
    ) -> None:
        """Take ownership of an open directory and its lock; `open` is the way here."""
        self.path = path
        self.dirfd = dirfd
        self.lock = lock
        self.config: Config = metadata.config
        self.is_secure = metadata.is_secure
        self.erofs_versions = self.config.image_formats if erofs_version is None else (erofs_version,)
        self._access = WriteAccess(dirfd, path, self.config.unknown_read_only_features)
        self.objects = ObjectStore(
            dirfd, self.config.algorithm, is_secure=self.is_secure, check_writable=self._access.check
        )
        self.verified = VerifiedObjects(dirfd, self.config.algorithm)
        self.objects.verifier = self.verified
        self.streams = Streams(dirfd, self.objects, self._access.check)
        self.images = Images(dirfd, self.objects, self._access.check, self.sync)
        self.durability = durability
        self.objects.syncs_each = durability is Durability.PER_OBJECT
        for category in (self.streams.links, self.images.links):
            category.is_synced = durability is not Durability.NONE

    @classmethod
    def open(
        cls,
        path: str,
        *,
        algorithm: Algorithm | None = None,
        upgrade: bool = True,
        insecure: bool = False,
        require_verity: bool = False,
        erofs_version: FormatVersion | None = None,
        lock_timeout_s: float | None = None,
        durability: Durability = Durability.BARRIER,
        reporter: Reporter = silent,
    ) -> Repository:
        """Open the repository in the directory `path`.

        Args:
            path: The directory.
            algorithm: The hash algorithm it must have, or None for whichever it has.
            upgrade: Write a meta.json where there is only a repository of the old format.
            insecure: Do without fs-verity even if the repository has it.
            require_verity: Refuse an insecure repository.
            erofs_version: Make images in this format only, instead of the repository's format.
            lock_timeout_s: Longest time to wait while it is being collected; None waits forever.
            durability: When what is written reaches the disk.
            reporter: Told when that has to be waited for.

        Raises:
            NotARepositoryError: None exists.
            ConfigError: Its meta.json cannot be read.
            UnsupportedFeatureError: It was made by a newer program.
            AlgorithmMismatchError: It has another algorithm.
            VerityRequiredError: It is insecure and `require_verity` is set.
            LockedError: Another process held the exclusive lock for too long.
        """
        dirfd = _open_directory(path)
        try:
            lock = RepositoryLock(dirfd, path, reporter)
            lock.share(lock_timeout_s)
            with relative_to(path):
                metadata = _load(path, dirfd, algorithm, may_upgrade=upgrade)
            if insecure:
                metadata = metadata._replace(is_secure=False)
            if require_verity:
                _check_secure(metadata)
            return cls(path, dirfd, lock, metadata, erofs_version, durability)
        except BaseException:
            os.close(dirfd)
            raise

    @property
    def algorithm(self) -> Algorithm:
        """Hash algorithm of all object IDs."""
        return self.config.algorithm

    def check_writable(self) -> None:
        """Check that the repository may be written to.

        Raises:
            NotWritableError: It may not.
        """
        self._access.check()

    def sync(self, noting: Iterable[ObjectID] = ()) -> None:
        """Make everything durable that was written so far, by whichever process.

        The barrier between content and the names that lead to it: once per operation. There is none if
        the repository was opened without durability.

        Args:
            noting: Objects for `remember`, which looks at them while this waits for the disk; `remember`
                is to be called with the rest.
        """
        if self.durability is Durability.NONE:
            return
        if not noting:
            self._pass_barrier()
            return
        from cfsctl.workers import BackgroundCall  # only what stores much comes here

        barrier = BackgroundCall(self._pass_barrier)
        try:
            self.verified.confirm_all(noting, self.objects.stat)
        finally:
            barrier.finish()

    def _pass_barrier(self) -> None:
        syncfs(self.dirfd)

    @contextlib.contextmanager
    def flushing(self, *, is_worthwhile: bool) -> Iterator[None]:
        """Write what has been stored to the disk while the block runs, in a thread; no process may be forked.

        No barrier for what is stored in the block; it makes the barrier that follows short.

        Args:
            is_worthwhile: Whether the block takes long. If not, one sync for all takes less time than two.
        """
        if not is_worthwhile:
            yield
            return
        from cfsctl.workers import BackgroundCall  # only what stores much comes here

        flush = BackgroundCall(self.sync)
        try:
            yield
        finally:
            flush.finish()

    def note(self, object_ids: Iterable[ObjectID]) -> list[ObjectID]:
        """Check objects for `save_marks` while there is time; return those that are too young."""
        if self.durability is Durability.NONE:
            return []
        return self.verified.confirm_all(object_ids, self.objects.stat)

    def save_marks(self, object_ids: Iterable[ObjectID]) -> None:
        """Record that objects need not be read again as long as they do not change.

        Args:
            object_ids: Objects that were written, or found to be sound, by this operation; they and all
                names must be behind the barrier.
        """
        if self.durability is not Durability.NONE:
            self.verified.confirm_all(object_ids, self.objects.stat)
            self.verified.save()

    def close(self) -> None:
        """Release the lock and close everything; may be called again."""
        if self.dirfd < 0:
            return
        self.objects.close()
        # Forked processes share the descriptor, so closing it would not end the lock.
        self.lock.release()
        os.close(self.dirfd)
        self.dirfd = -1

    def __enter__(self) -> Self:
        """Return the repository itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it.

        Raises:
            NoSpaceError: Its file system is full, if that is what ended the block.
        """
        try:
            explain_no_space(value, self.dirfd, f"repository {self.path}")
        finally:
            self.close()


def _check_secure(metadata: Metadata) -> None:
    if not metadata.is_secure:
        raise VerityRequiredError(
            "repository was not initialized with fs-verity",
            hint="re-create with `cfsctl init` on a verity-capable filesystem",
        )


def _load(path: str, dirfd: int, expected: Algorithm | None, *, may_upgrade: bool) -> Metadata:
    """Read the metadata, writing it first where there is none and that is allowed."""
    metadata = read_metadata(dirfd)
    if metadata is None:
        if not may_upgrade:
            raise _not_initialised(path)
        metadata = _upgrade(path, dirfd, expected)
    metadata.config.check_supported()
    check_algorithm(metadata.config.algorithm, expected)
    return metadata


def _upgrade(path: str, dirfd: int, expected: Algorithm | None) -> Metadata:
    try:
        found = infer(dirfd)
    except CannotInferError as error:
        raise _cannot_infer(path, error) from error
    check_algorithm(found.algorithm, expected)
    try:
        upgrade(dirfd)
    except FileExistsError:
        pass  # another process wrote it in the meantime; its file is read below
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        return Metadata(infer_config(dirfd), is_secure=found.is_secure)  # it can be read all the same
    metadata = read_metadata(dirfd)
    if metadata is None:
        raise _not_initialised(path)
    return metadata
