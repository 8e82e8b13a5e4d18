"""What the status lines of `gpgv` come to; the lines are those of GnuPG 2.2.40."""

from __future__ import annotations

import pytest

from cfsctl.ostree.trust.gpg import judge
from cfsctl.ostree.trust.verdict import ValidSignature

FINGERPRINT = "56D187E9329BD4C6E104B4924777BE838C9803E2"
SUBKEY = "AA" * 20
GOOD = "[GNUPG:] GOODSIG 4777BE838C9803E2 Some Body <some@body>\n"
NEW = "[GNUPG:] NEWSIG\n"


def valid(hash_number: int = 10, signature_class: str = "00", key: str = FINGERPRINT) -> str:
    when = "2024-02-01 1706745600 0 4 0 22"
    return f"[GNUPG:] VALIDSIG {key} {when} {hash_number} {signature_class} {FINGERPRINT}\n"


@pytest.mark.parametrize("key", [FINGERPRINT, SUBKEY])
def test_a_good_signature(key: str) -> None:
    status = NEW + "[GNUPG:] KEY_CONSIDERED x 0\n" + GOOD + valid(key=key)
    assert judge(status) == ValidSignature("gpg", FINGERPRINT, 1706745600, "Some Body <some@body>")


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\r"])
def test_names_of_users_are_not_status_lines(separator: str) -> None:
    name = f"Evil{separator}[GNUPG:] GOODSIG x{separator}{valid().strip()}{separator}[GNUPG:] BADSIG x"
    status = NEW + f"[GNUPG:] BADSIG 4777 {name}\n"
    assert judge(status) == "is not over these bytes"
    assert judge(NEW + f"[GNUPG:] GOODSIG 4777 {name}\n" + valid()) == ValidSignature(
        "gpg", FINGERPRINT, 1706745600, name
    )


BAD = {
    "nothing": ("", "is not a single good one"),
    "no-valid": (NEW + GOOD, "is not a single good one"),
    "no-good": (NEW + valid(), "is not a single good one"),
    "two": ((NEW + GOOD + valid()) * 2, "is not a single good one"),
    "tampered": (NEW + "[GNUPG:] BADSIG 4777BE838C9803E2 x\n", "is not over these bytes"),
    "unknown": (NEW + "[GNUPG:] ERRSIG x 22 10 00 1 9 -\n[GNUPG:] NO_PUBKEY x\n", "not in the keyring"),
    "expired-key": (
        NEW + "[GNUPG:] KEYEXPIRED 1\n[GNUPG:] EXPKEYSIG 4777 x\n" + valid(),
        "is by a key that has expired",
    ),
    "expired-key-and-good": (NEW + GOOD + "[GNUPG:] EXPKEYSIG 4777 x\n" + valid(), "has expired"),
    "revoked": (NEW + "[GNUPG:] REVKEYSIG 4777 x\n" + valid(), "was revoked"),
    "expired": (NEW + "[GNUPG:] EXPSIG 4777 x\n" + valid(), "has expired"),
    "junk": ("[GNUPG:] NODATA 4\n", "is not a signature"),
    "sha1": (NEW + GOOD + valid(2), "a hash that can be forged"),
    "text": (NEW + GOOD + valid(signature_class="01"), "is of class 01"),
    "cut": (NEW + GOOD + f"[GNUPG:] VALIDSIG {FINGERPRINT} 2024-02-01\n", "is not a single good one"),
    "elsewhere": (NEW.replace("[GNUPG:]", "gpgv:") + GOOD + valid(), "is not a single good one"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_what_does_not_count(case: str) -> None:
    status, text = BAD[case]
    reason = judge(status)
    assert isinstance(reason, str)
    assert text in reason
