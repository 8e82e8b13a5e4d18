"""Verify a commit's signatures before anything of its tree is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.ostree.store.commitmeta import read_detached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects import Commit
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.ostree.trust.verdict import ValidSignature
    from cfsctl.repository import Repository


class CommitVerifier:
    """Verifies one commit by signatures from where it comes from, that came with it, or that are stored.

    Attributes:
        verified: The signatures by which it is trusted; empty if none are required.
        proof: The detached metadata that has them, or None.
    """

    def __init__(
        self,
        repository: Repository,
        checksum: Checksum,
        policy: TrustPolicy | None,
        find_detached: Callable[[], bytes | None],
    ) -> None:
        """Prepare; nothing is verified yet.

        Args:
            repository: Where the commit may be stored, and where the record of its signatures goes.
            checksum: Its name.
            policy: What it has to prove, or None for nothing.
            find_detached: Returns its detached metadata from where it comes from, or None.
        """
        self.verified: tuple[ValidSignature, ...] = ()
        self.proof: bytes | None = None
        self._repository = repository
        self._checksum = checksum
        self._policy = policy
        self._ask = find_detached
        self._is_detached_known = False
        self._detached: bytes | None = None

    def find_detached(self) -> bytes | None:
        """Return the detached metadata from where the commit comes from, which is asked for once."""
        if not self._is_detached_known:
            self._detached = self._ask()
            self._is_detached_known = True
        return self._detached

    def verify(
        self, commit: Commit, data: bytes, stored: CommitStream | None = None, embedded: bytes | None = None
    ) -> None:
        """Verify the commit.

        Args:
            commit: The commit.
            data: Its bytes, which the signatures are over.
            stored: The same as it is stored here, or None.
            embedded: Detached metadata that came with it, or None.

        Raises:
            SignatureError: No signature counts; of several places the first one's error.
            BindingError: It is of another collection.
        """
        if self._policy is None:
            return
        if self._policy.collection_id is not None:
            from cfsctl.ostree.store.binding import check_collection  # few pulls demand it

            check_collection(self._checksum, commit, self._policy.collection_id)
        if self._policy.commits:
            places = [self.find_detached, lambda: embedded]
            if stored is not None:
                places.append(lambda: read_detached(self._repository, stored))
            self._verify_one_of(data, places, self._policy)

    def _verify_one_of(
        self, data: bytes, places: Iterable[Callable[[], bytes | None]], policy: TrustPolicy
    ) -> None:
        """Try places of detached metadata until the signatures in one are good."""
        from cfsctl.ostree.trust.policy import verify  # many pulls verify nothing
        from cfsctl.ostree.trust.verdict import Deadline, SignatureError

        what = f"commit {self._checksum.hex()}"
        failure: SignatureError | None = None
        deadline = Deadline()  # for all places together: a hostile source names many keys
        for get in places:
            detached = get()
            try:
                self.verified = tuple(verify(what, data, detached, policy, policy.commits, deadline))
            except SignatureError as error:
                # Where there is nothing, the error of a place that has signatures says more.
                failure = failure if failure is not None and detached is None else error
                continue
            self.proof = detached
            return
        assert failure is not None  # there is at least one place
        raise failure

    def store_record(self) -> ObjectID | None:
        """Store which signatures were found good, if any were looked at."""
        if not self.verified:
            return None
        from cfsctl.ostree.trust.verification_record import store_record  # see `verify`

        return store_record(self._repository, self.verified)


def verify_stored(
    repository: Repository, stream: CommitStream, policy: TrustPolicy
) -> tuple[ValidSignature, ...]:
    """Return the signatures by which a stored commit is trusted.

    Raises:
        SignatureError: No signature counts.
        BindingError: It is of another collection.
        CfsError: What is stored is damaged.
    """
    verifier = CommitVerifier(repository, stream.checksum, policy, lambda: read_detached(repository, stream))
    verifier.verify(stream.commit, stream.commit_data)
    return verifier.verified
