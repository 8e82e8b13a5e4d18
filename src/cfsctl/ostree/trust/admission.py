"""What a commit has to show before anything of its tree is asked for, and what is kept of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.ostree.store.commitmeta import read_detached

if TYPE_CHECKING:
    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects import Commit
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.ostree.trust.verdict import ValidSignature
    from cfsctl.repository import Repository


class Admission:
    """Admits one commit, with the signatures that are where it comes from, or stored here.

    Attributes:
        verified: The signatures by which it was admitted; none if none are demanded.
        proof: The detached metadata that has them, or None.
    """

    def __init__(
        self, repository: Repository, source: ObjectSource, checksum: Checksum, policy: TrustPolicy | None
    ) -> None:
        """Look at nothing yet.

        Args:
            repository: Where the commit may be stored, and a record of its signatures goes.
            source: Where it comes from.
            checksum: Its name.
            policy: What it has to prove, or None for nothing.
        """
        self.verified: tuple[ValidSignature, ...] = ()
        self.proof: bytes | None = None
        self._repository = repository
        self._source = source
        self._checksum = checksum
        self._policy = policy
        self._is_detached_known = False
        self._detached: bytes | None = None

    def check(self, commit: Commit, data: bytes, stored: CommitStream | None, embedded: bytes | None) -> None:
        """Admit the commit.

        Args:
            commit: The commit.
            data: Its bytes, which the signatures are over.
            stored: The same as it is stored here, or None.
            embedded: Detached metadata that came with it, or None.

        Raises:
            SignatureError: No signature counts.
            BindingError: It is of another collection.
        """
        if self._policy is None:
            return
        from cfsctl.ostree.trust.gate import Gate  # noqa: PLC0415 - many pulls verify nothing

        gate = Gate(self._policy)
        found = [self.find_detached, lambda: embedded]
        if stored is not None:
            found.append(lambda: read_detached(self._repository, stored))
        gate.check(self._checksum, commit, data, found)
        self.verified, self.proof = tuple(gate.verified), gate.detached

    def find_detached(self) -> bytes | None:
        """Return the detached metadata as the source has it, which is asked for once."""
        if not self._is_detached_known:
            self._detached = self._source.find_detached(self._checksum)
            self._is_detached_known = True
        return self._detached

    def store_record(self) -> ObjectID | None:
        """Store which signatures were found good, if any were looked at."""
        if not self.verified:
            return None
        from cfsctl.ostree.trust.gate import store_record  # noqa: PLC0415 - see `check`

        return store_record(self._repository, self.verified)
