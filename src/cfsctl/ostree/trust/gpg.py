"""OpenPGP: keyrings from files, and signatures as `gpgv` judges them.

`gpgv` says by a line of status for each step what it found. Neither its exit code nor one line alone tells
that a signature counts: it exits with 0 for a key that was revoked, and with 2 when another signature beside
a good one is by a key it does not have. So each signature gets a call of its own, in a directory of its own
with nothing else in it, and counts only if all lines together say so.

There is no web of trust: to be in the keyring is to be trusted.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
import tempfile
from typing import Final

from cfsctl.ostree.trust.verdict import SignatureError, UnusableKeyError, Verified

MAX_KEYRING_BYTES: Final = 64 << 20
"""Bytes of all keyrings together."""

TIMEOUT_S: Final = 60.0

_ARMOUR: Final = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]*:[^\r\n]*\r?\n)*\r?\n"
    rb"([A-Za-z0-9+/=\s]+?)(?:=[A-Za-z0-9+/]{4}\s*)?-----END PGP PUBLIC KEY BLOCK-----"
)

_BAD: Final = {
    "BADSIG": "is not over these bytes",
    "ERRSIG": "is by a key that is not in the keyring, or cannot be read",
    "EXPSIG": "has expired",
    "EXPKEYSIG": "is by a key that has expired",
    "REVKEYSIG": "is by a key that was revoked",
    "NODATA": "is no signature",
}
"""Words of the status by which a signature does not count, and what they mean."""

_WEAK_HASHES: Final = frozenset({"1", "2", "3"})
"""Numbers of MD5, SHA-1 and RIPEMD-160."""

_BINARY_CLASS: Final = "00"


def read_keyring(data: bytes, where: str) -> bytes:
    """Return the keys of a file in binary form, whichever form they are in there.

    Raises:
        UnusableKeyError: There are none.
    """
    if b"-----BEGIN PGP" not in data:
        if not data or not data[0] & 0x80:
            raise UnusableKeyError(f"{where}: expected an OpenPGP keyring, found something else")
        return data
    blocks = []
    for match in _ARMOUR.finditer(data):
        try:
            blocks.append(base64.b64decode(b"".join(match[1].split()), validate=True))
        except (binascii.Error, ValueError) as error:
            raise UnusableKeyError(f"{where}: expected armoured keys, found {error}") from error
    if not blocks:
        raise UnusableKeyError(f"{where}: expected public keys, found none")
    return b"".join(blocks)


def check_signature(signature: bytes, data: bytes, keyring: bytes) -> Verified | str:
    """Return what is known of a detached signature that counts, or why it does not.

    Raises:
        SignatureError: `gpgv` cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="cfsctl-gpg-") as home:
        paths = []
        for name, content in (("keyring.gpg", keyring), ("signature", signature), ("data", data)):
            paths.append(os.path.join(home, name))
            with open(paths[-1], "wb") as stream:
                stream.write(content)
        keyring_path, *operands = paths
        command = ["gpgv", "--homedir", home, "--status-fd", "1", "--keyring", keyring_path, *operands]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": home}
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=TIMEOUT_S,
            )
        except FileNotFoundError as error:
            raise SignatureError(
                "OpenPGP signatures cannot be verified: the program gpgv is missing",
                hint="install the package gpgv or gnupg",
            ) from error
        except subprocess.TimeoutExpired:
            return f"could not be verified within {TIMEOUT_S:.0f} s"
    return judge(done.stdout.decode("utf-8", "replace"))


def judge(status: str) -> Verified | str:
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
    return Verified("gpg", fingerprint.upper(), int(time) if time.isdigit() else None, " ".join(good[0][3:]))
