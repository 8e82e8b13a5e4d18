"""Requirements of tags: what was required when a tag was set is also required of its next commit.

Each kind of requirement is stored separately: signatures of commits, of summaries, and a collection. A pull
that requires less must not move the tag. A pull with other keys or another collection may, if the user has
named the ref; with --mirror, the refs are chosen by the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError
from cfsctl.ostree.store.binding import BindingError, check_collection
from cfsctl.ostree.store.partial_tags import find_part_tag
from cfsctl.ostree.store.refs import find_tag, open_commit
from cfsctl.ostree.store.tag_demands import (
    NO_DEMAND,
    TagDemand,
    drop_demand,
    read_demand,
    save_demand,
)
from cfsctl.ostree.trust.verdict import SignatureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Commit
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.ostree.trust.verdict import ValidSignature
    from cfsctl.repository import Repository

    Key = tuple[str, str]

_HINT: Final = "{}; --allow-unverified lets the tag be moved without"
_KEYS_HINT: Final = _HINT.format("pull it with the keys that count")
_SUMMARY_HINT: Final = _HINT.format("demand it with --verify-summary, or a remote's configuration")
_COLLECTION_HINT: Final = _HINT.format("name it with --collection-id, or a remote's configuration")


class TagMove:
    """A tag that is about to name a commit, and what was and is demanded of that."""

    def __init__(
        self,
        repository: Repository,
        tag: str,
        policy: TrustPolicy | None,
        *,
        is_mirror: bool = False,
        allow_unverified: bool = False,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            repository: Where the tag is.
            tag: The tag.
            policy: What is demanded now.
            is_mirror: The server has named the ref, and not the user.
            allow_unverified: Nothing of what was demanded before counts.
        """
        self._repository = repository
        self._tag = tag
        self._policy = policy
        self._is_mirror = is_mirror
        self._is_free = allow_unverified
        self._kept: TagDemand | None = None
        self._before = self._after = NO_DEMAND
        self._has_record = False

    def look(self, named: Checksum | None, stream: CommitStream | None) -> None:
        """Find out what the tag was set under.

        Args:
            named: The commit that it names, or None if there is no such tag.
            stream: The same as it is stored, or None if it cannot be read.

        Raises:
            SignatureError: It cannot be told.
        """
        if named is None:
            return
        try:
            self._kept = read_demand(self._repository, self._tag)
        except CfsError as error:
            if not self._is_free:
                what = f"tag '{self._tag}': expected to find what was demanded of it, found {error}"
                raise SignatureError(what, hint="--allow-unverified replaces it") from error
        self._before = self._kept or _read_demand_of(self._repository, stream)

    def check(self, named: Checksum, commit: Checksum | None) -> None:
        """Check that the tag may go from the commit that it names to another one.

        Raises:
            SignatureError: Less is demanded of it than the tag was set under.
            BindingError: The same of the collection.
        """
        if self._is_free or named == commit:
            return
        policy, before = self._policy, self._before
        where = f"tag '{self._tag}', which names {named.hex()}"
        if before.commits is not None:
            self._check_keys(
                where, "commit", before.commits, _KEYS_HINT, is_demanded=bool(policy and policy.commits)
            )
        if before.summaries is not None:
            self._check_keys(
                where,
                "summary",
                before.summaries,
                _SUMMARY_HINT,
                is_demanded=bool(policy and policy.summaries),
            )
        if before.collection_id is not None:
            self._check_collection(where, before.collection_id)

    def _check_keys(
        self, where: str, what: str, before: frozenset[Key], hint: str, *, is_demanded: bool
    ) -> None:
        if is_demanded and not self._is_mirror:
            return
        if is_demanded and self._policy is not None and before & find_keys(self._policy):
            return
        keys = (
            " or ".join(f"{engine} key {key}" for engine, key in sorted(before)[:4]) or "keys not known here"
        )
        found = "one that is signed by unrelated keys" if is_demanded else "one that was not verified"
        raise SignatureError(
            f"{where}: expected a {what} that is verified, as when it was set, by {keys}, found {found}",
            hint=hint,
        )

    def _check_collection(self, where: str, before: str) -> None:
        now = None if self._policy is None else self._policy.collection_id
        if now is None or (self._is_mirror and now != before):
            found = "no demand of any collection" if now is None else f"collection '{now}'"
            raise BindingError(
                f"{where}: expected a commit of collection '{before}', as when it was set, found {found}",
                hint=_COLLECTION_HINT,
            )

    def check_stored(self, named: Checksum, commit: Checksum | None, content: Commit | None) -> None:
        """Check that the tag may go to a commit of which nothing is verified now, only perhaps before, here.

        Args:
            named: The commit that it names.
            commit: The other one, or None for one that is only being made.
            content: What that says, or None.

        Raises:
            SignatureError: It does not meet the demand that the tag was set under.
            BindingError: The same of the collection.
        """
        if named == commit:
            return
        before = self._before
        stream = None if commit is None else _find_stream(self._repository, commit)
        known = _read_demand_of(self._repository, stream).commits
        if before.commits is not None and known is not None and before.commits & known:
            self._before = self._before._replace(commits=None)
        if before.collection_id is not None and commit is not None and content is not None:
            try:
                check_collection(commit, content, before.collection_id)
            except BindingError as error:
                what = f"tag '{self._tag}': expected a commit of its collection, as when it was set; {error}"
                raise BindingError(what, hint=_COLLECTION_HINT) from error
            self._before = self._before._replace(collection_id=None)
        self.check(named, commit)

    def begin(self, verified: Sequence[ValidSignature], *, has_record: bool) -> None:
        """Store what is demanded now, before the tag is set: so the tag never stands there without.

        Args:
            verified: The signatures by which the commit was let in.
            has_record: Whether the commit says that it was verified, perhaps for another tag.
        """
        self._after = self._make_demand(verified)
        self._has_record = has_record
        if not self._is_free:
            self._after = self._after.or_else(self._before)
            self._save()

    def end(self) -> None:
        """Keep it after the tag was set, where it may be less than before."""
        if self._is_free:
            self._save()

    def _save(self) -> None:
        is_said = self._after != NO_DEMAND or self._has_record
        if not is_said:
            drop_demand(self._repository, self._tag)
        elif self._after != self._kept:
            save_demand(self._repository, self._tag, self._after)

    def _make_demand(self, verified: Sequence[ValidSignature]) -> TagDemand:
        policy = self._policy
        if policy is None:
            return NO_DEMAND
        return TagDemand(
            frozenset((one.engine, one.key) for one in verified) if policy.commits else None,
            find_keys(policy) if policy.summaries else None,
            policy.collection_id,
        )


def find_keys(policy: TrustPolicy) -> frozenset[Key]:
    """Return the keys that count, as records have them."""
    from cfsctl.ostree.trust.openpgp import list_fingerprints  # many pulls verify nothing

    found = {(key.engine, key.name) for key in policy.keys}
    return frozenset(found | {("gpg", fingerprint) for fingerprint in list_fingerprints(policy.keyring)})


def _read_demand_of(repository: Repository, stream: CommitStream | None) -> TagDemand:
    """Return what was demanded of a commit, as far as its record says."""
    if stream is None or stream.record is None:
        return NO_DEMAND
    from cfsctl.ostree.trust.verification_record import read_record  # many pulls verify nothing

    try:
        verified = read_record(repository, stream)
    except CfsError:
        return TagDemand(frozenset())  # there were signatures, whichever they were
    return TagDemand(frozenset((one.engine, one.key) for one in verified))


# --- tags that are set without a pull ----------------------------------------------------------------


def find_unmet(
    repository: Repository, tag: str, commit: Checksum | None, content: Commit | None
) -> SignatureError | BindingError | None:
    """Return the error by which a tag would refuse a commit that is not verified now, or None.

    Args:
        repository: Where the tag is.
        tag: The tag.
        commit: The commit; it counts as verified if it is stored and was verified when it was pulled. None
            means a new one.
        content: What that says, if there is something already.
    """
    named = find_tag(repository, tag) or find_part_tag(repository, tag)
    if named is None:
        return None
    move = TagMove(repository, tag, None)
    try:
        move.look(named, _find_stream(repository, named))
        move.check_stored(named, commit, content)
    except (SignatureError, BindingError) as error:
        return error
    return None


def _find_stream(repository: Repository, checksum: Checksum) -> CommitStream | None:
    try:
        return open_commit(repository, checksum)
    except (CfsError, OSError):
        return None
