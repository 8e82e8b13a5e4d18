"""Build a policy from keys given by the user instead of a remote's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cfsctl.errors import CfsError, ExitCode
from cfsctl.ostree.trust.keys import ENGINES, parse_key
from cfsctl.ostree.trust.policy import NOTHING, Requirement, TrustPolicy
from cfsctl.ostree.trust.remotes import load_keyrings, read_sign_keys, without_revoked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.ostree.trust.keys import SignKey


class KeySpellingError(CfsError, ValueError):
    """A key that is not spelt as `trust_keys` wants it."""

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


def trust_keys(
    *,
    gpg_keyrings: Sequence[str] = (),
    sign_keys: Sequence[str] = (),
    collection_id: str | None = None,
    summaries: bool = False,
    deltas: bool = False,
    where: str = "keys",
) -> TrustPolicy:
    """Return the policy that commits have to be signed by one of these keys.

    Args:
        gpg_keyrings: Files with OpenPGP keys, binary or armoured; if there is any, a GPG signature is needed.
        sign_keys: ``ed25519`` or ``spki``, then ``=inline:KEY`` or ``=file:PATH``; if there is any, a
            signature by one of them is needed.
        collection_id: The collection that commits must be bound to, or None.
        summaries: Summaries must be signed as commits must.
        deltas: Static deltas must be.
        where: What messages say in front of a fault in these arguments.

    Raises:
        KeySpellingError: An item of `sign_keys` has another form.
        PolicyError: A key cannot be used, or a required kind of key is missing.
        OSError: A file cannot be read.
    """
    keys = [key for text in sign_keys for key in _parse_key(text, where)]
    engines = tuple(dict.fromkeys(key.engine for key in keys))
    requirement = Requirement(bool(gpg_keyrings), engines)
    policy = TrustPolicy(
        commits=requirement,
        summaries=requirement if summaries else NOTHING,
        deltas=requirement if deltas else NOTHING,
        keyring=load_keyrings(gpg_keyrings),
        keys=without_revoked(keys),
        collection_id=collection_id,
    )
    policy.check_keys(where)
    return policy


def _parse_key(text: str, where: str) -> list[SignKey]:
    """Return the keys that ``TYPE=inline:KEY`` or ``TYPE=file:PATH`` names."""
    engine, _, rest = text.partition("=")
    kind, _, value = rest.partition(":")
    if engine not in ENGINES or kind not in {"inline", "file"} or not value:
        raise KeySpellingError(
            f"{where}: expected {' or '.join(ENGINES)}, then =inline:KEY or =file:PATH, found '{text}'"
        )
    return [parse_key(engine, value, where)] if kind == "inline" else read_sign_keys(engine, value)
