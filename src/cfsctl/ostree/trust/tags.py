"""What a tag was set under stays demanded of the next commit that it is to name.

The commit that a tag names has the record of the signatures by which this repository let it in. A pull that
verifies nothing must not move such a tag. One that verifies with other keys may, if the user has named the
ref; in a mirror the server names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.errors import CfsError
from cfsctl.ostree.trust.gate import read_record
from cfsctl.ostree.trust.openpgp import list_fingerprints
from cfsctl.ostree.trust.verdict import SignatureError, ValidSignature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.repository import Repository

_HINT = "pull it with the keys that count; --allow-unverified lets the tag be moved without"


def check_tag(
    repository: Repository,
    tag: str,
    named: CommitStream,
    verified: Sequence[ValidSignature],
    policy: TrustPolicy | None,
    *,
    is_mirror: bool,
) -> None:
    """Check that a tag may name another commit.

    Args:
        repository: Where it is.
        tag: The tag.
        named: The commit that it names.
        verified: The signatures by which the other one was let in.
        policy: What was demanded of it.
        is_mirror: The server has named the ref, and not the user.

    Raises:
        SignatureError: The named one was verified, and the other one was not, or not by anything like it.
    """
    if named.record is None or (verified and not is_mirror):
        return
    try:
        before = read_record(repository, named)
    except CfsError:
        before = []  # there were signatures, whichever they were
    if verified and policy is not None and {(one.engine, one.key) for one in before} & _find_keys(policy):
        return
    keys = " and ".join(one.describe() for one in before) or "keys that cannot be read any more"
    found = "one that is signed by unrelated keys" if verified else "one that was not verified"
    raise SignatureError(
        f"tag '{tag}': expected a commit that is verified, as {named.checksum.hex()} was by {keys}, "
        f"found {found}",
        hint=_HINT,
    )


def _find_keys(policy: TrustPolicy) -> set[tuple[str, str]]:
    """Return the keys that count, as records have them."""
    found = {(key.engine, key.name) for key in policy.keys}
    return found | {("gpg", fingerprint) for fingerprint in list_fingerprints(policy.keyring)}
