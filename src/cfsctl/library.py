"""The public library: what programs may rely on, by the names that the package `cfsctl` gives it.

Thin on purpose: everything here is done in the rooms below, and each method says in which. Programs import
the names from `cfsctl`, which loads this module and others only when a name of theirs is used.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import CfsError
from cfsctl.progress import Event, silent
from cfsctl.repository import Repository as _Store
from cfsctl.repository import init_repository

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import Checksum
    from cfsctl.http.fetcher import Options as ConnectionOptions
    from cfsctl.inspection.diff import Attribute, Difference
    from cfsctl.mount import WritableLayer
    from cfsctl.ostree.delta.store import DeltaStore
    from cfsctl.ostree.pull.pull import PullResult
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.progress import Reporter
    from cfsctl.repository.check.report import FsckReport
    from cfsctl.repository.gc.collect import GcResult
    from cfsctl.tree.transform import XattrFilter

    StrPath: TypeAlias = str | os.PathLike[str]

Progress: TypeAlias = Callable[[Event], object]
"""What hears of progress; if it raises, the operation ends with that error."""


class CancelledError(CfsError):
    """For progress callbacks that end an operation and have no error of their own to raise."""

    def __init__(self, message: str = "cancelled", *, hint: str | None = None) -> None:
        """Take a message, which hardly anybody needs."""
        super().__init__(message, hint=hint)


def _reporter(progress: Progress | None) -> Reporter:
    """Return what tells a callback of events; once that has raised, it raises the same again and again.

    So an operation that recovers from the error, as a pull does from a broken delta, ends all the same.
    """
    if progress is None:
        return silent
    raised: list[BaseException] = []

    def report(event: Event, /) -> None:
        if raised:
            raise raised[0]
        try:
            progress(event)
        except BaseException as error:
            raised.append(error)
            raise

    return report


def _text(path: StrPath) -> str:
    return os.fspath(path)


class Repository:
    """An open repository; nobody collects garbage in it in the meantime.

    A context manager. Use it from one thread at a time; several processes, and several instances for one
    directory, may work side by side.
    """

    def __init__(self, store: _Store) -> None:
        """Take over what `open` and `init` have opened; they are the way here."""
        self._store = store

    @classmethod
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
            exist_ok: Open a repository that is there, however it is configured; without, it must be
                configured as asked for.
            lock_timeout_s: Longest time to wait for a collection to end; None waits forever.
            progress: Told when that has to be waited for.

        Raises:
            RepositoryError: There is a repository with another configuration, or no fs-verity.
            LockedError: The timeout expired.
        """
        reporter = _reporter(progress)
        init_repository(
            _text(path),
            algorithm=algorithm,
            erofs_version=erofs_version,
            insecure=insecure,
            ensure=exist_ok,
            lock_timeout_s=lock_timeout_s,
            reporter=reporter,
        )
        return cls.open(path, insecure=insecure, lock_timeout_s=lock_timeout_s, progress=progress)

    @classmethod
    def open(
        cls,
        path: StrPath,
        *,
        algorithm: Algorithm | None = None,
        insecure: bool = False,
        require_verity: bool = False,
        lock_timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Open the repository in a directory.

        Args:
            path: The directory.
            algorithm: The hash that it must have, or None for whichever it has.
            insecure: Do without fs-verity even if the repository has it.
            require_verity: Refuse a repository without.
            lock_timeout_s: Longest time to wait for a collection to end; None waits forever.
            progress: Told when that has to be waited for.

        Raises:
            NotARepositoryError: None exists.
            RepositoryError: It is not as it has to be.
            LockedError: The timeout expired.
        """
        store = _Store.open(
            _text(path),
            algorithm=algorithm,
            insecure=insecure,
            require_verity=require_verity,
            lock_timeout_s=lock_timeout_s,
            reporter=_reporter(progress),
        )
        return cls(store)

    def close(self) -> None:
        """Release the repository; harmless when repeated."""
        self._store.close()

    def __enter__(self) -> Self:
        """Return the repository itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def path(self) -> str:
        """The directory as it was named."""
        return self._store.path

    @property
    def algorithm(self) -> Algorithm:
        """Hash of all object IDs."""
        return self._store.algorithm

    @property
    def is_secure(self) -> bool:
        """Whether everything in it must have fs-verity."""
        return self._store.is_secure

    # Names

    def images(self) -> dict[str, ObjectID]:
        """Return the images that have a ref, by ref, sorted."""
        found = (
            (ref.name, self._store.images.find(f"refs/{ref.name}")) for ref in self._store.images.list_refs()
        )
        return {name: image_id for name, image_id in found if image_id is not None}

    def tags(self) -> dict[str, Checksum]:
        """Return the OSTree commits that have a tag, by tag, sorted."""
        from cfsctl.ostree.store.refs import list_tags  # noqa: PLC0415 - only where it is needed

        return dict(list_tags(self._store))

    def find_image(self, name: str) -> ObjectID | None:
        """Return the image that has a ref or an ID, or None."""
        return self._store.images.find(name)

    def commit_image(self, source: str, *, progress: Progress | None = None) -> ObjectID:
        """Return the image of an OSTree commit, which is made if it is missing.

        Args:
            source: A tag, the ID of a commit, or the beginning of one.
            progress: Told about what was found damaged.

        Raises:
            RepositoryError: There is no such commit, or more than one.
        """
        from cfsctl.ostree.store.images import source_image  # noqa: PLC0415 - only where it is needed

        return source_image(self._store, source, reporter=_reporter(progress))

    def tag(self, source: str, name: str) -> Checksum:
        """Give a commit a tag, in place of what had it before.

        Raises:
            RepositoryError: There is no such commit, or more than one, or the name cannot be a tag.
        """
        from cfsctl.ostree.store.partial_tags import tag_commit  # noqa: PLC0415 - only where it is needed

        return tag_commit(self._store, source, name)

    def untag(self, name: str) -> None:
        """Take a tag away; the commit stays until garbage is collected.

        Raises:
            RepositoryError: There is no such tag.
        """
        from cfsctl.ostree.store.partial_tags import untag  # noqa: PLC0415 - only where it is needed

        untag(self._store, name)

    def remove_image(self, ref: str) -> None:
        """Take the ref of an image away; the image stays until garbage is collected.

        Raises:
            RefNotFoundError: There is no such ref.
        """
        self._store.images.remove_ref(ref)

    # Work

    def pull(
        self,
        source: StrPath,
        ref: str,
        *,
        base: str | None = None,
        allow_downgrade: bool = False,
        allow_unverified: bool = False,
        subpaths: Sequence[str] = (),
        use_deltas: bool = True,
        trust: TrustPolicy | None = None,
        connection: ConnectionOptions | None = None,
        progress: Progress | None = None,
    ) -> PullResult:
        """Bring an OSTree commit into the repository, and make the tag of its ref name it.

        A pull that ends early leaves names as they were, and the next one goes on where it was.

        Args:
            source: URL of an archive repository, or the directory of one in any mode.
            ref: A ref there, which becomes the tag too, or the ID of a commit.
            base: A commit that is here (tag, ID or beginning of one) and has much in common with it.
            allow_downgrade: Let the tag go back to an older commit.
            allow_unverified: Let the tag go from a commit that was verified to one that is not.
            subpaths: Pull only what is at these paths.
            use_deltas: Take static deltas where they cost less than objects; only with a URL.
            trust: What the commit has to prove; see `trust_keys`.
            connection: How to reach a server; None is as the environment says about proxies.
            progress: Told what arrives.

        Raises:
            FetchError: A server does not answer as it should.
            FormatError, IntegrityError: Something is not valid.
            PolicyError: The commit must not have this tag, or is not signed as it has to be.
            CfsError: The source is none, or lacks something.
        """
        from cfsctl.ostree.pull.pull import pull  # noqa: PLC0415 - only where it is needed

        opened, deltas = _open_source(_text(source), trust, connection)
        with contextlib.closing(opened):
            return pull(
                self._store,
                opened,
                ref,
                base_name=base,
                allow_downgrade=allow_downgrade,
                allow_unverified=allow_unverified,
                subpaths=subpaths,
                deltas=deltas if use_deltas else None,
                trust=trust,
                reporter=_reporter(progress),
            )

    def create_image(
        self,
        path: StrPath,
        ref: str | None = None,
        *,
        as_root: bool = True,
        xattrs: XattrFilter | None = None,
        use_cache: bool = True,
        progress: Progress | None = None,
    ) -> ObjectID:
        """Store a directory and make an image of it.

        Args:
            path: The directory.
            ref: A ref for the image, or None.
            as_root: It is the root of a system or of a container: the root directory takes the metadata of
                ``/usr``, ``/run`` is emptied, and only portable extended attributes stay.
            xattrs: With `as_root`, the extended attributes that stay; None is ``security.capability``.
            use_cache: Let the repository remember what was read, and read less the next time.
            progress: Told how many entries have been seen.

        Raises:
            InvalidNameError: The ref cannot be one.
            CfsError: The tree changed in the meantime, or cannot be an image.
        """
        from cfsctl.scan import create_image  # noqa: PLC0415 - only where it is needed
        from cfsctl.tree.transform import XattrFilter  # noqa: PLC0415 - the same

        return create_image(
            self._store,
            _text(path),
            ref,
            xattr_filter=xattrs or XattrFilter.ALLOWLIST_ONLY,
            propagate_usr=as_root,
            use_cache=use_cache,
            reporter=_reporter(progress),
        )

    def mount(
        self,
        image: str | ObjectID,
        mountpoint: StrPath,
        *,
        writable_layer: WritableLayer | None = None,
    ) -> None:
        """Mount an image; the mount outlives this object.

        Args:
            image: Its ref or ID.
            mountpoint: A directory.
            writable_layer: Where changes go; None is a tree that cannot change.

        Raises:
            RefNotFoundError: There is no such image.
            IntegrityError: It is missing or damaged.
            OSError: The kernel refused; nothing is mounted then.
        """
        from cfsctl.repository.mounting import mount_stored_image  # noqa: PLC0415 - only where it is needed

        mount_stored_image(
            self._store,
            image if isinstance(image, str) else image.hex(),
            _text(mountpoint),
            writable_layer=writable_layer,
            read_write=writable_layer is not None,
        )

    @contextlib.contextmanager
    def mounted(
        self, image: str | ObjectID, mountpoint: StrPath, *, writable_layer: WritableLayer | None = None
    ) -> Iterator[None]:
        """Mount an image as `mount` does, for as long as the block lasts."""
        from cfsctl.linux.mountapi import umount  # noqa: PLC0415 - only where it is needed

        self.mount(image, mountpoint, writable_layer=writable_layer)
        try:
            yield
        finally:
            umount(_text(mountpoint))

    def gc(
        self,
        *,
        extra_roots: Iterable[str] = (),
        dry_run: bool = False,
        grace_s: float = 0,
        max_delete: int | None = None,
        lock_timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> GcResult:
        """Remove every object that neither a ref, nor a mount, nor an extra root leads to.

        Args:
            extra_roots: Further images and streams to keep, by any of their names.
            dry_run: Count only.
            grace_s: Keep garbage that is younger than this, in seconds.
            max_delete: Remove nothing if more objects than this are garbage.
            lock_timeout_s: Longest time to wait until nobody else has the repository open; None waits for
                ever.
            progress: Told what is looked through and removed. If it raises, the collection ends there; names
                go before objects, so every name still leads to a whole tree.

        Raises:
            RefNotFoundError: An extra root that does not exist.
            RepositoryError: Too much is garbage, or nothing may be written.
            LockedError: The timeout expired.
        """
        from cfsctl.kinds.registry import prepare_collection  # noqa: PLC0415 - only where it is needed
        from cfsctl.repository.gc.collect import DeleteLimit, collect_garbage  # noqa: PLC0415 - the same

        return collect_garbage(
            self._store,
            extra_roots=extra_roots,
            dry_run=dry_run,
            grace_s=grace_s,
            limit=None if max_delete is None else DeleteLimit(max_delete, is_percentage=False),
            lock_timeout_s=lock_timeout_s,
            prepare=prepare_collection,
            reporter=_reporter(progress),
        )

    def fsck(
        self, *, metadata_only: bool = False, deep: bool = False, progress: Progress | None = None
    ) -> FsckReport:
        """Check that everything is there and is what its name says; nothing is changed.

        Args:
            metadata_only: Leave the content of objects alone.
            deep: Read and decode everything, also what the kernel vouches for.
            progress: Told how many parts have been checked.
        """
        from cfsctl.repository.check.fsck import check_repository  # noqa: PLC0415 - only where it is needed

        checks = None
        if not metadata_only:
            from cfsctl.kinds.checks import content_checks  # noqa: PLC0415 - only where it is needed

            checks = content_checks(self._store, is_deep=deep)
        return check_repository(
            self._store,
            metadata_only=metadata_only,
            deep=deep,
            content_checks=checks,
            reporter=_reporter(progress),
        )

    def diff(
        self,
        old: str,
        new: str,
        *,
        ignore: Collection[Attribute] = (),
        as_root: bool = True,
        progress: Progress | None = None,
    ) -> Iterator[Difference]:
        """Return what is different between two trees, in the order of paths, each as soon as it is known.

        Args:
            old: A directory, an image, a dump or an OSTree commit; what a name means can be said by
                ``dir:``, ``image:``, ``dump:`` or ``commit:`` before it.
            new: The same.
            ignore: Attributes that do not count.
            as_root: Take directories as `create_image` does.
            progress: Told how many entries of a directory have been seen.

        Raises:
            CfsError: A name leads to nothing, or to what cannot be read.
        """
        from cfsctl.inspection.diff import iter_differences  # noqa: PLC0415 - only where it is needed
        from cfsctl.inspection.sources import SourceFinder, common_algorithm  # noqa: PLC0415 - the same
        from cfsctl.kinds.kind import Reading  # noqa: PLC0415 - the same
        from cfsctl.ostree.tree.to_tree import XattrNames  # noqa: PLC0415 - the same
        from cfsctl.tree.transform import XattrFilter  # noqa: PLC0415 - the same

        reading = Reading(as_root, XattrFilter.ALLOWLIST_ONLY, XattrNames.STRIPPED, _reporter(progress))
        finder = SourceFinder(lambda: self._store, reading)
        sources = [finder.find(name) for name in (old, new)]
        algorithm = common_algorithm(sources, self._store.algorithm)
        before, after = (source.read(algorithm) for source in sources)
        return iter_differences(before, after, ignored=ignore)


def _open_source(
    where: str, trust: TrustPolicy | None, connection: ConnectionOptions | None
) -> tuple[ObjectSource, DeltaStore | None]:
    """Return what a URL or a directory stands for, and where its deltas are."""
    if "://" not in where:
        from cfsctl.ostree.sources.local import open_local  # noqa: PLC0415 - only where it is needed

        return open_local(where, trust), None
    from cfsctl.http import open_fetcher  # noqa: PLC0415 - brings a client along
    from cfsctl.http.fetcher import Limits, Options, named_origins  # noqa: PLC0415 - the same
    from cfsctl.http.proxies import environment_proxies, read_variable  # noqa: PLC0415 - the same
    from cfsctl.ostree.delta.remote import RemoteDeltas  # noqa: PLC0415 - the same
    from cfsctl.ostree.sources.remote import RemoteSource  # noqa: PLC0415 - the same
    from cfsctl.workers import default_worker_count  # noqa: PLC0415 - the same

    if connection is None:
        connection = Options(proxies=environment_proxies(), no_proxy=read_variable("no_proxy"))
    if connection.origins is None:
        connection = replace(connection, origins=named_origins([where.removeprefix("mirrorlist=")]))
    source = RemoteSource(where, open_fetcher(Limits.shared(default_worker_count()), connection), trust)
    return source, RemoteDeltas(source)
