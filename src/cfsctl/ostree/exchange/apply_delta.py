"""Apply a delta from a local file, without a source repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar

from cfsctl.ostree.delta.format import MAX_SUPERBLOCK_BYTES, DeltaError
from cfsctl.ostree.delta.store import DeltaFile
from cfsctl.ostree.delta.superblock import Superblock, parse_superblock, unwrap
from cfsctl.ostree.pull.pull import PullOptions, PullResult, pull
from cfsctl.ostree.source import SourceObjectMissingError, ref_not_found
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import ObjectKind
    from cfsctl.ostree.source import ContentSink
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.ostree.trust.verdict import ValidSignature
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

T = TypeVar("T")


class DeltaOnlySource:
    """A source that has nothing: what a delta does not make is missing. See `Source`."""

    def __init__(self, description: str, superblock: Superblock) -> None:
        """Store the name for messages, and the superblock with its fallback objects."""
        self.description = description
        self._detached = superblock.commitmeta
        fallbacks = len(superblock.fallbacks)
        self._hint = (
            f"the delta leaves {fallbacks} objects to be fetched by themselves: pull the commit instead"
            if fallbacks
            else None
        )

    def resolve_ref(self, name: str) -> Checksum:
        """Raise: there are no refs."""
        raise ref_not_found(name, self.description)

    def fetch_metadata(
        self,
        request: Callable[[], tuple[Checksum, ObjectKind] | None],
        deliver: Callable[[Checksum, ObjectKind, bytes], None],
    ) -> None:
        """Raise for the first object that is requested."""
        del deliver
        wanted = request()
        if wanted is not None:
            self._fail(*wanted)

    def fetch_files(
        self, checksums: Iterable[Checksum], make_sink: Callable[[Checksum], ContentSink[T]]
    ) -> Iterator[T]:
        """Raise for the first object that is requested."""
        from cfsctl.ostree.objects import ObjectKind  # only when something is missing

        del make_sink
        for checksum in checksums:
            self._fail(checksum, ObjectKind.FILE)
        return iter(())

    def list_ref_names(self) -> list[str]:
        """Return nothing; see `Source.list_ref_names`."""
        return []

    def explain_missing(self, commit: Checksum) -> str | None:
        """Name the objects that the delta leaves out; see `Source.explain_missing`."""
        del commit
        return self._hint

    def find_detached(self, commit: Checksum) -> bytes | None:
        """Return what the delta has of the commit's detached metadata."""
        del commit
        return self._detached

    def _fail(self, checksum: Checksum, kind: ObjectKind) -> NoReturn:
        raise SourceObjectMissingError(checksum, kind, self.description, hint=self._hint)

    def close(self) -> None:
        """Do nothing."""


def read_superblock(store: DeltaFile) -> Superblock:
    """Return what a delta says of itself; its inline parts are not in reach any more.

    Raises:
        DeltaError: It is not a delta.
        IntegrityError: The commit in it is another one than it says.
    """
    held = store.open_superblock()
    try:
        return parse_superblock(held.view())
    except DeltaError as error:
        raise error.about(f"delta {store.description}") from error
    finally:
        held.close()


def verify_delta(store: DeltaFile, trust: TrustPolicy) -> list[ValidSignature]:
    """Return the signatures of a signed delta by which it is trusted.

    Raises:
        SignatureError: It is not signed by a key that counts, or too large to be verified.
        DeltaError: Its wrapper is broken.
    """
    from cfsctl.ostree.trust.policy import verify  # only where keys are given
    from cfsctl.ostree.trust.verdict import SignatureError

    what = f"delta {store.description}"
    held = store.open_superblock()
    try:
        signed = unwrap(held.view())
        if signed is None:
            raise SignatureError(f"{what}: expected a signed delta, found one without signatures")
        if signed.superblock.size > MAX_SUPERBLOCK_BYTES:
            raise SignatureError(f"{what}: expected at most {MAX_SUPERBLOCK_BYTES} bytes, found more")
        data = signed.superblock.read(0, signed.superblock.size)
        return verify(what, data, signed.signatures, trust, trust.deltas)
    finally:
        held.close()


def apply_delta(
    repository: Repository,
    path: str,
    *,
    reporter: Reporter = silent,
    workers: int | None = None,
    xattr_names: XattrNames = XattrNames.STRIPPED,
    trust: TrustPolicy | None = None,
) -> PullResult:
    """Store the commit that a delta leads to; no tag is set.

    Args:
        repository: Where it goes; it has the commit that the delta starts from.
        path: The delta: a file, or the directory of one.
        reporter: Told about progress, and about what was found damaged.
        workers: Number of processes; 0 works in this one, None uses all processors.
        xattr_names: How names of extended attributes go into the image.
        trust: What the commit has to prove, and the delta itself.

    Raises:
        DeltaError: It is not a valid delta, or the commit it starts from is not here.
        FormatError, IntegrityError: Something it makes is not valid, or is missing.
        OSError: Something could not be stored.
    """
    store = DeltaFile(path)
    try:
        if trust is not None and trust.deltas:
            verify_delta(store, trust)
        superblock = read_superblock(store)
        return pull(
            repository,
            DeltaOnlySource(f"delta {path}", superblock),
            superblock.to_checksum.hex(),
            PullOptions(workers=workers, xattr_names=xattr_names, deltas=store, only_delta=True, trust=trust),
            reporter=reporter,
        )
    finally:
        store.release()
