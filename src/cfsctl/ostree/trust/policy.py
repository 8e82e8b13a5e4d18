"""The trust policy: which signatures are required. No files are read here.

Rules, which are stricter than those of libostree where they differ:

1. GPG and the sign engines are two kinds of signatures. Each required kind needs one valid signature.
2. Requiring an engine without a key for it is an error, and so is a policy without any key.
3. A malformed signature does not count, but does not cause an error either.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast

from cfsctl import gvariant
from cfsctl.ostree.trust.gpg import find_valid
from cfsctl.ostree.trust.keys import Message
from cfsctl.ostree.trust.verdict import Deadline, SignatureError, ValidSignature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.gvariant import Variant
    from cfsctl.ostree.trust.keys import SignKey

MAX_SIGNATURES: Final = 64
"""Signatures of one kind that are tried."""

MAX_SIGNATURE_BYTES: Final = 64 << 10

MAX_SIGNATURE_VALUES: Final = 100_000

_HINT: Final = "compare the key with that of the publisher, or ask for something that is signed by it"

GPG_KEY: Final = "ostree.gpgsigs"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one kind of thing needs.

    Attributes:
        gpg: A GPG signature.
        engines: A signature of one of these engines; empty if none is required.
    """

    gpg: bool = False
    engines: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether anything is needed."""
        return self.gpg or bool(self.engines)

    def and_also(self, other: Requirement) -> Requirement:
        """Return what is needed if another requirement applies as well."""
        return Requirement(self.gpg or other.gpg, self.engines or other.engines)


NOTHING: Final = Requirement()


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """What a source has to prove.

    Attributes:
        commits: What commits need.
        summaries: What summaries need; a summary must be there then, and is the only source of refs.
        deltas: What the superblock of a delta needs, in a wrapper.
        keyring: OpenPGP keys that count, binary.
        keys: Other keys that count; revoked ones are not among them.
        collection_id: The collection that commits must be bound to, or None.
    """

    commits: Requirement = NOTHING
    summaries: Requirement = NOTHING
    deltas: Requirement = NOTHING
    keyring: bytes = b""
    keys: Sequence[SignKey] = field(default_factory=tuple)
    collection_id: str | None = None

    def with_demands(self, where: str, *, summaries: bool, deltas: bool) -> TrustPolicy:
        """Return the policy that demands the same signatures of more than commits.

        Args:
            where: What messages call the policy.
            summaries: Summaries must be signed as commits must.
            deltas: Static deltas must be.

        Raises:
            SignatureError: It demands no signatures that could be demanded of them.
        """
        base = self.commits or self.summaries
        if (summaries or deltas) and not base:
            what = "summaries" if summaries else "deltas"
            raise SignatureError(
                f"{where}: expected signatures to demand of {what}, found that it demands none",
                hint="name the keys with --gpg-key or --verify-key in place of the remote",
            )
        return replace(
            self,
            summaries=self.summaries.and_also(base) if summaries else self.summaries,
            deltas=self.deltas.and_also(base) if deltas else self.deltas,
        )

    def check_keys(self, where: str) -> None:
        """Check that there is a key for everything that is requested.

        Raises:
            SignatureError: There are no keys, so everything would be refused.
        """
        for requirement in (self.commits, self.summaries, self.deltas):
            if requirement.gpg and not self.keyring:
                raise SignatureError(
                    f"{where}: expected OpenPGP keys to verify with, found none",
                    hint="name a keyring, or set gpg-verify=false in the remote's configuration",
                )
            if requirement.engines and not any(key.engine in requirement.engines for key in self.keys):
                raise SignatureError(
                    f"{where}: expected {' or '.join(requirement.engines)} keys to verify with, found none"
                )


def verify(
    what: str,
    data: bytes,
    signatures: bytes | None,
    policy: TrustPolicy,
    requirement: Requirement,
    deadline: Deadline | None = None,
) -> list[ValidSignature]:
    """Return the signatures by which some bytes are trusted.

    Args:
        what: Name of the thing, for messages.
        data: The bytes.
        signatures: Detached metadata, ``a{sv}``, or None if none exists.
        policy: The keys.
        requirement: What is needed.
        deadline: The deadline; None starts a new one.

    Raises:
        SignatureError: Something is missing; the message says what was wrong with each signature.
    """
    found = _parse(what, signatures)
    deadline = deadline or Deadline()
    verified = []
    if requirement.gpg:
        verified.append(_verify_gpg(what, data, found.get(GPG_KEY, ()), policy, deadline))
    if requirement.engines:
        verified.append(_verify_sign(what, data, found, policy, requirement.engines, deadline))
    return verified


def _parse(what: str, data: bytes | None) -> dict[str, list[bytes]]:
    """Return the signatures by their key in detached metadata; what has another type does not count."""
    if data is None:
        return {}
    try:
        value = gvariant.decode("a{sv}", data, max_values=MAX_SIGNATURE_VALUES)
    except gvariant.GVariantError as error:
        raise SignatureError(f"{what}: expected detached signatures, found {error}") from error
    found: dict[str, list[bytes]] = {}
    for key, variant in cast("list[tuple[str, Variant]]", value):
        if variant.type == "aay":
            blobs = cast("list[bytes]", variant.value)
            found.setdefault(key, []).extend(blob for blob in blobs if len(blob) <= MAX_SIGNATURE_BYTES)
    return found


def _verify_gpg(
    what: str, data: bytes, blobs: Sequence[bytes], policy: TrustPolicy, deadline: Deadline
) -> ValidSignature:
    result = find_valid(blobs[:MAX_SIGNATURES], data, policy.keyring, deadline)
    if isinstance(result, ValidSignature):
        return result
    found = "; ".join(result) or "no signature"
    raise SignatureError(
        f"{what}: expected a valid GPG signature by a trusted key, found {found}", hint=_HINT
    )


def _verify_sign(
    what: str,
    data: bytes,
    found: dict[str, list[bytes]],
    policy: TrustPolicy,
    engines: Sequence[str],
    deadline: Deadline,
) -> ValidSignature:
    tried = 0
    message = Message(data)
    for engine in engines:
        keys = [key for key in policy.keys if key.engine == engine]
        for blob in found.get(f"ostree.sign.{engine}", [])[:MAX_SIGNATURES]:
            tried += 1
            for key in keys:
                if not deadline.is_over and key.check(blob, message):
                    return ValidSignature(engine, key.name)
    names = " or ".join(engines)
    reason = f"{tried} by other keys, or over other bytes" if tried else "no signature"
    if deadline.is_over:
        reason += f", within the {deadline.seconds:.0f} s that all of them have"
    raise SignatureError(
        f"{what}: expected a valid {names} signature by a trusted key, found {reason}", hint=_HINT
    )
