"""OpenPGP signatures as `gpgv` judges them, and keyrings from files.

`gpgv` prints status lines for each step. Neither its exit code nor a single line is sufficient to accept a
signature: it exits with 0 for a revoked key, and with 2 if one of several signatures is by an unknown key,
and it stops at the first bad signature. So each signature is verified by a separate call, in an otherwise
empty directory, and is valid only if all status lines together say so.

Each call hashes all signed data, and an attacker can add many signatures. So `gpgv` only gets signature
packets that name a key in the keyring, up to a small number, with one common deadline.

There is no web of trust: all keys in the keyring are trusted.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import TYPE_CHECKING, Final

from cfsctl.ostree.trust.openpgp import Keyring, OpenPGPError, list_key_ids, split_signatures
from cfsctl.ostree.trust.verdict import SignatureError, UnusableKeyError, ValidSignature

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from cfsctl.ostree.trust.verdict import Deadline

MAX_KEYRING_BYTES: Final = 64 << 20
"""Bytes of all keyrings together."""

MAX_TRIED: Final = 8
"""Signatures that `gpgv` looks at."""

_BAD: Final = {
    "BADSIG": "is not over these bytes",
    "ERRSIG": "is by a key that is not in the keyring, or cannot be read",
    "EXPSIG": "has expired",
    "EXPKEYSIG": "is by a key that has expired",
    "REVKEYSIG": "is by a key that was revoked",
    "NODATA": "is not a signature",
}
"""Words of the status by which a signature does not count, and what they mean."""

_WEAK_HASHES: Final = frozenset({"1", "2", "3"})
"""Numbers of MD5, SHA-1 and RIPEMD-160."""

_BINARY_CLASS: Final = "00"


def merge_keyrings(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the keys of several files as one binary keyring, each key once.

    Args:
        files: What messages call each, and its content, binary or armoured.

    Raises:
        UnusableKeyError: One has no keys, or is damaged.
    """
    keyring = Keyring()
    for where, data in files:
        try:
            keyring.add(data)
        except OpenPGPError as error:
            raise UnusableKeyError(
                f"{where}: {error}", hint="create it with `gpg --export`, with or without --armor"
            ) from error
    return keyring.to_bytes()


def find_valid(
    blobs: Sequence[bytes], data: bytes, keyring: bytes, deadline: Deadline
) -> ValidSignature | list[str]:
    """Return what is known of the first signature that counts, or why none does.

    Args:
        blobs: Signatures, each blob of one packet or several.
        data: What they are over.
        keyring: The keys that count, binary.
        deadline: The deadline for it.

    Raises:
        SignatureError: `gpgv` cannot be run.
    """
    reasons = _Reasons()
    candidates = []
    for number, found in _iter_candidates(blobs, list_key_ids(keyring)):
        if isinstance(found, bytes):
            candidates.append((number, found))
        else:
            reasons.add(number, found)
    if candidates:
        with _Verifier(data, keyring) as verifier:
            for number, signature in candidates[:MAX_TRIED]:
                result = verifier.check(signature, deadline)
                if isinstance(result, ValidSignature):
                    return result
                reasons.add(number, result)
                if deadline.is_over:
                    break
    for number, _ in candidates[MAX_TRIED:]:
        reasons.add(number, f"comes after the {MAX_TRIED} that are tried")
    return reasons.describe()


class _Reasons:
    """Why signatures do not count: each reason with the first of them, and how many it is true of."""

    def __init__(self) -> None:
        self._found: dict[str, list[int]] = {}

    def add(self, number: int, reason: str) -> None:
        first, count = self._found.get(reason, (number, 0))
        self._found[reason] = [first, count + 1]

    def describe(self) -> list[str]:
        return [
            f"signature {first} {reason}" + (f", and {count - 1} more like it" if count > 1 else "")
            for reason, (first, count) in self._found.items()
        ]


def _iter_candidates(blobs: Sequence[bytes], key_ids: frozenset[bytes]) -> Iterator[tuple[int, bytes | str]]:
    """Yield signature packets that name a key of the keyring, and for all others why they do not count.

    Each comes with the number of its blob, from 1.
    """
    for number, blob in enumerate(blobs, 1):
        try:
            signatures = split_signatures(blob)
        except OpenPGPError:
            signatures = []
        if not signatures:
            yield number, _BAD["NODATA"]
        for signature in signatures:
            # Wherever the ID stands in the packet: without it, `gpgv` could not find the key either.
            is_known = any(key_id in signature for key_id in key_ids)
            yield number, signature if is_known else _BAD["ERRSIG"]


class _Verifier:
    """Runs `gpgv` over the same bytes, with the same keyring."""

    def __init__(self, data: bytes, keyring: bytes) -> None:
        self._data = data
        self._directory = tempfile.TemporaryDirectory(prefix="cfsctl-gpg-")
        self._keyring = self._write("keyring.gpg", keyring)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.cleanup()

    def _write(self, name: str, content: bytes) -> str:
        path = os.path.join(self._directory.name, name)
        with open(path, "wb") as stream:
            stream.write(content)
        return path

    def check(self, signature: bytes, deadline: Deadline) -> ValidSignature | str:
        """Return what is known of a signature that counts, or why it does not."""
        home = self._directory.name
        command = ["gpgv", "--homedir", home, "--status-fd", "1", "--keyring", self._keyring]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": home}
        try:
            done = subprocess.run(
                [*command, self._write("signature", signature), "-"],
                env=environment,
                input=self._data,
                capture_output=True,
                check=False,
                timeout=deadline.left_s,
            )
        except FileNotFoundError as error:
            raise SignatureError(
                "OpenPGP signatures cannot be verified: the program gpgv is missing",
                hint="install the package gpgv or gnupg",
            ) from error
        except subprocess.TimeoutExpired:
            return f"could not be verified within the {deadline.seconds:.0f} s that all of them have"
        return judge(done.stdout.decode("utf-8", "replace"))


def judge(status: str) -> ValidSignature | str:
    """Return what the status lines of `gpgv` for one signature come to."""
    # Names of users are part of these lines, with all characters but those of ASCII that end a line.
    lines = [line.split(" ") for line in status.split("\n") if line.startswith("[GNUPG:] ")]
    words = [fields[1] for fields in lines if len(fields) > 1]
    for word, reason in _BAD.items():
        if word in words:
            return reason
    good = [fields for fields in lines if fields[1:2] == ["GOODSIG"]]
    valid = [fields for fields in lines if fields[1:2] == ["VALIDSIG"]]
    if len(good) != 1 or len(valid) != 1 or words.count("NEWSIG") != 1 or len(valid[0]) < 12:
        return "is not a single good one"
    fingerprint, time, hash_number, signature_class = (valid[0][place] for place in (11, 4, 9, 10))
    if hash_number in _WEAK_HASHES:
        return "uses a hash that can be forged"
    if signature_class != _BINARY_CLASS:
        return f"is of class {signature_class} and not over bytes"
    return ValidSignature(
        "gpg", fingerprint.upper(), int(time) if time.isdigit() else None, " ".join(good[0][3:])
    )
