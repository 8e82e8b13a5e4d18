"""Remotes from files, as libostree reads them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cfsctl.errors import CfsError
from cfsctl.ostree.trust import remotes
from cfsctl.ostree.trust.keys import SignKey
from cfsctl.ostree.trust.openpgp import Packet, format_packet
from cfsctl.ostree.trust.policy import Requirement
from cfsctl.ostree.trust.remotes import Remote, load_remote

if TYPE_CHECKING:
    from pathlib import Path

RING = format_packet(Packet(6, b"\4one"))
OTHER = format_packet(Packet(6, b"\4two"))
KEY = SignKey(
    "ed25519", Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
)
TEXT = base64.b64encode(KEY.data).decode()


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directories of the system, empty."""
    path = tmp_path / "system"
    (path / "gpg").mkdir(parents=True)
    monkeypatch.setattr(remotes, "SYSTEM_KEYRINGS", str(path / "gpg"))
    monkeypatch.setattr(remotes, "SYSTEM_KEY_DIRECTORIES", (str(path),))
    return path


def load(tmp_path: Path, *options: str, keyring: bytes | None = None) -> Remote:
    directory = tmp_path / "remotes.d"
    directory.mkdir()
    lines = [
        "# a comment",
        '[remote "other"]',
        "url=http://other/",
        '[remote "one"]',
        "url=https://here/repo",
    ]
    (directory / "some.conf").write_text("\n".join([*lines, *options, ""]))
    (directory / "some.txt").write_text('[remote "three"]\n')
    if keyring is not None:
        (directory / "one.trustedkeys.gpg").write_bytes(keyring)
    return load_remote("one", str(directory))


def test_gpg_is_on_unless_it_is_off(tmp_path: Path) -> None:
    remote = load(tmp_path, keyring=RING)
    assert remote.url == "https://here/repo"
    assert remote.policy.commits == Requirement(gpg=True)
    assert not remote.policy.summaries
    assert remote.policy.keyring == RING


def test_a_remote_without_keys_fails_closed(tmp_path: Path) -> None:
    with pytest.raises(
        CfsError, match="remote 'one': expected OpenPGP keys to verify with, found none"
    ) as caught:
        load(tmp_path)
    assert caught.value.exit_code == 14


def test_keys_of_the_system_count_where_there_are_no_others(tmp_path: Path, system: Path) -> None:
    (system / "gpg/a.gpg").write_bytes(RING)
    (system / "gpg/trustdb.gpg").write_bytes(OTHER)
    (system / "gpg/b.asc").write_bytes(OTHER)
    assert load(tmp_path).policy.keyring == RING


def test_keys_of_the_remote_are_the_only_ones(tmp_path: Path, system: Path) -> None:
    (system / "gpg/a.gpg").write_bytes(RING)
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "x").write_bytes(OTHER)
    assert load(tmp_path, f"gpgkeypath={keys};").policy.keyring == OTHER


def test_sign_engines(tmp_path: Path) -> None:
    remote = load(
        tmp_path,
        "gpg-verify=false",
        "sign-verify=ed25519",
        "sign-verify-summary=true",
        f"verification-ed25519-key={TEXT}",
        "collection-id=org.example.Os",
    )
    assert remote.policy.commits == Requirement(engines=("ed25519",))
    assert remote.policy.summaries == Requirement(engines=("ed25519",))
    assert list(remote.policy.keys) == [KEY]
    assert remote.policy.collection_id == "org.example.Os"


def test_revoked_keys_never_count(tmp_path: Path, system: Path) -> None:
    (system / "revoked.ed25519").write_text(TEXT + "\n")
    with pytest.raises(CfsError, match="expected ed25519 keys to verify with, found none"):
        load(tmp_path, "gpg-verify=false", "sign-verify=ed25519", f"verification-ed25519-key={TEXT}")


def test_a_key_is_revoked_in_either_form(tmp_path: Path, system: Path) -> None:
    wrapped = base64.encodebytes(bytes.fromhex("302a300506032b6570032100") + KEY.data).decode()
    (system / "revoked.spki").write_text(f"-----BEGIN PUBLIC KEY-----\n{wrapped}-----END PUBLIC KEY-----\n")
    with pytest.raises(CfsError, match="expected ed25519 keys to verify with, found none"):
        load(tmp_path, "gpg-verify=false", "sign-verify=ed25519", f"verification-ed25519-key={TEXT}")


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_a_value_of_one_remote_says_nothing_of_another(tmp_path: Path, separator: str) -> None:
    title = f'nice{separator}[remote "one"]{separator}gpg-verify=false'
    remote = load(tmp_path, '[remote "evil"]', f"xa.title={title}", keyring=RING)
    assert remote.policy.commits == Requirement(gpg=True)


def test_trusted_keys_of_the_system(tmp_path: Path, system: Path) -> None:
    (system / "trusted.ed25519.d").mkdir()
    (system / "trusted.ed25519.d/one").write_text(TEXT + "\n")
    remote = load(tmp_path, "gpg-verify=0", "sign-verify=true")
    assert list(remote.policy.keys) == [KEY]
    assert remote.policy.commits == Requirement(engines=("ed25519",))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("gpg-verify=maybe",), "gpg-verify: expected true or false, found 'maybe'"),
        (("gpg-verify=false", "sign-verify=dummy"), "expected ed25519 or spki, found 'dummy'"),
        (("gpg-verify=false", "sign-verify=true"), "expected ed25519 or spki keys"),
        (("gpg-verify=false", "sign-verify=spki", f"verification-ed25519-key={TEXT}"), "expected spki keys"),
        (("gpgkeypath=/nonexistent/key",), "/nonexistent/key: "),
        (("gpg-verify=false", "verification-ed25519-key=AAAA"), "expected an ed25519 key of 32 bytes"),
        (("unconfigured-state=register first",), "is not configured: register first"),
        (("custom-backend=x",), "needs another program"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, options: tuple[str, ...], text: str) -> None:
    with pytest.raises(CfsError, match=text) as caught:
        load(tmp_path, *options)
    assert caught.value.exit_code == 14


def test_a_name_that_nobody_has(tmp_path: Path) -> None:
    with pytest.raises(CfsError, match="remote 'three' is not configured in ") as caught:
        load_remote("three", str(tmp_path))
    assert caught.value.exit_code == 17
