"""The gate that a commit passes before anything of its tree is asked for, and the record of who let it in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, cast

from cfsctl.ostree.store.binding import check_collection
from cfsctl.ostree.store.commitmeta import read_detached
from cfsctl.ostree.trust.policy import TrustPolicy, verify
from cfsctl.ostree.trust.verdict import Deadline, SignatureError, ValidSignature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects import Commit
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.repository import Repository

MAX_RECORD_BYTES: Final = 1 << 20


class Gate:
    """Lets commits in that a policy trusts.

    Attributes:
        verified: The signatures by which the commit was let in.
        detached: The detached metadata that has them, or None.
    """

    def __init__(self, policy: TrustPolicy) -> None:
        """Keep the policy."""
        self._policy = policy
        self.verified: list[ValidSignature] = []
        self.detached: bytes | None = None

    def check(
        self, checksum: Checksum, commit: Commit, data: bytes, found: Iterable[Callable[[], bytes | None]]
    ) -> None:
        """Check a commit.

        Args:
            checksum: Its name, which is right.
            commit: The commit.
            data: Its bytes, which the signatures are over.
            found: Ways to get detached metadata; each is tried until signatures in it are good.

        Raises:
            SignatureError: No signature counts; of several places the first one's error.
            BindingError: It is of another collection.
        """
        if self._policy.collection_id is not None:
            check_collection(checksum, commit, self._policy.collection_id)
        if not self._policy.commits:
            return
        what = f"commit {checksum.hex()}"
        failure: SignatureError | None = None
        deadline = Deadline()
        for get in found:
            detached = get()
            try:
                self.verified = verify(what, data, detached, self._policy, self._policy.commits, deadline)
            except SignatureError as error:
                failure = failure if failure is not None and detached is None else error
                continue
            self.detached = detached
            return
        raise failure or SignatureError(f"{what}: expected signatures, found no place where they may be")


def verify_stored(repository: Repository, stream: CommitStream, policy: TrustPolicy) -> list[ValidSignature]:
    """Return the signatures by which a stored commit is trusted.

    Raises:
        SignatureError: No signature counts.
        BindingError: It is of another collection.
        CfsError: What is stored is damaged.
    """
    gate = Gate(policy)
    detached = read_detached(repository, stream)
    gate.check(stream.checksum, stream.commit, stream.commit_data, [lambda: detached])
    return gate.verified


# --- the record -----------------------------------------------------------------------------------


def store_record(repository: Repository, verified: Iterable[ValidSignature]) -> ObjectID:
    """Store which signatures were found good, as an object that the commit's stream has to name then."""
    text = json.dumps([one._asdict() for one in verified], sort_keys=True, separators=(",", ":"))
    return repository.objects.ensure_bytes(text.encode()).object_id


def read_record(repository: Repository, stream: CommitStream) -> list[ValidSignature]:
    """Return the signatures that were found good when a commit was stored; none if none were looked at.

    Raises:
        SignatureError: The record is no such list.
        IntegrityError: It is missing, or damaged.
    """
    if stream.record is None:
        return []
    what = f"record of signatures of {stream.checksum.hex()}"
    status = repository.objects.stat(stream.record)
    if status is not None and status.st_size > MAX_RECORD_BYTES:
        raise SignatureError(f"{what}: expected at most {MAX_RECORD_BYTES} bytes, found {status.st_size}")
    try:
        entries = json.loads(repository.objects.read(stream.record))
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"{what}: expected JSON, found {error}") from error
    if not isinstance(entries, list):
        raise SignatureError(f"{what}: expected a list, found another value")
    return [_parse_entry(what, entry) for entry in entries]


def _parse_entry(what: str, entry: object) -> ValidSignature:
    """Return one signature of a record.

    Raises:
        SignatureError: It is none.
    """
    if isinstance(entry, dict) and entry.keys() <= set(ValidSignature._fields):
        engine, key = entry.get("engine"), entry.get("key")
        time_s, user = entry.get("time_s"), entry.get("user")
        texts = [engine, key] if user is None else [engine, key, user]
        is_time = time_s is None or (isinstance(time_s, int) and not isinstance(time_s, bool))
        if is_time and all(isinstance(text, str) and _is_unicode(text) for text in texts):
            return ValidSignature(**cast("dict[str, str]", entry))  # type: ignore[arg-type]
    raise SignatureError(f"{what}: expected engine, key, time and user, found something else")


def _is_unicode(text: str) -> bool:
    """Return whether a text can be written in UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
